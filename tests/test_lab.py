"""The notebooks in JupyterLab, in a real browser: each runs, what moves moves, and training stops and goes on."""
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.ipynb"))
SCREENSHOTS = HERE / "outputs" / "screenshots"
TALLEST = 15_000  # px of a picture of a whole notebook
OPEN = """async path => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
    await panel.context.ready;
    await panel.context.sessionContext.ready;
    await panel.context.sessionContext.session.kernel.info;
    panel.content.notebookConfig = {...panel.content.notebookConfig, windowingMode: 'none'};  // all cells are drawn, also those out of sight
    app.shell.activateById(panel.id);
    app.shell.collapseLeft();
}"""
RUN = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
CONTENT = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON()"
HEIGHT = "() => document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer').scrollHeight"
TOP = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = 0;
    document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer').scrollTop = 0;
}"""
PICTURES = """() => [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea img')]
    .filter(image => !image.complete || !image.naturalWidth).length"""
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
run = fit(rung("baseline", steps=150, seed=5), data, on_log=LiveTraining(), progress=False)
print(run.finished)"""
STATUS = "() => window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status"
STUDIO = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .anchor-studio').shadowRoot"


@pytest.fixture(scope="module")
def lab(executed, browser, tmp_path_factory):
    """JupyterLab on loopback, over a home in which all notebooks were run once; its address, token and process."""
    home, place, token = executed[0], tmp_path_factory.mktemp("lab"), secrets.token_hex(16)
    work = home / "lab"
    work.mkdir()
    for path in NOTEBOOKS:  # copies: JupyterLab saves them
        (work / path.name).write_bytes(path.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"DETLIB_HOME": str(home), "DETLIB_PROFILE": "smoke", "DETLIB_PRECISION": "", "DETLIB_READERS": "1", "DETLIB_SEEDS": "1",
                "PYTHONPATH": str(HERE), **{f"JUPYTER_{name}_DIR": str(place / name) for name in ("CONFIG", "DATA", "RUNTIME")},
                "JUPYTERLAB_SETTINGS_DIR": str(place / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(place / "workspaces")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={work}",
               f"--IdentityProvider.token={token}", f"--LabApp.app_settings_dir={HERE / 'notebooks' / '.lab'}", "--expose-app-in-browser"]
    with open(place / "log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail((place / "log").read_text())
        yield f"http://127.0.0.1:{port}", token, server.pid
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


class Opened:
    """A notebook in a window of its own, and what went wrong in it."""

    def __init__(self, browser, lab, name, width=1280, height=900):
        url, token, _ = lab
        self.errors, self.page = [], browser.new_page(viewport={"width": width, "height": height})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.errors.append(request.url) if not re.match(
            rf"(data|blob):|(http|ws)://127\.0\.0\.1:{url.rpartition(':')[2]}/", request.url) else None)
        self.page.goto(f"{url}/lab?token={token}&reset", wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        self.page.evaluate(OPEN, name)

    def run(self):
        self.page.set_default_timeout(400_000)
        self.page.evaluate(RUN)
        return self.page.evaluate(CONTENT)

    def close(self):
        self.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown(); }")
        self.page.close()


def move_the_frame_browser(opened):
    """Buttons, slider and lists of notebook 01 each bring another picture."""
    panel = opened.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    picture = panel.locator(".widget-image").first
    picture.scroll_into_view_if_needed()

    def changes(act):
        before = picture.get_attribute("src")
        act()
        opened.page.wait_for_function("([image, before]) => image.src !== before", arg=[picture.element_handle(), before], timeout=20_000)

    changes(lambda: panel.get_by_role("button", name="next").first.click())
    changes(lambda: panel.get_by_role("button", name="previous").first.click())
    handle = panel.locator(".widget-slider .noUi-handle").first
    handle.focus()
    changes(lambda: opened.page.keyboard.press("ArrowRight"))
    lists = panel.locator(".widget-dropdown select")
    changes(lambda: lists.nth(0).select_option(index=1))
    changes(lambda: lists.nth(2).select_option(index=1))


def move_the_studio(opened):
    """Every slider and button of notebook 05's studio draws anew, and Python fits and saves."""
    studio = opened.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .anchor-studio").first
    studio.scroll_into_view_if_needed()
    opened.page.wait_for_function(f"() => Number({STUDIO}.host.dataset.drawn) > 0", timeout=30_000)
    moved = opened.page.evaluate(f"""async () => {{
        const root = {STUDIO}, still = [];
        for (const slider of root.querySelectorAll('input[type=range]')) {{
            const before = Number(root.host.dataset.drawn);
            slider.value = (Number(slider.min) + 2 * Number(slider.max)) / 3;
            slider.dispatchEvent(new Event('input'));
            await new Promise(done => setTimeout(done, 150));
            if (Number(root.host.dataset.drawn) === before) still.push(slider.getAttribute('aria-label'));
        }}
        return [root.querySelectorAll('input[type=range]').length, still];
    }}""")
    assert moved[0] >= 3 and not moved[1]
    for name in ("report", "Undo", "Redo", "Add a shape", "Remove it", "Improve"):
        before = int(studio.get_attribute("data-drawn"))
        studio.get_by_role("button", name=name, exact=True).click()
        opened.page.wait_for_function(f"before => Number({STUDIO}.host.dataset.drawn) > before", arg=before, timeout=30_000)
    studio.locator(".said", has_text="one step of undo").wait_for(timeout=60_000)
    for name, answer in (("Fit", "Fitted to all boxes of train"), ("Save", "detlib.fitting.from_json reads it")):
        studio.get_by_role("button", name=name, exact=True).click()
        studio.locator(".said", has_text=answer).wait_for(timeout=120_000)


PLAYED = {"01_explore": move_the_frame_browser, "05_anchors": move_the_studio}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_each_notebook_runs_in_jupyterlab(browser, lab, path):
    opened = Opened(browser, lab, path.name)
    content = opened.run()
    outputs = [(cell["id"], output) for cell in content["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert not [(name, output["evalue"]) for name, output in outputs if output["output_type"] == "error"]
    pictures = [output for _, output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 1 and all(len(output["data"]["image/png"]) > 2000 for output in pictures)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme, width in (("Light", 1280), ("Dark", 1920)):
        opened.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", f"JupyterLab {theme}")
        opened.page.set_viewport_size({"width": width, "height": 900})  # the height of a notebook is at least the window's
        opened.page.set_viewport_size({"width": width, "height": min(TALLEST, int(opened.page.evaluate(HEIGHT)) + 200)})
        opened.page.evaluate(TOP)
        opened.page.wait_for_timeout(1500)
        assert opened.page.evaluate(PICTURES) == 0, "a picture is empty"
        opened.page.screenshot(path=SCREENSHOTS / f"lab_{path.stem}_{width}_{theme.lower()}.png")
    if path.stem in PLAYED:
        opened.page.set_viewport_size({"width": 1280, "height": 900})
        PLAYED[path.stem](opened)
    assert not opened.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']:has-text('Traceback')").count()
    assert not opened.errors
    opened.close()


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
