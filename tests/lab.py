"""JupyterLab, served and opened in a real browser: what the tests of its notebooks share."""
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.ipynb"))
SCREENSHOTS = HERE / "outputs" / "screenshots"
TALLEST = 15_000  # px of a picture; of a longer notebook there are several
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # of the notebook in front
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
OUTER = f"document.querySelector('{PANEL} .jp-WindowedPanel-outer')"
HEIGHT = f"() => {OUTER}.scrollHeight"
GO = f"""top => {{
    window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0;
    {OUTER}.scrollTop = top;
}}"""
SEEN = f"() => {OUTER}.clientHeight"
PICTURES = f"() => [...document.querySelectorAll('{PANEL} .jp-OutputArea img')].every(image => image.complete && image.naturalWidth)"
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"  # what was changed before is on the screen


@contextmanager
def served(home, place):
    """JupyterLab on loopback, over a home in which all notebooks were run once, from an empty folder; its address, token and process."""
    token, work = secrets.token_hex(16), place / "work"
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
        self.page.set_default_timeout(60_000)  # of a click; running takes what it takes
        self.page.evaluate(RUN)
        return self.page.evaluate(CONTENT)

    def close(self):
        self.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown(); }")
        self.page.close()


def move_the_frame_browser(opened):
    """Buttons, slider and lists of a frame browser each bring another picture."""
    panel = opened.page.locator(PANEL)
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


def settled(page):
    """The height px of the notebook in front, once it stays the same: a new theme or width is laid out bit by bit, at first with a height of 0."""
    seen = []
    for _ in range(180):
        page.wait_for_timeout(100)
        page.evaluate(DRAWN)
        seen = [*seen[-2:], int(page.evaluate(HEIGHT))]
        if len(seen) == 3 and seen[0] == seen[1] == seen[2] > 0:
            return seen[0]
    pytest.fail(f"the notebook's height does not settle ({seen} px)")


def runs_in(browser, lab, path, played=None):
    """A notebook runs without an error, is pictured in both themes, and `played(opened)` moves what moves in it; no request leaves loopback."""
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
        tall, top, part = settled(opened.page), 0, 1
        while top < tall:
            opened.page.set_viewport_size({"width": width, "height": min(TALLEST, tall - top + 200)})
            opened.page.evaluate(GO, top)
            opened.page.wait_for_function(PICTURES, timeout=20_000)  # none is empty
            opened.page.evaluate(DRAWN)
            seen = int(opened.page.evaluate(SEEN))
            opened.page.screenshot(path=SCREENSHOTS / f"lab_{path.stem}_{width}_{theme.lower()}{f'_{part}' if part > 1 else ''}.jpg", quality=85)
            top, part = top + seen, part + 1
    if played:
        opened.page.set_viewport_size({"width": 1280, "height": 900})
        played(opened)
    assert not opened.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']:has-text('Traceback')").count()
    assert not opened.errors
    opened.close()
