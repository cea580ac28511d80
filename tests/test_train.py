"""Training: it learns, resumes to the same result, stops politely, and refuses what it cannot use."""
import json
import os
import re
import signal

import pandas as pd
import pytest
import torch

from detlib import runs, train
from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.data.loader import TrainBatches, pad
from detlib.experiments import CLIP_GRADIENT, OPTIMIZERS, PROFILES, rung
from detlib.train import TrainingDiverged, clip_gradient_, fit, make_optimizer, rate, validation_steps


def weights(run):
    return run.weights()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def comparable(rows):
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def test_a_run_leaves_what_it_promises(small, home):
    data, rows = open_dataset(small), []
    run = fit(rung("adam", "smoke"), data, on_log=lambda row, _: "loss" in row and rows.append(row["step"]), progress=False)
    assert run.folder == home / "outputs" / "runs" / data.key / "smoke" / "adam" / "seed0"
    assert rows == list(range(1, 9)) and run.finished
    kept = {"config.json", "log.jsonl", "model.safetensors", "metrics.json", "detections.json", "tensorboard"}
    assert kept == {p.name for p in run.folder.iterdir()}
    log = run.log()
    losses = log["loss"].dropna()
    assert len(losses) == 8 and losses.iloc[-1] < losses.iloc[0]
    assert log["val"].notna().sum() == 2 and log["val_loss"].notna().sum() == 2
    assert run.metrics["classes_with_objects"] == 2 and run.config["versions"]["torch"]
    again = []
    assert fit(rung("adam", "smoke"), data, on_log=lambda row, _: again.append(row), progress=False).finished and not again
    model = train.load_model(run, data)
    assert same(dict(model.state_dict()), run.weights())


def test_resumed_is_the_same_as_never_stopped(small, home, monkeypatch):
    data, experiment = open_dataset(small), rung("flip", "smoke")
    whole = fit(experiment, data, progress=False)
    straight, log = whole.weights(), comparable(whole.log_rows())
    monkeypatch.setenv("DETLIB_HOME", str(home.parent / "second"))
    for steps in (1, 5, 7):
        assert not fit(experiment, data, progress=False, stop_after=steps).finished
    parts = fit(experiment, data, progress=False)
    assert parts.folder != whole.folder and same(parts.weights(), straight)
    assert comparable(parts.log_rows()) == log


def test_a_run_goes_on_with_the_threads_it_was_begun_with(small):
    data, experiment, before, used = open_dataset(small), rung("adam", "smoke"), torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        fit(experiment, data, progress=False, stop_after=4)
        torch.set_num_threads(3)
        run = fit(experiment, data, on_log=lambda *_: used.append(torch.get_num_threads()), progress=False, stop_after=6)
        assert set(used) == {2} and run.config["threads"] == 2 and torch.get_num_threads() == 3
        torch.set_num_threads(1)  # no more than there are
        fit(experiment, data, on_log=lambda *_: used.append(torch.get_num_threads()), progress=False)
        assert used[-1] == 1
    finally:
        torch.set_num_threads(before)


def test_a_kill_between_checkpoints_loses_nothing_of_the_result(small, home, monkeypatch):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    whole = fit(experiment, data, progress=False)
    monkeypatch.setenv("DETLIB_HOME", str(home.parent / "second"))

    class Killed(BaseException):
        pass

    def kill(row, run):
        if row["step"] == 7:
            raise Killed
    fit(experiment, data, progress=False, stop_after=2)
    with pytest.raises(Killed):
        fit(experiment, data, on_log=kill, progress=False)
    run = fit(experiment, data, progress=False)
    assert same(run.weights(), whole.weights()) and comparable(run.log_rows()) == comparable(whole.log_rows())


def test_the_stop_button_keeps_the_step_under_way(small, capsys):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    with pytest.raises(KeyboardInterrupt):
        fit(experiment, data, on_log=lambda row, _: row["step"] == 3 and os.kill(os.getpid(), signal.SIGINT), progress=False)
    said = capsys.readouterr().out
    assert "Stopped after step 3 of 8" in said and "go on from there" in said
    steps = []
    fit(experiment, data, on_log=lambda row, _: steps.append(row["step"]), progress=False)
    assert steps[0] == 4


def test_several_rungs_in_one_call(small, home, capsys):
    """All names are read before the first training; each run is named with what it changes."""
    words = ["--data", str(small), "--profile", "smoke", "--set", "steps=2"]
    assert main(["train", "adam", "foccal", *words]) == 2 and "no rung 'foccal'" in capsys.readouterr().err
    assert not list(home.glob("outputs/runs/*/*/*"))
    assert main(["train", "baseline", "adam", *words, "lr=0.001", "--seeds", "2"]) == 0
    assert re.findall(r"^(\S+, seed \d): mAP", capsys.readouterr().out, re.M) == [
        f"{name}+steps=2+lr=0.001, seed {seed}" for seed in (0, 1) for name in ("baseline", "adam")]
    found = {path.parent.parent.name: json.loads(path.read_text())["optimizer"]["lr"] for path in home.glob("outputs/runs/*/*/*/*/config.json")}
    assert found == {"baseline+steps=2+lr=0.001": 0.001, "adam+steps=2+lr=0.001": 0.001}
    log = pd.read_json(next(home.glob("outputs/runs/*/*/adam*/seed0/log.jsonl")), lines=True)
    assert log["lr"].max() == pytest.approx(1e-3)


def test_a_folder_with_another_configuration_is_set_aside(small, monkeypatch, capsys):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    before = fit(experiment, data, progress=False).weights()
    monkeypatch.setitem(OPTIMIZERS, "adamw", {"lr": 1e-3, "weight_decay": 5e-4})
    run = fit(experiment, data, progress=False)
    assert "another configuration" in capsys.readouterr().out and not same(run.weights(), before)
    kept = run.folder.with_name("seed0.before1")
    assert same(runs.Run(kept, experiment).weights(), before)


def test_a_loss_that_is_not_finite_stops_with_the_cause(small, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "adamw", {"lr": 1e18, "weight_decay": 0.0})
    with pytest.raises(TrainingDiverged) as error:
        fit(rung("adam", "smoke"), open_dataset(small), progress=False)
    assert "step 2" in str(error.value) and "not finite" in str(error.value) and ".png" in str(error.value) and "e+17" in str(error.value)


def test_batches_depend_on_seed_and_step_alone(small):
    split = open_dataset(small)["train"]
    one, other = TrainBatches(split, rung("flip", "smoke"), 128), TrainBatches(split, rung("flip", "smoke"), 128)
    one[0], one[1]
    assert torch.equal(one[3][0], other[3][0])
    assert not torch.equal(one[3][0], TrainBatches(split, rung("flip", "smoke", seed=1), 128)[3][0])
    seen = [index for step in range(3) for index in one.frames(step)]  # 12 places, 6 frames: two epochs
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))


def test_padding_keeps_pixels_and_order():
    images = [torch.full((3, 100, 130), 7, dtype=torch.uint8), torch.full((3, 128, 90), 9, dtype=torch.uint8)]
    batch = pad(images, 128)
    assert batch.shape == (2, 3, 128, 256) and (batch[0, :, :100, :130] == 7).all() and not batch[0, :, 100:].any() and not batch[1, :, :, 90:].any()


def test_schedules():
    report, laptop = PROFILES["report"], PROFILES["laptop"]
    assert rate(0, report) == pytest.approx(0.1) and rate(500, report) == 1 == rate(999, report)
    assert rate(laptop.warmup, laptop) == 1 and rate(laptop.steps, laptop) == pytest.approx(0)
    for sizes in PROFILES.values():
        assert len(validation_steps(sizes)) == sizes.validations and max(validation_steps(sizes)) == sizes.steps


def test_frames_without_objects_train(tmp_path):
    from conftest import coco, write_dataset
    empty = coco([(f"images/train/a_{i}.png", 256, 128) for i in range(4)], [])
    data = open_dataset(write_dataset(tmp_path, {"train": empty, "val": empty}))
    run = fit(rung("adam", "smoke"), data, progress=False)
    assert run.metrics["mAP"] is None and all(row["boxes"] == 0 for row in run.log_rows() if "loss" in row)


def test_log_and_checkpoint_survive_a_line_that_was_cut(small):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    run = fit(experiment, data, progress=False, stop_after=4)
    with open(run.folder / "log.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    run = fit(experiment, data, progress=False)
    assert [row["step"] for row in run.log_rows() if "loss" in row] == list(range(1, 9))
    assert json.loads((run.folder / "metrics.json").read_text())["steps"] == 8


def test_a_stop_during_validation_loses_no_step(small, home, monkeypatch):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    whole = fit(experiment, data, progress=False)
    monkeypatch.setenv("DETLIB_HOME", str(home.parent / "second"))
    real = train.validate

    def interrupted(step, *rest):
        os.kill(os.getpid(), signal.SIGINT)
        return real(step, *rest)
    monkeypatch.setattr(train, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(experiment, data, progress=False)
    monkeypatch.setattr(train, "validate", real)
    rows = []
    run = fit(experiment, data, on_log=lambda row, _: rows.append((row["step"], "val" in row)), progress=False)
    assert rows[:2] == [(4, True), (5, False)], "validation anew, then the next step"
    assert same(run.weights(), whole.weights()) and comparable(run.log_rows()) == comparable(whole.log_rows())


def test_precision_is_noted_and_kept(small, monkeypatch):
    data, experiment = open_dataset(small), rung("adam", "smoke")
    assert fit(experiment, data, progress=False, stop_after=2).config["precision"] == "float32"
    monkeypatch.setenv("DETLIB_PRECISION", "bfloat16")
    assert fit(experiment, data, progress=False).config["precision"] == "float32"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clipping_is_pytorchs(scale):
    mine, theirs = torch.nn.Linear(40, 30), torch.nn.Linear(40, 30)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        p.grad = scale * torch.randn_like(p)
        q.grad = p.grad.clone()
    assert torch.equal(clip_gradient_(mine), torch.nn.utils.clip_grad_norm_(theirs.parameters(), CLIP_GRADIENT))
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(mine.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_take_the_steps_of_torchs_own(name):
    """And pass over weights as they lie in memory, in channels_last, too."""
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    models = []
    for mine in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 2))
        model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, rung("adam", "smoke", optimizer=name)) if mine else kind(model.parameters(), **OPTIMIZERS[name])
        assert not mine or all(p.is_contiguous() for p in optimizer.param_groups[0]["params"])
        for _ in range(3):
            model.zero_grad()
            model(torch.randn(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
        models.append(model)
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine, theirs)
