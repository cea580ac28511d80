"""The second half of the course in JupyterLab, in a real browser; a file of its own, so that two processes share what takes longest."""
import pytest
from lab import NOTEBOOKS, runs_in

STUDIO = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .anchor-studio').shadowRoot"


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


@pytest.mark.parametrize("path", NOTEBOOKS[5:], ids=lambda p: p.stem)
def test_each_notebook_runs_in_jupyterlab(browser, lab, path):
    runs_in(browser, lab, path, {"05_anchors": move_the_studio}.get(path.stem))
