"""Every exported page, as it is read: without a network, at two widths, for readers of light and of dark themes."""
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
NAMES = ["index", *(f"{path.stem}+smoke" for path in sorted((HERE / "notebooks").glob("*.ipynb")))]
SCREENSHOTS = HERE / "outputs" / "screenshots"
LIVE = {"05_anchors+smoke": ".anchor-studio", "08_compare+smoke": ".comparison-browser"}  # widgets that go on without Python
EMPTY = "() => [...document.images].filter(image => !image.complete || image.naturalWidth < 2).length"
WIDER = "() => document.documentElement.scrollWidth - innerWidth"
MOVE = """async host => {
    const before = Number(host.dataset.drawn), control = host.shadowRoot.querySelector('input[type=range]');
    control.value = Number(control.value) < Number(control.max) ? control.max : control.min;
    control.dispatchEvent(new Event('input'));
    for (let k = 0; k < 50 && Number(host.dataset.drawn) === before; k++) await new Promise(done => setTimeout(done, 40));
    return Number(host.dataset.drawn) > before;
}"""


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_without_a_network(executed, browser, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for width, theme in ((1280, "light"), (1920, "dark")):
        wrong = []
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme, offline=True)
        page = context.new_page()
        page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
        page.on("requestfailed", lambda request, wrong=wrong: wrong.append(request.url[:200]))
        page.on("request", lambda request, wrong=wrong: None if re.match("(file|data|blob):", request.url) else wrong.append(request.url))
        page.goto((executed[0] / "outputs" / "reports" / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        if name in LIVE:
            host = page.locator(f"{LIVE[name]}[data-drawn]").first
            host.scroll_into_view_if_needed(timeout=20_000)
            assert host.evaluate(MOVE), "the widget does not move"
        assert page.evaluate(EMPTY) == 0 and page.evaluate(WIDER) <= 0
        page.screenshot(path=SCREENSHOTS / f"page_{name.split('+')[0]}_{width}_{theme}.jpg", quality=85, full_page=True)
        context.close()
        assert not wrong
