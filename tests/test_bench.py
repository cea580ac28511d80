"""The benchmarks: what is compared does the same work, the page says what was measured, and a wrong name is told."""
import json
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from detlib import plots
from detlib.anchors import BASELINE
from detlib.bench import equal_steps, growth, judging, loading, page, training, turns
from detlib.bench.turns import Benchmark, Measured, NotMeasured
from detlib.cli import main
from detlib.coverage import match_local
from detlib.data.folder import open_dataset
from detlib.data.loader import TrainBatches, channel_statistics
from detlib.experiments import rung
from detlib.matching import targets
from detlib.models.detector import build

NAMES = {"training_r18", "training_r50", "torchvision", "loader_first", "loader_cached", "waiting_share", "metrics_per_class", "metrics_once",
         "inference", "simulator_core", "simulator_files", "coverage_ms", "studio_ms", "workbook_minutes", "workbook_again_seconds"}


@pytest.fixture
def streets(small, monkeypatch):
    """The small data set in place of the simulated streets."""
    data = open_dataset(small)
    for module in (turns, loading, judging, training):
        monkeypatch.setattr(module, "streets", lambda: data)
    return data


def test_every_figure_has_its_place():
    assert set(page.BENCHMARKS) >= NAMES and all(name == b.name for name, b in page.BENCHMARKS.items())
    assert {name for name, b in page.BENCHMARKS.items() if b.slow} == {"map_float32", "map_torchvision", "workbook_minutes",
                                                                               "workbook_again_seconds"}
    assert "workbook_minutes" not in page.names([]) and page.names(["growth"]) == ["growth"]


def test_turns_are_taken():
    order = []
    seconds = turns.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm=1)
    assert order == ["a", "b"] * 4 and [len(values) for values in seconds.values()] == [3, 3]
    found = turns.ratio({"slow": [2.0, 6.0, 8.0], "fast": [1.0, 2.0, 2.0]}, "slow", "fast")
    assert found.rounds == [2, 3, 4] and found.value == 3


def test_the_reference_loader_asks_for_what_ours_asks_for(streets, monkeypatch):
    monkeypatch.setattr(loading, "HW", (128, 256))
    reference, split = loading._Reference(streets["train"]), streets["train"]
    _, classes, encoded = loading._stacked([reference[index] for index in range(len(split))])
    boxes, labels = zip(*(split.targets(index) for index in range(len(split))), strict=True)
    ours = targets(BASELINE.grid((128, 256)), list(boxes), list(labels), match_local(BASELINE, boxes, (128, 256)))
    assert torch.equal(classes, ours[0]) and torch.equal(torch.cat(encoded), ours[1])


def test_the_plain_step_is_the_same_step(streets):
    """In float32 the two differ by rounding alone."""
    experiment, found = rung("fpn", "smoke"), []
    for plain in (True, False):
        torch.manual_seed(0)
        model = build(experiment, BASELINE, 2, *channel_statistics(streets["train"])).train()
        engine = training._Plain(model) if plain else model
        found.append(engine(TrainBatches(streets["train"], experiment, 128)[0][0]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
    batch = TrainBatches(streets["train"], experiment, 128)[0]
    training.trainer(experiment)(batch)
    training.trainer(experiment, plain=True)(batch)


def test_side_by_side_is_as_many_steps(streets, monkeypatch):
    done = []
    monkeypatch.setattr(training, "ProcessPoolExecutor", lambda number, context: ThreadPoolExecutor(1))
    monkeypatch.setattr(training, "_steps", lambda number, threads: done.append((number, threads)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(training, "at_once", lambda profile: 4)
    training.side_by_side(1)
    assert done == 3 * [(4 * training.STEPS, 8), *4 * [(training.STEPS, 2)]]
    monkeypatch.setattr(training, "at_once", lambda profile: 1)
    with pytest.raises(NotMeasured, match="one training at a time"):
        training.side_by_side(1)


def test_torchvisions_detector_learns_from_our_batches(streets):
    """What it finds lies on each frame of val; background is its class 0, which never counts as ours."""
    torch.manual_seed(0)
    model = equal_steps.retinanet(streets)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    equal_steps.train_(model, streets, rung("bias_init", "smoke", steps=3))
    assert not torch.equal(before["head.classification_head.cls_logits.weight"], model.state_dict()["head.classification_head.cls_logits.weight"])
    model.score_thresh = 0.0
    detections = equal_steps.detect(model, streets)
    assert set(detections.frame) == {0, 1, 2} and set(detections.label) <= {0, 1, 2} and detections.boxes.max() <= 256


def test_equal_steps_are_trained_by_the_command_line(home, monkeypatch):
    """Each format in a home of its own, over the same data; what was trained is forgotten when it was measured."""
    called = []

    def train(command, env, stdout):
        called.append((command[2:], env["DETLIB_PRECISION"], env["DETLIB_RUNS"]))
        seed = int(command[command.index("--seed") + 1])
        place = Path(env["DETLIB_HOME"]) / "outputs" / "runs" / "KEY" / "laptop" / "fpn+steps=500" / f"seed{seed}"
        place.mkdir(parents=True)
        (place / "metrics.json").write_text(json.dumps({"mAP": (0.2 if env["DETLIB_PRECISION"] == "float32" else 0.1) + seed / 10}))
        (place / "config.json").write_text(json.dumps({"experiment": asdict(rung("fpn", "laptop", seed=seed, steps=500))}))
        assert (Path(env["DETLIB_HOME"]) / "data").resolve() == home / "outputs" / "bench" / "equal_steps" / "data"
        return subprocess.CompletedProcess(command, 0)
    monkeypatch.setattr(equal_steps.subprocess, "run", train)
    monkeypatch.setattr(equal_steps, "_data", lambda: SimpleNamespace(key="KEY"))
    monkeypatch.setattr(equal_steps, "difference", lambda a, b, data: SimpleNamespace(value=-0.1, low=-0.2, high=0.0))
    monkeypatch.setattr(equal_steps.machine, "precision_here", lambda device: "bfloat16")
    for _ in range(2):
        found = equal_steps.against_float32(2)
        assert found.rounds == pytest.approx([0.5, 2 / 3])
        assert "mAP 0.100, 0.200 in bfloat16, 0.200, 0.300 in float32; difference -0.100 [-0.200, +0.000]" in found.said
    assert len(called) == 8 and called[0] == (["detlib.cli", "train", "fpn", "--seed", "0", "--profile", "laptop", "--data", "simulated",
                                               "--set", "steps=500"], "bfloat16", "")
    monkeypatch.setattr(equal_steps.machine, "precision_here", lambda device: "float32")
    with pytest.raises(NotMeasured, match="nothing to compare"):
        equal_steps.against_float32(2)


def test_both_judges_agree_or_it_is_no_measurement(streets, monkeypatch):
    monkeypatch.setattr(judging, "FRAMES", 3)
    monkeypatch.setattr(judging, "DETECTIONS", 40)
    for per_class in (True, False):
        found = judging._judged_by(2, per_class)
        assert len(found.rounds) == 2 and set(found.parts) == {"pycocotools", "ours"} and "3 frames of 40" in found.said
    right = judging.evaluate
    monkeypatch.setattr(judging, "evaluate", lambda *a: {**right(*a), "mAP": 0.123})
    with pytest.raises(AssertionError, match="do not agree"):
        judging._judged_by(1, per_class=False)


def test_the_page_says_what_was_measured(home, monkeypatch, capsys):
    def missing(rounds):
        raise NotMeasured("no browser <here>")
    monkeypatch.setattr(page, "BENCHMARKS", {b.name: b for b in (
        Benchmark("quick", "a thing", "times", 2, "higher", lambda rounds: Measured([3.0, 2.5, 4.0][:rounds], {"a": [1.0]}, "on <b>")),
        Benchmark("slowly", "another", "ms", 10, "lower", lambda rounds: Measured([20.0, 21.0]), cause="it is slow"),
        Benchmark("absent", "a third", "ms", 10, "lower", missing))})
    monkeypatch.setattr(growth, "growth", lambda rounds: pd.DataFrame(
        [("work", "10 boxes", k, 0.1 * k, 5.0) for k in (1, 4, 16)], columns=list(growth.FIELDS)))
    assert main(["bench", "--quick", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries == json.loads((home / "outputs" / "bench" / "summary.json").read_text()) == [
        {"name": "quick", "value": 2.75, "unit": "times", "goal": 2, "better": "higher", "runs": [3.0, 2.5]},
        {"name": "slowly", "value": 20.5, "unit": "ms", "goal": 10, "better": "lower", "runs": [20.0, 21.0]}]
    text = (home / "outputs" / "bench" / "index.html").read_text()
    assert "on &lt;b&gt;" in text and "no browser &lt;here&gt;" in text and text.count('class="missed"') == 1 and "it is slow" in text
    assert text.count("data:image/png") == 2
    assert main(["bench", "quick"]) == 0 and "slowly" in (said := capsys.readouterr().out) and "MISSED" in said
    assert main(["bench", "quck"]) == 2 and "there are quick, slowly, absent, growth" in capsys.readouterr().err


def test_slopes_are_exponents():
    table = pd.DataFrame([("a", "", k, 0.5 * k**1.5, 100.0) for k in (1, 4, 16)] + [("b", "", k, 1 + 0.001 * k, 2.0 * k) for k in (1, 4, 16)],
                         columns=list(growth.FIELDS))
    found = growth.slopes(table)
    assert found.loc["a"].tolist() == pytest.approx([1.5, 0]) and found.loc["b", "MiB"] == pytest.approx(1) and found.loc["b", "seconds"] < 0.01
    found.loc["a", "MiB"] = -0.004
    axes = plots.growth(table, found).axes
    assert len(axes) == 4 and not any("-0.00" in axis.get_title(loc=side) for axis in axes for side in ("left", "center"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="NOT TESTED: only glibc gives back on demand")
def test_memory_that_preparing_freed_is_counted_again(monkeypatch, capsys):
    left = []

    def prepare(root, times):
        filled = [bytes([k % 256]) * 2000 for k in range(50_000)]
        left.append(filled.pop())  # at the top: what lies below it is free, and kept
        return lambda: [bytes([k % 256]) * 2000 for k in range(25_000)]
    monkeypatch.setattr(growth, "TASKS", {"work": ("50,000 texts", prepare)})
    growth._child("work", "1")
    assert json.loads(capsys.readouterr().out)[1] > 30


@pytest.mark.parametrize("task", ["loading", "evaluation", "matching"])
def test_growth_measures_its_tasks(task, tmp_path, capsys):
    growth._child(task, "1")
    seconds, memory = json.loads(capsys.readouterr().out)
    assert 0 < seconds < 60 and memory > -8  # a difference of two readings
