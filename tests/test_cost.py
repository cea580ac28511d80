"""What a detector costs: counts by hand, memory by hand, and a faster copy that answers the same."""
import json
from functools import partial

import pandas as pd
import pytest
import torch

from detlib import cost, machine, runs
from detlib.anchors import BASELINE
from detlib.cli import main
from detlib.experiments import LADDER, rung
from detlib.models.detector import build, trainable_parameters

HW = (128, 256)


def network(name, **changes):
    """A fresh detector of the smoke profile whose batch norms have statistics and weights that matter."""
    torch.manual_seed(0)
    model = build(rung(name, "smoke", **changes), BASELINE, 3, torch.full((3,), 100.0), torch.full((3,), 50.0))
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (5, 3, *HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_number_format_is_measured_also_where_no_gradients_are_taken(monkeypatch):
    """On a machine of which nothing is known yet, a measurement of costs is the first to ask."""
    monkeypatch.delenv("DETLIB_PRECISION")
    monkeypatch.setattr(machine, "step_seconds", partial(machine.step_seconds, repeats=1))
    for without in (torch.no_grad(), torch.inference_mode()):
        with without:
            assert machine.precision_here(torch.device("cpu")) in machine.PRECISIONS
        (runs.home() / "outputs" / "machine.json").unlink()


def test_operations_and_parameters_by_hand():
    table = cost.by_part(cost.fresh_on_meta(rung("fpn", "report"), 8), (128, 1024)).set_index(["part", "stride"])
    cells = {4: 32 * 256, 128: 8}
    for stride, anchors in ((4, 6), (128, 4)):  # two 3x3 convolutions from 128 channels, to 9 and 4 numbers an anchor
        assert table.loc[("head", stride), "FLOP"] == 2 * 9 * 128 * 13 * anchors * cells[stride]
        assert table.loc[("head", stride), "parameters"] == (9 * 128 + 1) * 13 * anchors
    assert table.loc[("neck", 4), "FLOP"] == 2 * cells[4] * (256 * 128 + 9 * 128 * 128)  # lateral and smoothing
    assert table["parameters"].sum() == 38_652_256


@pytest.mark.parametrize(("name", "changes"), [("baseline", {}), ("resnet", {}), ("deep_heads", {}), ("fpn", {"backbone": "mobilenet"})])
def test_every_parameter_belongs_to_a_part(name, changes):
    model = network(name, **changes)
    table = cost.by_part(model, HW)
    assert table["parameters"].sum() == trainable_parameters(model) and set(table["stride"]) == set(BASELINE.strides)


def test_peak_memory_by_hand():
    there = torch.zeros(1000)

    def call():
        a = there + 1  # 4 kB
        b = torch.cat([a, a])  # 12 kB
        a.add_(1)
        c = b.view(2, -1)[0]  # shares b
        del a, b
        return c + torch.ones(1000)  # b, the ones and the sum: 16 kB

    assert cost.peak_memory(call) == 4 * (2000 + 1000 + 1000)
    assert cost.peak_memory(lambda: there.mul_(2)) == 0


def test_training_takes_more_memory_than_predicting(images):
    model = network("fpn")
    with torch.no_grad():
        one = cost.peak_memory(lambda: model(images[:1]))
        two = cost.peak_memory(lambda: model(images[:2]))
    assert 1.8 * one < two < 2.2 * one
    assert cost.peak_memory(lambda: model(images[:2])) > 1.5 * two  # what the backward pass will need is kept


@pytest.mark.parametrize(("name", "changes"), [("adam", {}), ("deep_heads", {}), ("fpn", {"backbone": "mobilenet"})])
def test_the_fast_copy_answers_the_same(name, changes, images):
    model = network(name, **changes)
    copy = cost.fast(model, "float32")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in copy.modules())
    with torch.no_grad():
        for mine, theirs in zip(copy(images), model(images), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-3 * float(theirs.abs().max()))
        for mine, theirs in zip(cost.plain_forward(model, images), model(images), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4)
    assert {p.dtype for p in cost.fast(model, "bfloat16").parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # it is a copy


def test_times_have_their_parts_and_tables_their_columns(images, monkeypatch):
    models = {"baseline": network("baseline"), "fpn": network("fpn")}
    forward = []
    monkeypatch.setattr(cost, "plain_forward", lambda model, part: forward.append(model) or model(part))
    rows = cost.time_models(models, images, 3, 2)
    assert not forward and len(cost.time_models(models, images, 1, 1, plain=True)) == 2
    assert len(forward) == 2 * (cost.WARM_UP + 1)  # plain runs the plain network, warm-up included; the other way never does
    assert rows["model"].tolist() == ["baseline", "fpn"] * 2 and (rows["whole"] - rows["forward"] - rows["boxes"]).abs().max() < 1e-12
    speeds, delays = cost.throughput(models, images, batches=(1, 4), rounds=2), cost.latency(models, images, rounds=3)
    assert (speeds["images/s"] == speeds["batch"] / speeds["seconds"]).all() and (speeds["least"] <= speeds["most"]).all()
    assert (delays["p50"] <= delays["p95"]).all() and delays.index.tolist() == list(models)
    table = cost.runtime_table(speeds, delays)
    assert table.loc["baseline", 'theirs: "Image Time"'] == "4.09" and table.loc["fpn", '"FPS"'] == "115.22"
    assert float(table.loc["fpn", "images/s"]) == pytest.approx(4 / speeds.set_index(["model", "batch"]).loc[("fpn", 4), "seconds"], abs=0.06)
    ratio = cost.speed_up({"fpn": models["fpn"]}, images, 2, rounds=2)
    assert (ratio["least"] <= ratio["ratio"]).all() and (ratio["ratio"] <= ratio["most"]).all()


def test_the_reports_image_time_is_a_throughput():
    """Its three columns are one number: batch time over 32 is 1000 over its frames a second."""
    for batch_ms, frames in cost.REPORT_TIMES.values():
        assert batch_ms / cost.REPORT_BATCH == pytest.approx(1000 / frames, rel=1e-4)


def test_resources(images):
    models = {"adam": network("adam"), "fpn": network("fpn")}
    table = cost.resources(models, images, {name: (lambda m=m: m(images)) for name, m in models.items()})
    assert table.loc["fpn", "trained parameters"] == trainable_parameters(models["fpn"])
    assert table.loc["fpn", "weights, MB"] == pytest.approx(4 * trainable_parameters(models["fpn"]) / 1e6)
    assert (table["peak of training, MB"] > table["peak of one image, MB"]).all() and isinstance(table, pd.DataFrame)


def test_the_peak_of_training_has_gradients_optimiser_and_maps(images):
    model, remembered = network("adam").train(), []

    def pass_back():
        logits, deltas = model(images)
        (logits.sum() + deltas.sum()).backward()

    def step():  # as in training: from the first step on the optimiser remembers a number of each parameter
        pass_back()
        remembered[:] = remembered or [torch.zeros_like(p) for p in model.parameters()]

    maps = cost.peak_memory(pass_back)
    model.zero_grad()
    peak = cost.resources({"adam": model}, images, {"adam": step}).loc["adam", "peak of training, MB"] * 1e6
    assert peak >= maps + 4 * trainable_parameters(model)


def test_the_command_measures_every_rung(capsys, monkeypatch):
    monkeypatch.setattr(cost, "throughput", partial(cost.throughput, batches=(1, 2), rounds=1))
    monkeypatch.setattr(cost, "latency", partial(cost.latency, rounds=2))
    assert main(["cost", "--profile", "smoke", "--measure", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [name for name, _ in LADDER]
    assert found["flip"] == found["adam"] and found["fpn"]["latency_ms"] == found["focal"]["latency_ms"] != found["deep_heads"]["latency_ms"]
    assert all(row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] and row["peak_mb"] > 0 for row in found.values())
