"""Shared data: a small hand-made COCO folder, and the real frames where they are at hand."""
import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from lab import served
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
REAL = HERE.parent / "shared" / "tdt4265_2022"
SLOW = {f"test_{name}" for name in (  # files that train much, start processes or browsers, or read thousands of boxes
    "ahead", "anchor_sets", "apidoc", "boxes_anchors", "comparison", "cost", "disk", "distributed", "fitting", "fuzz", "house", "kills", "lab",
    "lab_later", "lidar", "mistakes", "notebooks_on_data", "onnx", "pages", "plots_data", "proofs", "reference", "report", "rerun", "starts",
    "strips", "studio", "train", "untrusted", "video")}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of a hundred processes compiles all modules for itself


def pytest_itemcollected(item):
    """Tests that need the executed workbook are slow, as are the files of SLOW."""
    if "executed" in item.fixturenames or item.path.stem in SLOW:
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items):
    """The executed workbook comes first, and what takes long and waits for it, JupyterLab in two files, last: so two processes end together."""
    items.sort(key=lambda item: item.path.stem.startswith("test_lab") - item.path.stem.startswith("test_notebooks"))


@pytest.fixture
def real():
    if not REAL.is_dir():
        pytest.skip("the real TDT4265 frames are not beside the project (../shared/tdt4265_2022): nothing real was tested")
    return REAL


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Outputs and data of a test go to its own folder, and no setting of the caller's shell reaches it."""
    monkeypatch.setenv("DETLIB_HOME", str(tmp_path / "home"))
    for name in ("DETLIB_DATA", "DETLIB_PROFILE", "DETLIB_SEEDS", "DETLIB_RUNS", "DETLIB_AT_ONCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DETLIB_PRECISION", "float32")
    monkeypatch.setenv("DETLIB_READERS", "2")
    return tmp_path / "home"


@contextmanager
def chromium():
    """Debian's chromium without a window; skips, loudly, where it or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="NOT TESTED in a browser (pip install playwright)")
    if not CHROMIUM.exists():
        pytest.skip(f"NOT TESTED in a browser ({CHROMIUM} is missing)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def browser():
    """One browser for each file: while it runs, no other event loop can be started in this process."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def lab(executed, browser, tmp_path_factory):
    """JupyterLab over the executed workbook's home: its address, token and process."""
    with served(executed[0], tmp_path_factory.mktemp("lab")) as found:
        yield found


def coco(images, annotations, categories=("car", "person")):
    """COCO content from (file_name, width, height) and (image number, category number, [x, y, w, h])."""
    return {
        "images": [{"id": 10 + i, "file_name": f, "width": w, "height": h} for i, (f, w, h) in enumerate(images)],
        "annotations": [{"id": 100 + i, "image_id": 10 + n, "category_id": c, "bbox": list(b), "area": b[2] * b[3], "iscrowd": 0}
                        for i, (n, c, b) in enumerate(annotations)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories, start=1)],
    }


def write_dataset(root, splits, pictures=True, **about):
    """A data set's folder from {split: coco content}; pictures are noise with each box painted white."""
    for split, content in splits.items():
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / f"{split}_annotations.json").write_text(json.dumps(content))
        for image in content["images"] if pictures else []:
            pixels = np.random.default_rng(image["id"]).integers(0, 120, (image["height"], image["width"], 3), dtype=np.uint8)
            for a in content["annotations"]:
                if a["image_id"] == image["id"]:
                    x, y, w, h = (round(v) for v in a["bbox"])
                    pixels[y:y + h, x:x + w] = 255
            path = root / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    if about:
        (root / "dataset.json").write_text(json.dumps(about))
    return root


@pytest.fixture
def small(tmp_path):
    """Six training and three validation frames of 256 x 128 px, a painted box or two on most."""
    def split(name, n):
        images = [(f"images/{name}/trip_Video{c:05d}_{i}.png", 256, 128) for c in range(n // 3) for i in range(3)]
        boxes = [(i, 1 + i // 2 % 2, [20.0 + 30 * i, 40.0, 32.0, 24.0]) for i in range(n) if i != 1] + [(2, 1, [150.0, 60.0, 16.0, 40.0])]
        return coco(images, boxes)
    return write_dataset(tmp_path / "small", {"train": split("train", 6), "val": split("val", 3)})


@pytest.fixture(scope="session")
def executed(tmp_path_factory, worker_id):
    """All notebooks run in order on smoke data with two seeds, in a home of their own: (home, exit code, lines said), made by the first that asks."""
    from detlib import report

    shared = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    home, answer = shared / "executed", shared / "executed.json"
    with open(shared / "executed.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answer.exists():
            home.mkdir()
            (home / "notebooks").symlink_to(HERE / "notebooks")
            said: list[str] = []
            environment = {"DETLIB_HOME": str(home), "DETLIB_PRECISION": "", "DETLIB_SEEDS": "2", "DETLIB_AT_ONCE": "1",
                           "PYTHONPATH": str(HERE)}
            notebooks = sorted((HERE / "notebooks").glob("*.ipynb"))
            code = report.workbook(notebooks, home / "outputs" / "reports", profile="smoke", environment=environment, echo=said.append)
            answer.write_text(json.dumps([code, said]))
    return home, *json.loads(answer.read_text())
