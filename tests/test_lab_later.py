"""The second half of the course in JupyterLab, in a real browser; a file of its own, so that two processes share what takes longest."""
import pytest
from lab import NOTEBOOKS, PANEL, move_the_frame_browser, runs_in

COMPARISON = f"document.querySelector('{PANEL} .comparison-browser').shadowRoot"
COMPARED = f"[...{COMPARISON}.querySelectorAll('canvas')].map(canvas => canvas.toDataURL()).join()"
STUDIO = f"document.querySelector('{PANEL} .anchor-studio').shadowRoot"


def move_the_studio(opened):
    """Every slider and button of notebook 05's studio draws anew, and Python fits and saves."""
    studio = opened.page.locator(f"{PANEL} .anchor-studio").first
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


def move_the_comparison(opened):
    """Buttons, sliders, classes and a dragged region of notebook 08's comparison draw other pictures; frames that are not saved come from Python."""
    page, browser = opened.page, opened.page.locator(f"{PANEL} .comparison-browser").first
    browser.scroll_into_view_if_needed()
    page.wait_for_function(f"() => Number({COMPARISON}.host.dataset.drawn) > 0", timeout=30_000)

    def changes(act, seen=COMPARED):
        before = page.evaluate(seen)
        act()
        page.wait_for_function(f"before => {seen} !== before", arg=before, timeout=20_000)

    def press(name, seen=COMPARED):
        changes(lambda: browser.get_by_role("button", name=name, exact=True).click(), seen)

    def drag():
        canvas = browser.locator("canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
        page.mouse.up()

    press("next ›")
    press("‹ previous")
    browser.get_by_label("order of the frames").select_option("worst first")
    for k in (1, 2):
        changes(lambda k=k: browser.get_by_label("frame", exact=True).fill(str(k)))
    changes(lambda: browser.get_by_label("least score").fill("5"))
    for _ in range(2):  # on and off; where nothing was found, the pictures stay as they are, drawn anew
        press("only errors", f"{COMPARISON}.host.dataset.drawn")
    changes(lambda: browser.locator(".chips button").first.click())
    press("all")
    press("each at its best")
    changes(drag)
    press("whole picture")


PLAYED = {"05_anchors": move_the_studio, "08_compare": move_the_comparison, "09_your_data": move_the_frame_browser}


@pytest.mark.parametrize("path", NOTEBOOKS[5:], ids=lambda p: p.stem)
def test_each_notebook_runs_in_jupyterlab(browser, lab, path):
    runs_in(browser, lab, path, PLAYED.get(path.stem))
