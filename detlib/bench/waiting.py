"""What a reader waits for: simulated streets, the studio, a command, a finished run, the workbook."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import nbformat
import torch
from ipywidgets import Widget
from nbformat.v4 import new_code_cell, new_notebook, new_output

from .. import offline, report, runs
from ..anchors import BASELINE
from ..coverage import coverage
from ..data.lidar import clip_frames, simulate
from ..experiments import ladder
from ..widgets.studio import anchor_studio
from .turns import Measured, NotMeasured, folder, in_turn, streets

BOXES = 18_287  # of the original data set
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
MOVES = """async root => {
    const range = root.querySelector('.sliders input[type=range]'), times = [];
    for (let n = 0; n < 50; n++) {
      const start = performance.now();
      range.value = Number(range.value) + (n % 2 ? 21 : -27);
      range.dispatchEvent(new Event('input'));
      await new Promise(done => requestAnimationFrame(() => {
        const drawn = new MessageChannel();
        drawn.port1.onmessage = done;
        drawn.port2.postMessage(0);
      }));
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b)[25];
}"""


def _frames(number: int, frames: int) -> None:
    for _ in clip_frames(number, frames=frames):
        pass


def simulator_core(rounds: int, frames: int = 20) -> Measured:
    """Frames a second of one process: rays, boxes, noise."""
    numbers = iter(range(1000))
    seconds = in_turn({"frames": lambda: _frames(next(numbers), frames)}, rounds)["frames"]
    return Measured([frames / s for s in seconds], {}, f"clips of {frames} panoramas of 128 x 1,024 px")


def simulator_files(rounds: int, clips: int = 16, frames: int = 10) -> Measured:
    """Frames a second as PNG files, by all cores, until they lie in their folder."""
    def write() -> None:
        with tempfile.TemporaryDirectory() as place:
            simulate(Path(place) / "data", ("train",), clips={"train": clips}, frames_per_clip=frames)

    seconds = in_turn({"files": write}, rounds)["files"]
    return Measured([clips * frames / s for s in seconds], {}, f"{clips * frames} panoramas, the start of the processes among it")


def coverage_ms(rounds: int) -> Measured:
    """The best anchor of every box of a data set of the original's size."""
    boxes = torch.cat([streets()["val"].targets(index)[0] for index in range(len(streets()["val"]))])
    boxes = boxes.repeat(-(-BOXES // len(boxes)), 1)[:BOXES]
    seconds = in_turn({"coverage": lambda: coverage(BASELINE, boxes, (128, 1024))}, 5 * rounds)["coverage"]
    return Measured([1000 * s for s in seconds], {}, f"{BOXES:,} boxes, {BASELINE.count((128, 1024)):,} anchors")


def studio_ms(rounds: int) -> Measured:
    """From the move of a slider to the new picture, median of 50 moves in a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NotMeasured("playwright is not installed") from None
    program = next((path for path in CHROMIUM if Path(path).exists()), None)
    if program is None:
        raise NotMeasured(f"no browser: none of {', '.join(CHROMIUM)}")
    studio = anchor_studio(streets())
    saved = json.loads(json.dumps(Widget.get_manager_state(widgets=[studio])))
    output = new_output("display_data", data={offline.VIEW: {"model_id": studio.model_id}, "text/plain": "AnchorStudio()"})
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        notebook = Path(place) / "studio.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell("studio", outputs=[output])], metadata={"widgets": {offline.STATE: saved}}), notebook)
        page_file = report.export(notebook, notebook.with_suffix(".html"))
        browser = driver.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(page_file.as_uri())
        page.wait_for_selector(".anchor-studio[data-drawn]", timeout=20_000)
        root = page.evaluate_handle("document.querySelector('.anchor-studio').shadowRoot")
        values = [page.evaluate(MOVES, root) for _ in range(rounds + 1)][1:]
        browser.close()
    return Measured(values, {}, f"{sum(len(streets()[name].boxes) for name in ('train', 'val')):,} boxes")


def _python(code: str, rounds: int) -> list[float]:
    """Seconds of a line in fresh interpreters, less what an empty one takes."""
    calls = {name: partial(subprocess.run, [sys.executable, "-c", line], check=True, stdout=subprocess.DEVNULL) for name, line in
             (("line", code), ("nothing", "pass"))}
    seconds = in_turn(calls, rounds)
    return [a - b for a, b in zip(seconds["line"], seconds["nothing"], strict=True)]


def importing(rounds: int) -> Measured:
    """`import detlib`."""
    return Measured(_python("import detlib", rounds), {}, "in fresh interpreters, less an empty one's start")


def helping(rounds: int) -> Measured:
    """`detlib --help`."""
    return Measured(_python("import contextlib, detlib.cli\nwith contextlib.suppress(SystemExit): detlib.cli.main(['--help'])", rounds), {},
                    "in fresh interpreters, less an empty one's start")


def opening(rounds: int) -> Measured:
    """All that is kept of the ladder's finished runs: settings, log, metrics, detections, and mAP with its interval."""
    from ..evaluate.coco import kept_detections
    from ..evaluate.intervals import map_interval

    data = runs.open_data(None, "laptop")
    found = [run for experiment in ladder("laptop").values() if (run := runs.find_run(experiment, data))]
    if len(found) < 3:
        raise NotMeasured(f"{len(found)} finished runs on {data.key}: detlib train LADDER --profile laptop, first")

    def open_all() -> None:
        for run in found:
            run.config, run.metrics, run.log()
            kept_detections(run, data)
            map_interval([run], data)

    return Measured(in_turn({"open": open_all}, rounds)["open"], {}, f"{len(found)} runs on {len(data['val'])} frames")


def _workbook(home: Path) -> float:
    """Seconds of the whole workbook in the laptop profile, in a home of its own; what it did before is kept there."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "notebooks").exists():
        (home / "notebooks").symlink_to(runs.home() / "notebooks")
    settings = {key: value for key, value in os.environ.items() if key not in ("DETLIB_DATA", "DETLIB_SEEDS", "DETLIB_INVALID")}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "detlib.cli", "workbook", "--profile", "laptop", "--data", "simulated", "--seeds", "1"],
                          env={**settings, "DETLIB_HOME": str(home)}, stdout=sys.stderr)
    if done.returncode:
        raise NotMeasured("the workbook did not come to its end")
    return time.perf_counter() - start


def workbook_minutes(rounds: int) -> Measured:
    """`make workbook` from nothing: all ten notebooks, the data made, one seed of every row trained; once."""
    home = folder() / "workbook"
    shutil.rmtree(home, ignore_errors=True)
    return Measured([_workbook(home) / 60], {}, "once")


def workbook_again(rounds: int) -> Measured:
    """`make workbook` where nothing has changed since."""
    home = folder() / "workbook"
    if not (home / "outputs" / "reports" / "index.html").exists():
        raise NotMeasured("nothing to come back to: detlib bench workbook_minutes, first")
    return Measured([_workbook(home) for _ in range(rounds)], {}, "all ten notebooks as they were")
