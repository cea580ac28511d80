"""The notebooks in JupyterLab, in a real browser: the first half of the course runs, training stops and goes on, strangers are kept out."""
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from lab import NOTEBOOKS, Opened, move_the_frame_browser, runs_in

ADD = """async code => {
    const app = window.jupyterapp, panel = app.shell.currentWidget;
    panel.content.activeCellIndex = panel.content.widgets.length - 1;
    await app.commands.execute('notebook:insert-cell-below');
    panel.content.activeCell.model.sharedModel.setSource(code);
}"""
LAST = """() => { const cells = window.jupyterapp.shell.currentWidget.content.model.toJSON().cells;
    return JSON.stringify(cells[cells.length - 1]); }"""
TRAIN = """from detlib.experiments import rung
from detlib.runs import open_data
from detlib.train import fit
from detlib.widgets.live import LiveTraining

data = open_data()
run = fit(rung("baseline", steps=80, seed=5), data, on_log=LiveTraining(), progress=False)
print(run.finished)"""
STATUS = "() => window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status"


@pytest.mark.parametrize("path", NOTEBOOKS[:5], ids=lambda p: p.stem)
def test_each_notebook_runs_in_jupyterlab(browser, lab, path):
    runs_in(browser, lab, path, {"01_explore": move_the_frame_browser}.get(path.stem))


def test_training_stops_and_goes_on(browser, lab):
    """The stop button ends training between two steps, with a sentence; the same cell run again finishes it."""
    opened = Opened(browser, lab, "00_start_here.ipynb")
    opened.page.evaluate(ADD, TRAIN)
    opened.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    opened.page.wait_for_function(f"() => ({LAST})().includes('<progress')", timeout=120_000)
    opened.page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    opened.page.wait_for_function(f"() => ({LAST})().includes('Stopped ')", timeout=60_000)
    opened.page.wait_for_function(f"() => ({LAST})().includes('KeyboardInterrupt') && ({STATUS})() === 'idle'", timeout=60_000)
    opened.page.wait_for_timeout(1500)  # what is asked of a kernel just after an error, it drops
    opened.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    opened.page.wait_for_function(f"() => ({LAST})().includes('True')", timeout=120_000)
    assert not [output for output in json.loads(opened.page.evaluate(LAST))["outputs"] if output["output_type"] == "error"]
    opened.close()


def _listening(process):
    """Addresses, as in /proc/net/tcp, at which a process and its children accept connections."""
    inodes, waiting = set(), [process]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        waiting += [int(child) for task in place.glob("task/*/children") for child in task.read_text().split()]
        for file in place.glob("fd/*"):
            try:
                inodes.add(os.readlink(file))
            except OSError:
                continue
    found = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in found if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="NOT TESTED: who listens where (it takes /proc)")
def test_strangers_are_kept_out(browser, lab):
    """Without its token JupyterLab tells nothing, and neither it nor a kernel listens beyond loopback."""
    url, _, process = lab
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{url}/api/contents", timeout=10)
    opened = Opened(browser, lab, "00_start_here.ipynb")
    places = _listening(process)
    assert places and places <= {"0100007F", "00000000000000000000000001000000"}
    opened.close()
