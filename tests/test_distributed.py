"""Two processes under torchrun are one with the whole batch: the same losses and detections, also after one of them is killed."""
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from detlib import distributed, runs
from detlib.data.folder import open_dataset
from detlib.data.loader import TrainBatches, channel_statistics
from detlib.experiments import rung
from detlib.models.detector import build
from detlib.train import clip_gradient_, fit, make_optimizer, rate

HERE = Path(__file__).resolve().parents[1]


def torchrun(home, data, row, *more, restarts=0, steps=6):
    environment = {**os.environ, "DETLIB_HOME": str(home), "DETLIB_PRECISION": "float32", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE),
                   "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}",
               "-m", "detlib.train", row, "--data", str(data), "--profile", "smoke", "--set", f"steps={steps}", *more]
    return subprocess.Popen(command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process, seconds=900):
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, said
    return said


def log(home, data, row, steps=6):
    run = runs.Run(home / runs.run_folder(rung(row, "smoke", steps=steps), data).relative_to(runs.home()), rung(row, "smoke", steps=steps))
    return run, [entry for entry in run.log_rows() if "loss" in entry], [entry for entry in run.log_rows() if "val" in entry]


def test_without_torchrun_there_is_one_process():
    assert (distributed.rank(), distributed.world(), distributed.mine([1, 2, 3])) == (0, 1, [1, 2, 3])
    assert distributed.gathered("x") == ["x"] and distributed.first_then_others(lambda: 7) == 7
    model = torch.nn.Linear(1, 1)
    assert distributed.engine(model) is model


def test_a_start_finds_nothing_that_an_earlier_one_left_in_the_store():
    """The second of two starts on one store; its first process comes late, so that the other finds what the start before said of it."""
    store = torch.distributed.HashStore()

    def start(late):
        def one(number):
            time.sleep(late * (number == 0))
            mine = distributed.fresh(store, number, 2)
            found = mine.check([f"address {number}"])
            mine.set(f"address {number}", f"{late}")
            return found, mine.get("address 0").decode()

        with ThreadPoolExecutor(2) as both:
            return list(both.map(one, range(2), timeout=60))

    assert start(0.0) == [(False, "0.0"), (False, "0.0")]
    assert start(0.2) == [(False, "0.2"), (False, "0.2")]


def test_two_processes_give_the_losses_of_one(small, tmp_path):
    """Seven frames to judge, so that the last batch of the validation is one process's alone."""
    data, process = open_dataset(small), torchrun(tmp_path / "two", small, "baseline")
    one = fit(rung("baseline", "smoke", steps=6), data, progress=False)
    said = finished(process)
    two, losses, judged = log(tmp_path / "two", data, "baseline")
    assert said.count("classes; ") == 1, "one of them speaks"
    mine = [entry for entry in one.log_rows() if "loss" in entry]
    assert len(losses) == len(mine) == 6
    for ours, theirs in zip(mine, losses, strict=True):
        assert [theirs[key] for key in ("loss", "classes", "boxes", "gradient")] == pytest.approx(
            [ours[key] for key in ("loss", "classes", "boxes", "gradient")], rel=1e-4)
    assert judged[-1]["val_loss"] == pytest.approx(one.metrics["val_loss"], rel=1e-4)
    assert len(two.detections()) == pytest.approx(len(one.detections()), rel=0.02)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one.weights().values(), two.weights().values(), strict=True))


def noted(counts, number):
    """Keep a half's number of positives, and divide by it."""
    counts.append(number)
    return number


def losses_of_one(small, halves):
    """The losses of three steps in one process; with `halves` the network sees each batch in two parts, one after the other."""
    data, experiment = open_dataset(small), rung("resnet", "smoke", steps=6)
    torch.manual_seed(0)
    spec = runs.anchor_set(experiment, data)
    model = build(experiment, spec, len(data.categories), *channel_statistics(data["train"])).train()
    optimizer, batches, losses = make_optimizer(model, experiment), TrainBatches(data["train"], experiment, spec.strides[-1]), []
    for step in range(3):
        images, boxes, labels = batches[step]
        counts: list[torch.Tensor] = []
        parts = []
        for part in [slice(half, None, 2) for half in (0, 1)] if halves else [slice(None)]:
            found, image_hw = model(images[part]), tuple(images.shape[-2:])
            parts.append(model.loss(*found, boxes[part], labels[part], image_hw, experiment.loss, partial(noted, counts)))
        loss = sum((part["classes"] + part["boxes"]) * count for part, count in zip(parts, counts, strict=True)) / sum(counts)
        model.zero_grad()
        loss.backward()
        clip_gradient_(model)
        for group in optimizer.param_groups:
            group["lr"] = experiment.optimizer_settings["lr"] * rate(step, experiment.sizes)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_batch_norm_takes_its_statistics_from_each_half(small, tmp_path):
    """The reference: one process that puts both halves through the network one after the other; three steps, since rounding grows with each."""
    process = torchrun(tmp_path / "two", small, "resnet")
    halves, whole = losses_of_one(small, halves=True), losses_of_one(small, halves=False)
    finished(process)
    found = [entry["loss"] for entry in log(tmp_path / "two", open_dataset(small), "resnet")[1]][:3]
    assert found == pytest.approx(halves, rel=5e-4) and found[:2] == pytest.approx(halves[:2], rel=1e-4)
    assert found[0] != pytest.approx(whole[0], rel=5e-4), "statistics of the whole batch would be something else"


def test_a_killed_process_is_started_again_and_nothing_changes(small, tmp_path):
    data = open_dataset(small)
    finished(torchrun(tmp_path / "calm", small, "baseline", steps=40))
    process, killed = torchrun(tmp_path / "killed", small, "baseline", restarts=5, steps=40), False
    until = time.monotonic() + 200
    while process.poll() is None and not killed and time.monotonic() < until:
        _, done, _ = log(tmp_path / "killed", data, "baseline", 40)
        if len(done) > 22:  # behind the first validation, whose checkpoint it goes on from
            children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            os.kill(int(children[-1]), signal.SIGKILL)
            killed = True
        time.sleep(0.002)
    said = finished(process)
    assert killed and "exitcode: -9" in said, said
    calm, killed_run = (log(tmp_path / name, data, "baseline", 40) for name in ("calm", "killed"))
    assert [{**row, "seconds": 0} for row in killed_run[1]] == [{**row, "seconds": 0} for row in calm[1]]
    assert all(torch.equal(a, b) for a, b in zip(calm[0].weights().values(), killed_run[0].weights().values(), strict=True))
    assert json.loads((calm[0].folder / "detections.json").read_text()) == json.loads((killed_run[0].folder / "detections.json").read_text())


def test_a_batch_that_cannot_be_divided_is_refused(small, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 8)
    monkeypatch.setattr(distributed, "first_then_others", lambda function: function())
    with pytest.raises(ValueError, match="a batch of 4 images cannot be divided over 8 processes; start at most 4"):
        fit(rung("baseline", "smoke", steps=2), open_dataset(small), progress=False)
