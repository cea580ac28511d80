"""Files that others made: nothing in them is run, their names are text wherever they are shown; and exports hold nothing of this machine."""
import ast
import io
import os
import pickle
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from conftest import coco, write_dataset
from kills import tiny
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from trained import make_run

from detlib import machine, offline, report, runs
from detlib.cli import main
from detlib.data.checks import check
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.evaluate.intervals import kept_resamples, resampled_classes
from detlib.experiments import rung
from detlib.train import fit

PACKAGE = Path(runs.__file__).parent
HOSTILE = ("<script>alert(1)</script>", "=HYPERLINK(\"http://x\",\"y\")", "$\\frac{1$ & <b>", "../../etc")


def dangerous(tree):
    """Calls that could run what a file holds."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if (name.split(".")[-1] in ("eval", "exec", "system", "popen") and name in ("eval", "exec", "os.system", "os.popen")) or \
                (name.startswith(("pickle.", "dill.", "joblib.", "marshal.", "shelve.")) and name != "pickle.UnpicklingError") or \
                (name == "torch.load" and given.get("weights_only") != "True") or (name == "np.load" and given.get("allow_pickle") != "False") or \
                (name.startswith("yaml.") and name not in ("yaml.safe_load", "yaml.safe_dump", "yaml.YAMLError") and name != "yaml.parse") or \
                name in ("pd.read_pickle", "torch.hub.load", "torch.jit.load") or given.get("shell") == "True":
            yield name


def test_no_call_can_run_what_a_file_holds():
    found = {(path.name, name) for path in PACKAGE.rglob("*.py") for name in dangerous(ast.parse(path.read_text()))}
    assert found == {("onnx_export.py", "exec")}, "the decoder that an export has just written itself"
    wrong = "torch.load(p); pickle.load(f); yaml.load(t); eval(s); np.load(p); subprocess.run(s, shell=True)"
    assert len(list(dangerous(ast.parse(wrong)))) == 6


class Harmful:
    def __reduce__(self):
        return os.system, (f"touch {os.environ['DETLIB_HOME']}/owned",)


def test_a_malicious_checkpoint_is_refused_with_a_sentence(tmp_path, home):
    data, experiment = open_dataset(tiny(tmp_path / "tiny")), rung("adam", "smoke")
    run = fit(experiment, data, progress=False, stop_after=3)
    good = (run.folder / "checkpoint.pt").read_bytes()
    torch.save({"step": 3, "model": Harmful(), "optimizer": {}}, run.folder / "checkpoint.pt")
    for content in ((run.folder / "checkpoint.pt").read_bytes(), pickle.dumps(Harmful()), good[:1000], b"", pickle.dumps({"step": 3})):
        (run.folder / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged, or not what its name says .* nothing of it was run; bring the file back"):
            fit(experiment, data, progress=False)
    other = torch.load(io.BytesIO(good), weights_only=True)
    turned = {k: {n: v.permute(0, 3, 1, 2) if v.dim() == 4 else v for n, v in kept.items()} for k, kept in other["optimizer"]["state"].items()}
    for part in ({"model": {"x": torch.zeros(1)}}, {"optimizer": other["optimizer"] | {"state": turned}}):
        torch.save(other | part, run.folder / "checkpoint.pt")
        with pytest.raises(ValueError, match=r"checkpoint\.pt: a checkpoint of another network"):
            fit(experiment, data, progress=False)
    assert not (home / "owned").exists()
    (run.folder / "checkpoint.pt").write_bytes(good)
    assert fit(experiment, data, progress=False).finished


def test_damaged_memories_are_made_anew(tmp_path, home):
    data = open_dataset(tiny(tmp_path / "tiny"))
    run = make_run(data)
    values, _ = resampled_classes(run, data)
    np.save(kept_resamples(run).with_suffix(".npy"), np.array([Harmful()], dtype=object), allow_pickle=True)
    for content in (kept_resamples(run).with_suffix(".npy").read_bytes(), b"PK\x03\x04", b""):
        kept_resamples(run).write_bytes(content)
        with pytest.raises(ValueError, match="not there or damaged"):
            resampled_classes(run, None)
        assert np.array_equal(resampled_classes(run, data)[0], values, equal_nan=True)
    path = runs.outputs() / "machine.json"
    for content in ("{", "[]", f'{{"{machine.describe()}": {{"precision": "float7"}}}}'):
        path.write_text(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("DETLIB_PRECISION")
            patch.setattr(machine, "step_seconds", lambda _: {"float32": 1.0, "bfloat16": 2.0})
            assert machine.precision_here(torch.device("cpu")) in machine.PRECISIONS
    assert not (home / "owned").exists()


@pytest.fixture
def hostile(tmp_path):
    """A data set whose classes and files are named by somebody who means harm."""
    names = HOSTILE[:3]
    images = {split: [(f"images/{split}/<img src=x onerror=alert({k})>_{k}.png", 256, 128) for k in range(3)] for split in ("train", "val")}
    boxes = [(k, 1 + k, [20 + 30 * k, 40, 32, 24]) for k in range(3)]
    return open_dataset(write_dataset(tmp_path / "hostile", {split: coco(images[split], boxes, names) for split in images}))


def shown(widget):
    """The HTML and text of a widget and its children."""
    return [str(getattr(widget, "value", ""))] + [text for child in getattr(widget, "children", ()) for text in shown(child)]


def test_names_are_text_in_widgets_and_tables(hostile):
    from detlib.widgets.browser import frame_browser
    browser = frame_browser(hostile)
    for k in range(3):
        browser.parts["frame"].value = k
        assert "<script" not in browser.parts["line"].value and "<img src=x" not in browser.parts["line"].value
    for table in (hostile["train"].boxes, check(hostile.root).findings, check(hostile.root).counts()):
        assert "<script" not in table._repr_html_() and "<img src=x" not in table._repr_html_()
    for script in PACKAGE.rglob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script.read_text()), script


def test_names_are_text_in_figures_files_and_exports(hostile, tmp_path, capsys):
    """A name that looks like a formula once broke the figures drawn with seaborn's own labels."""
    run, of = make_run(hostile).folder, ["--data", hostile.root, "--profile", "smoke"]
    for typed in (["explore", *of], ["check", hostile.root], ["table", "classes", *of, "--rungs", "adam"],
                  ["figure", "error_costs", *of, "--rungs", "adam"],
                  ["predict", run, hostile.root, "--split", "val", "--draw"], ["predict", run, hostile.root / "images/val", "--draw"],
                  *(["export", form, hostile.root, "--out", tmp_path / form] for form in ("voc", "yolo", "coco"))):
        assert main(list(map(str, typed))) == 0, capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"home", "hostile", "voc", "yolo", "coco"}
    for form in ("voc", "yolo", "coco"):
        assert set(open_dataset(tmp_path / form, clips="names").categories) == set(hostile.categories)


def test_names_cannot_lead_out_of_a_folder(tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "images/../../secret.png"):
        root = tmp_path / "d"
        write_dataset(root, {split: coco([(name, 128, 128)], []) for split in ("train", "val")}, pictures=False)
        with pytest.raises(DataError, match="lies outside the folder; move it inside"):
            open_dataset(root)
    (root / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    write_dataset(root, {split: coco([(f"images/{split}link.png"[:7] + "link.png", 128, 128)], []) for split in ("train", "val")}, pictures=False)
    with pytest.raises(DataError, match="is a link out of the folder"):
        runs.export_data(root, "voc", tmp_path / "out")
    assert main(["import", str(root), "--name", "../../x"]) == 2
    write_dataset(tmp_path / "e", {split: coco([(f"images/{split}.png", 64, 64)], []) for split in ("train", "val")}, name="../../../tmp/<b>x")
    assert re.fullmatch(r"[\w-]+", open_dataset(tmp_path / "e").name)


def test_pictures_that_are_none_or_too_large_are_named(tmp_path):
    from fuzz import giant
    root = tiny(tmp_path / "tiny")
    path = root / "images/train/trip_0.png"
    good = path.read_bytes()
    other = (root / "images/val/trip_1.png")
    for content, says in ((good[:300], "truncated|not readable"), (b"", "not readable"), (giant(good), "decompression bomb"),
                          (b"<svg/>", "not readable"), (good[:40] + bytes(200) + good[240:], "not readable")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"trip_0\.png: not readable as a picture .*({says}).*; replace the file|not readable as a picture"):
            open_dataset(root)["train"].image(0)
        assert "unreadable picture" in {row["kind"] for row in check(root).listed()}
    Image.new("RGB", (64, 32)).save(path)
    with pytest.raises(DataError, match=r"the picture is 64 x 32 px, .* says 128 x 128; correct the one that is wrong"):
        open_dataset(root)["train"].image(0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"trip_0\.png: not readable as a picture \(it is no plain file\)"):
        open_dataset(root)["train"].image(0)
    assert other.is_file()


def test_an_exported_report_holds_nothing_of_this_machine(tmp_path, monkeypatch):
    """A notebook that trains, fails and shows paths; the environment has a secret."""
    monkeypatch.setenv("A_SECRET", "hunter2-is-the-value")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    root = tiny(tmp_path / "home" / "data" / "mine")
    cells = [f"from detlib import runs, train, experiments\ndata = runs.open_data({str(root)!r})\ndata",
             "run = train.fit(experiments.rung('adam', 'smoke'), data, progress=False)\nrun", "run.folder", "data['nowhere']"]
    nbformat.write(new_notebook(cells=[new_code_cell(text) for text in cells]), tmp_path / "n.ipynb")
    result = report.run(tmp_path / "n.ipynb", tmp_path / "executed.ipynb", {"DETLIB_HOME": str(tmp_path / "home")})
    assert not result.ok and "no nowhere in this data" in result.error
    page = offline.export(tmp_path / "executed.ipynb", tmp_path / "n.html").read_text()
    body = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "no nowhere in this data" in body
    for private in (str(Path.home()) + "/", str(tmp_path), str(PACKAGE.parent), "hunter2", os.uname().nodename, "A_SECRET"):
        assert private not in body, private
