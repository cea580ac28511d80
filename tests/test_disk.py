"""A full disk, a place that is read-only, a second process, a folder that was moved: a sentence, nothing lost, and it goes on."""
import errno
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import torch
from kills import SERVER, call, content, tiny

from detlib import files, runs
from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.evaluate.coco import kept_detections
from detlib.evaluate.intervals import resampled_classes
from detlib.experiments import rung
from detlib.files import InUse, Unwritable, alone, new_folder, tidy, write_atomic
from detlib.train import fit

FREE = (0, 100_000, 4096, 20_000, 50_000, 200_000, 300_000, 400_000, 500_000, 700_000)  # bytes


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path):
    return open_dataset(tiny(tmp_path / "tiny"))


@contextmanager
def mounted(folder, options):
    """A tmpfs at a folder; skips, loudly, where only root may mount."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here ({done.stderr.strip()}): a full or read-only disk was tested with errors made up alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_what_stands_in_the_way_of_a_folder_is_named(home, capsys):
    home.mkdir()
    (home / "data").symlink_to(home / "nowhere")
    assert main(["simulate", "--profile", "smoke"]) == 2
    sentence = f"{home / 'data'}: a folder should be here, and there is a file, or a link that leads nowhere; move it away"
    assert sentence in capsys.readouterr().err
    (home / "data").unlink()
    (home / "data").write_text("mine")
    assert main(["simulate", "--profile", "smoke"]) == 2
    assert sentence in capsys.readouterr().err and (home / "data").read_text() == "mine"


def test_a_process_that_has_still_to_end_is_waited_for(tmp_path):
    """As a killed simulation's worker, which is at the disk when its parent goes."""
    ending = subprocess.Popen(["sleep", "0.5"])
    part = tmp_path / f".a.png.{platform.node()}.{ending.pid}.part"
    part.write_text("half")
    tidy(tmp_path)
    assert part.exists()
    threading.Thread(target=ending.wait).start()
    tidy(tmp_path, patience=60)
    assert not part.exists() and ending.returncode == 0


def lost_on_a_full_disk(data, root, monkeypatch, frees):
    """Train to step 3, go on with so few bytes left, and then with room again; -> what of it lost something, or said nothing clear."""
    arguments, wrong = ["train", "adam", "--data", data.root, "--profile", "smoke"], []
    torch.set_num_threads(1)  # as in the children
    assert call(arguments, root / "whole", often=True)[0] == 0
    for free in frees:
        with mounted(root / f"disk{free}", "size=24m") as disk:
            monkeypatch.setenv("DETLIB_HOME", str(disk / "home"))
            half = fit(rung("adam", "smoke"), data, progress=False, stop_after=3)
            filler = disk / "filler"
            with suppress(OSError), open(filler, "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            os.truncate(filler, max(0, filler.stat().st_size - free))
            code, _, said = call(arguments, disk / "home", often=True)
            if code != 2 or "the disk is full: make room" not in said or "Traceback" in said:
                wrong.append(f"{free} bytes free: exit code {code}, {said[-400:]}")
            if half.load_checkpoint()["step"] < 3:
                wrong.append(f"{free} bytes free: the checkpoint is older than before")
            filler.unlink()
            code, _, said = call(arguments, disk / "home", often=True)
            if code or content(disk / "home") != content(root / "whole"):
                wrong.append(f"{free} bytes free: not as without a full disk, exit code {code}, {said[-400:]}")
    return wrong


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "before")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(Unwritable, match=r"a\.json: not written, the disk is full: make room; then call it again"):
        write_atomic(path, "after")
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(Unwritable, match="the disk is full"), new_folder(tmp_path / "set") as part:
        write_atomic(part / "b", "b")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_training_goes_on_when_there_is_room_again(data, home, monkeypatch):
    whole = fit(rung("adam", "smoke"), data, progress=False)
    monkeypatch.setenv("DETLIB_HOME", str(home.parent / "second"))
    fit(rung("adam", "smoke"), data, progress=False, stop_after=3)
    run = runs.Run(runs.run_folder(rung("adam", "smoke"), data), rung("adam", "smoke"))
    kept = (run.folder / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(Unwritable, match="the disk is full: make room"):
            fit(rung("adam", "smoke"), data, progress=False)
    assert (run.folder / "checkpoint.pt").read_bytes() == kept and not list(run.folder.glob(".*"))
    again = fit(rung("adam", "smoke"), data, progress=False)
    assert content(again.folder) == content(whole.folder)


@pytest.mark.parametrize("free", FREE[:2])
def test_a_disk_that_is_really_full(data, tmp_path, monkeypatch, free):
    """So many bytes are left while a run goes on from its step 3; then there is room again. The long version tries all of FREE."""
    assert lost_on_a_full_disk(data, tmp_path, monkeypatch, [free]) == []


def test_a_read_only_place(data, tmp_path, monkeypatch, capsys):
    with mounted(tmp_path / "disk", "size=24m") as disk:
        monkeypatch.setenv("DETLIB_HOME", str(disk / "home"))
        run = fit(rung("adam", "smoke"), data, progress=False)
        before = content(disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert fit(rung("adam", "smoke"), data, progress=False).finished, "what is finished is read from there"
        assert main(["predict", str(run.folder), str(data.root), "--split", "val"]) == 2
        assert "this place is read-only: name another with --out" in capsys.readouterr().err
        assert len(kept_detections(run, data).score) >= 0 and resampled_classes(run, data)[1] == 1, "computed, and not kept"
        for typed in (["train", "flip", "--data", str(data.root), "--profile", "smoke"], ["export", "voc", str(data.root)]):
            assert main(typed) == 2
            assert "read-only: name another" in capsys.readouterr().err
        assert content(disk) == before


def hold(path, ready):
    with alone(path):
        ready.send(1)
        time.sleep(60)


def test_a_second_process_says_so_and_stops_and_a_killed_one_blocks_nobody(data, tmp_path, capsys, monkeypatch):
    experiment, (mine, theirs) = rung("adam", "smoke"), SERVER.Pipe(duplex=False)
    folder = runs.run_folder(experiment, data)
    first = SERVER.Process(target=hold, args=(folder, theirs))
    first.start()
    mine.recv()
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with pytest.raises(InUse, match=rf"seed0: process {first.pid} on .* is at work on it; wait until it is done, or stop it"):
        fit(experiment, data, progress=False)
    assert main(["train", "adam", "--data", str(data.root), "--profile", "smoke"]) == 2
    assert f"process {first.pid} on" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # in a notebook, it is waited for
    threading.Timer(1, first.kill).start()
    assert fit(experiment, data, progress=False).finished
    assert f"process {first.pid} on" in capsys.readouterr().err and first.exitcode == -9
    assert not list(folder.parent.glob(".*")), "the lock goes with the training"


def test_a_training_that_fails_at_once_leaves_no_folder(data, home):
    with pytest.raises(ValueError, match="no anchor set"):
        fit(rung("adam", "smoke", anchors="nosuch"), data, progress=False)
    assert runs.known_data() == [] and not (home / "outputs").exists()


def test_what_a_killed_process_left_is_cleared_away_and_a_living_one_s_is_not(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine = files.part_of(tmp_path / "a")
    left = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{gone.pid}."))
    other = mine.with_name(f".a.elsewhere.{gone.pid}.part")  # of another machine that shares the disk
    for part in (mine, left, other):
        part.write_text("half")
    tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other])


def test_a_moved_folder_with_a_space_and_an_umlaut_goes_on(tmp_path, monkeypatch):
    there = tmp_path / "my home, früher"
    arguments = ["train", "adam", "--profile", "smoke", "--data"]
    root = tiny(there / "data" / "Straßen <1>")
    monkeypatch.setenv("DETLIB_HOME", str(there))
    half = fit(rung("adam", "smoke"), open_dataset(root), progress=False, stop_after=3)
    here = tmp_path / "später"
    shutil.move(there, here)
    code, _, said = call([*arguments, here / "data" / "Straßen <1>"], here)
    assert code == 0 and (here / half.folder.relative_to(there) / "metrics.json").is_file(), said
    assert len(list((here / "outputs" / "runs").glob("*/*/*/*"))) == 1, "no second run beside the first"
    run = here / half.folder.relative_to(there)
    assert call(["predict", run, here / "data" / "Straßen <1>", "--split", "val"], here)[0] == 0
    assert call(["export", "yolo", here / "data" / "Straßen <1>", "--out", here / "ö ut"], here)[0] == 0
