import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import chromium
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from detlib import offline, report

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(report.__file__).parents[1]))


def save(path: Path, *cells: str | nbformat.NotebookNode) -> Path:
    """A notebook; text beginning with `#` or `md:` is Markdown, other text is code."""
    def cell(text: str) -> nbformat.NotebookNode:
        return new_markdown_cell(text.removeprefix("md:")) if text.startswith(("# ", "md:")) else new_code_cell(text)
    nbformat.write(new_notebook(cells=[cell(c) if isinstance(c, str) else c for c in cells]), path)
    return path


def shown(tmp_path: Path, *cells: str | nbformat.NotebookNode, metadata: dict | None = None) -> str:
    """The exported body of a notebook that is not run."""
    path = save(tmp_path / "n.ipynb", *cells)
    book = nbformat.read(path, 4)
    book.metadata.update(metadata or {})
    nbformat.write(book, path)
    return report.export(path, tmp_path / "n.html").read_text().split("<body>")[1]


def output(**data: object) -> nbformat.NotebookNode:
    """A code cell with one output; `html=`, `png=`, `plain=`, `view=` name its forms."""
    kinds = {"html": "text/html", "png": "image/png", "plain": "text/plain", "latex": "text/latex", "view": offline.VIEW}
    return new_code_cell("1", outputs=[new_output("display_data", data={kinds[k]: v for k, v in data.items()})])


def view(tmp_path: Path, **models: dict) -> str:
    """The exported view of widget `a` in a notebook with these saved models, each {"": class, **state}."""
    state = {k: {"model_name": m[""] + "Model", "model_module": "x", "state": {n: v for n, v in m.items() if n}} for k, m in models.items()}
    cell = output(view={"model_id": "a", "version_major": 2, "version_minor": 0}, plain="HBox()")
    saved = {offline.STATE: {"state": state, "version_major": 2, "version_minor": 0}}
    return shown(tmp_path, cell, metadata={"widgets": saved}).split('"out">')[1]


def test_an_interval_in_a_cell_is_not_broken(tmp_path):
    text = shown(tmp_path, output(html="<table><tr><td>[-0.1, +0.20]</td><td>[a, b]</td><td>0.1 [1, 2]</td></tr></table>see [1, 2]"))
    assert "[-0.1,\N{NO-BREAK SPACE}+0.20]" in text and "0.1 [1,\N{NO-BREAK SPACE}2]" in text and "[a, b]" in text and "see [1, 2]" in text


# ---- formulas and Markdown

@pytest.mark.parametrize("text, formulas", [
    (r"a $x^2$ b", 1), (r"$$\frac{a}{b}$$", 1), (r"\(a\) and \[b\]", 2), (r"\\(a\\) and \\[b\\]", 2),
    ("- in a list $x_1$\n- $$y$$", 2),
    ("| a | b |\n|---|---|\n| $x$ | \\(y\\) |", 2), ("text\n\n$$\na\n= b\n$$\n\nmore", 1),
    (r"\begin{align}a&=b\\c&=d\end{align}", 1),
    ("$5 and $6", 0), ("from $5 to $6/h, $7", 0), (r"\$x\$", 0), ("`$x$` and `$$y$$`", 0), ("```\n$x$\n$$y$$\n```", 0),
    ("costs $5, `a$b`", 0)])
def test_formulas_are_found(tmp_path, text, formulas):
    assert shown(tmp_path, new_markdown_cell(text)).count("<math") == formulas


def test_prices_and_escaped_dollars_stay(tmp_path):
    body = shown(tmp_path, new_markdown_cell(r"$5 and $6, \$7, `$\frac{a}{b}$`"))
    assert "$5 and $6, $7, <code>$\\frac{a}{b}$</code>" in body


@pytest.mark.parametrize("tex", [r"\nosuch{x}", r"\frac{1", "{", "a & b", ""])
def test_a_formula_that_cannot_be_converted_is_readable(tex):
    assert offline.mathml(tex).startswith('<code class="formula">')


def test_aligned_rows_have_no_numbers():
    assert offline.mathml(r"\begin{aligned}a&=b\\c&=d\end{aligned}").count("<mtd") == 4


def test_pictures_are_embedded_and_links_follow(tmp_path):
    Image.new("RGB", (8, 4), "red").save(tmp_path / "a b.png")
    png = offline.base64.b64encode((tmp_path / "a b.png").read_bytes()).decode()
    cell = new_markdown_cell("![one](a%20b.png) ![two](attachment:x.png) <img src='a b.png'> ![far](https://x.org/y.png) ![gone](no.png)")
    cell.attachments = {"x.png": {"image/png": png}}
    body = shown(tmp_path, cell, "md:[next](02_b.ipynb#x) [out](https://x.org/z.ipynb)")
    assert body.count(f"data:image/png;base64,{png}") == 3
    assert 'src="https' not in body and "file not found" in body and '<a href="https://x.org/y.png">' in body
    assert 'href="02_b.html#x"' in body and 'href="https://x.org/z.ipynb"' in body
    (tmp_path / "n.ipynb").rename(tmp_path / "01_a.ipynb")
    assert 'href="02_b+smoke.html#x"' in report.export(tmp_path / "01_a.ipynb", tmp_path / "01_a+smoke.html").read_text()


def test_paths_of_the_machine_do_not_leave_it(tmp_path):
    root = Path(report.__file__).parents[1]
    text = f"{Path.home()}/secret/x {root}/detlib/boxes.py:3 {tmp_path}/y.txt {os.__file__} /etc/passwd http://h/tmp/q a/b"
    body = shown(tmp_path, new_code_cell("1", outputs=[new_output("stream", text=text)]))
    assert not any(str(p) in body for p in (Path.home() / "secret", root, tmp_path, "/etc/passwd"))
    assert "~/secret/x detlib/boxes.py:3 y.txt lib/python3" in body and "http://h/tmp/q a/b" in body


# ---- outputs

def test_html_without_a_tag_keeps_to_the_column(tmp_path):
    body = shown(tmp_path, output(html="a line"), output(html="<table><tr><td>x</td></tr></table>"))
    assert '<div class="plain">a line</div>' in body and '<div class="wide"><table>' in body


def test_streams_and_colours(tmp_path):
    parts = [new_output("stream", text="10%\r50%\r"), new_output("stream", text="100%\n\x1b[31mred\x1b[0m <b>")]
    body = shown(tmp_path, new_code_cell("1", outputs=parts))
    assert '<pre class="stdout">100%\n<span class="ansi-red-fg">red</span> &lt;b&gt;</pre>' in body


def test_own_html_of_a_widget_stays_alive(tmp_path):
    script = '<div id="w"></div><script type="module">const t = "<img src=\'" + 1 + "\'>"; document.title = t</script>'
    body = shown(tmp_path, output(html=f'{script}<img src="https://x.org/a.png">', view={"model_id": "gone"}, plain="W()"))
    assert script in body and "not saved" not in body and 'src="https' not in body


def test_what_asks_the_network_is_left_out(tmp_path):
    body = shown(tmp_path, output(html='<script src="https://x.org/a.js"></script><link rel=stylesheet href="//x.org/a.css"><p>kept</p>'))
    assert "x.org" not in body and "<p>kept</p>" in body


def test_latex_output(tmp_path):
    assert "<mfrac>" in shown(tmp_path, output(latex=r"$\displaystyle \frac{1}{2}$", plain="1/2"))


# ---- widgets

@pytest.mark.parametrize("model, text", [
    ({"": "IntSlider", "description": "n"}, "n:</b> 0"),  # JupyterLab does not save defaults
    ({"": "FloatSlider", "description": "x:", "value": 0.12345, "readout_format": ".2f"}, "x:</b> 0.12"),
    ({"": "IntRangeSlider", "description": "r", "value": [2, 5]}, "r:</b> 2 – 5"),
    ({"": "Checkbox", "description": "c", "value": True}, "c:</b> on"),
    ({"": "ToggleButton", "description": "c"}, "c:</b> off"),
    ({"": "Dropdown", "description": "d", "_options_labels": ["sgd", "adamw"], "index": 1}, "d:</b> adamw"),
    ({"": "SelectMultiple", "description": "d", "_options_labels": ["u", "v", "w"], "index": [0, 2]}, "d:</b> u, w"),
    ({"": "Text", "description": "t", "value": "hello"}, "t:</b> hello"),
    ({"": "Password", "description": "p", "value": "s3cret"}, "p:</b> •••"),
    ({"": "DatePicker", "description": "d", "value": {"year": 2024, "month": 0, "date": 9}}, "2024-01-09"),
    ({"": "Button", "description": "Fit"}, '<span class="button">Fit</span>'),
    ({"": "Label", "value": "a < b $x^2$"}, "a &lt; b <math"),
    ({"": "HTML", "value": "<i>x</i>"}, "<i>x</i>"),
    ({"": "HTML", "value": ""}, "empty when"), ({"": "Output", "outputs": []}, "empty when"),
    ({"": "FloatProgress", "description": "epoch", "value": 3.0, "max": 10.0}, 'epoch <progress max="10" value="3"'),
    ({"": "Strange"}, "shown only in JupyterLab")])
def test_a_widget_shows_its_value(tmp_path, model, text):
    assert text in view(tmp_path, a=dict(model))


@pytest.mark.parametrize("model", [
    {"": "IntSlider", "description": HOSTILE}, {"": "Text", "value": HOSTILE}, {"": "Button", "description": HOSTILE},
    {"": "Dropdown", "_options_labels": [HOSTILE], "index": 0}, {"": "Label", "value": HOSTILE},
    {"": "FloatProgress", "description": HOSTILE},
    {"": "HTML", "value": HOSTILE, "description": HOSTILE}, {"": "HTMLMath", "value": f"{HOSTILE} $<b$"},
    {"": "Tab", "children": ["IPY_MODEL_b"], "titles": [HOSTILE]}, {"": "Image", "format": "url", "value": HOSTILE}])
def test_hostile_values_are_text(tmp_path, model):
    body = view(tmp_path, a=dict(model), b={"": "Label", "value": "x"})
    assert "<script>alert" not in body and "&lt;script>alert" in body.replace("&gt;", ">")


def test_boxes_keep_order_titles_and_one_note(tmp_path):
    body = view(tmp_path, a={"": "VBox", "children": ["IPY_MODEL_b", "IPY_MODEL_t"]},
                b={"": "HBox", "children": ["IPY_MODEL_s", "IPY_MODEL_h"]},
                t={"": "Accordion", "children": ["IPY_MODEL_s", "IPY_MODEL_o"], "titles": ["Size"]},
                s={"": "IntSlider", "description": "size"},
                h={"": "Text", "description": "hidden", "layout": "IPY_MODEL_l"}, l={"": "Layout", "display": "none"},
                o={"": "Output", "outputs": [{"output_type": "stream", "name": "stdout", "text": "inside"}]})
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", body))
    assert text.strip() == "size: 0 Size size: 0 Accordion 2 inside live in JupyterLab"


@pytest.mark.parametrize("models", [
    {}, {"a": {"": "HBox", "children": ["IPY_MODEL_x", "IPY_MODEL_y"]}}, {"a": {"": "VBox", "children": ["IPY_MODEL_a"]}},
    {"a": {"": "Output", "outputs": [{"output_type": "display_data", "data": {offline.VIEW: {"model_id": "a"}}}]}}])
def test_a_missing_state_is_said_once(tmp_path, models):
    assert view(tmp_path, **{k: dict(v) for k, v in models.items()}).count("Save Widget State Automatically") == 1


# ---- running

WIDGETS = f"""
import io, ipywidgets as W, matplotlib.pyplot as plt, numpy as np, pandas as pd
from IPython.display import display
from PIL import Image
from tqdm.notebook import tqdm
%matplotlib inline
png = io.BytesIO(); Image.new("RGB", (60, 20), "red").save(png, "PNG")
out = W.Output()
with out:
    plt.figure(figsize=(3, 2)); plt.plot([1, 2]); plt.show()
for i in tqdm(range(3), desc="steps"):
    pass
display(pd.DataFrame({{"a": [1, 2]}}))
W.interact(lambda size, kind: print("area", size * size), size=(1, 9), kind=["car", {HOSTILE!r}])
W.VBox([W.HBox([W.Image(value=png.getvalue(), width=60), W.Text(value={HOSTILE!r}, description="name")]), W.Tab([out], titles=["figure"])])
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One notebook with every kind of thing, run and exported; (executed notebook, HTML, result)."""
    folder = tmp_path_factory.mktemp("report")
    Image.new("RGB", (8, 4), "blue").save(folder / "blue.png")
    text = "md:Loss $\\frac{a}{b}$ for $5:\n\n$$\\sum_{i=1}^N \\log p_i$$\n\n- \\(x\\)\n\n![blue](blue.png)"
    script = "<script type=module>document.getElementById(\\'live\\').textContent = \\'alive\\'</script>"
    live = f"from IPython.display import HTML\nHTML('<p id=live></p>{script}')"
    fails = "print(__import__('os').getcwd(), __import__('sys').executable); 1 / 0"
    source = save(folder / "01_all.ipynb", "# All of it\n\nThe first words.", text, WIDGETS, live, fails, "print('never')")
    before = source.read_bytes()
    with pytest.MonkeyPatch.context() as patch:  # another python3 kernel is first on the path; it cannot start
        (folder / "j/kernels/python3").mkdir(parents=True)
        (folder / "j/kernels/python3/kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "no", "language": "python"}))
        patch.setenv("JUPYTER_PATH", str(folder / "j"))
        seen = []
        result = report.run(source, folder / "x/01_all.ipynb", {"DETLIB_PROFILE": "smoke"}, on_cell=lambda *a: seen.append(a))
    assert source.read_bytes() == before and seen[0] == (1, 4) and seen[-1] == (3, 4)
    return report.export(result.executed, folder / "x/01_all.html"), result


def test_run_keeps_what_there_is_until_the_error(ran):
    html, result = ran
    assert result.error == "ZeroDivisionError: division by zero" and not result.ok and len(result.cell_seconds) == 3
    body = html.read_text().split("<body>")[1]
    assert body.count("ZeroDivisionError") >= 2 and '<pre class="stdout">never' not in body
    assert sys.executable in result.executed.read_text()  # this interpreter, whatever kernels are installed
    assert "smoke" in body and sys.executable not in body and str(html.parents[1]) not in body
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;"
    for text in ("size:</b> 5", "kind:</b> car", "area 25", "steps:", "<h5>figure</h5>", escaped, 'class="dataframe"'):
        assert text in body, text


def test_page_in_a_browser_without_network(ran):
    asked, errors = [], []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.route(re.compile("^https?:"), lambda route: route.abort())
        page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        page.on("pageerror", lambda error: errors.append(error))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.goto(ran[0].as_uri())
        page.wait_for_function("document.getElementById('live').textContent === 'alive'", timeout=5000)
        widths = page.evaluate("[...document.images].map(i => i.naturalWidth)")
        boxes = page.evaluate("[...document.querySelectorAll('math')].map(m => m.getBoundingClientRect()).map(r => [r.width, r.height])")
        text, overflow = page.inner_text("main"), page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert not asked and not errors
    assert len(widths) == 3 and min(widths) > 0  # markdown's, the Image widget's, the Output widget's
    assert len(boxes) == 3 and min(map(min, boxes)) > 2
    assert "$\\frac" not in text and "for $5:" in text and overflow <= 0


def test_a_dying_kernel_leaves_a_sentence(tmp_path):
    source = save(tmp_path / "n.ipynb", "print('first')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "print('third')")
    result = report.run(source, tmp_path / "x.ipynb")
    body = report.export(result.executed, tmp_path / "x.html").read_text()
    assert result.error.startswith("DeadKernelError") and "was killed (SIGKILL)" in body and "memory" in body
    assert '<pre class="stdout">first' in body and '<pre class="stdout">third' not in body


def test_a_slow_cell_is_stopped(tmp_path):
    result = report.run(save(tmp_path / "n.ipynb", "import time; time.sleep(60)"), tmp_path / "x.ipynb", timeout_per_cell=1)
    assert "longer than the 1 seconds" in result.error and "longer than" in result.executed.read_text()


def test_no_reply_is_slept_on(tmp_path):
    """An Output widget's state makes pyzmq miss about one reply in twenty; without a look at the socket, a cell waits forever."""
    cell = "@W.interact(x=(0, 9))\ndef f(x):\n    plt.figure(figsize=(2, 1)); plt.plot([1, x]); plt.show(); print(x)"
    first = "import ipywidgets as W, matplotlib.pyplot as plt\n%matplotlib inline"
    result = report.run(save(tmp_path / "n.ipynb", first, *[cell] * 60), tmp_path / "x.ipynb", timeout_per_cell=8)
    assert result.ok and len(result.cell_seconds) == 61 and max(result.cell_seconds) < 7


# ---- the workbook

COUNT = "import os\nwith open('log', 'a') as log:\n    log.write(os.environ['DETLIB_PROFILE'] + ' ')"


def test_an_unreadable_notebook_harms_no_other(tmp_path):
    """Nor does one that was done and cannot be read any more."""
    one, two = save(tmp_path / "01_a.ipynb", "1"), save(tmp_path / "02_b.ipynb", "2")
    assert report.workbook([one, two], tmp_path / "out", echo=lambda line: None) == 0
    save(one, "3")
    two.write_text("<<<<<<< merged")
    lines = []
    assert report.workbook([one, two], tmp_path / "out", echo=lines.append) == 1
    assert "01_a  done" in lines[0] and "02_b  failed" in lines[1]


def test_workbook_skips_names_and_goes_on(tmp_path):
    one = save(tmp_path / "01_a.ipynb", "# One & only\n\nAbout it.", COUNT, "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    bad = save(tmp_path / "02_b.ipynb", "# Two", "raise ValueError('<b>no</b>')")
    out, lines = tmp_path / "out", []
    assert report.workbook([bad, one], out, echo=lines.append) == 1
    assert "02_b" in lines[-1] and "ValueError" in (out / "02_b.html").read_text()
    page = (out / "index.html").read_text()
    assert "One &amp; only" in page and "About it." in page and "ValueError: &lt;b&gt;no" in page and "data:image/webp" in page
    assert (tmp_path / "log").read_text() == "laptop " and report.workbook([one], out, echo=lines.append) == 0
    assert (tmp_path / "log").read_text() == "laptop " and "unchanged" in lines[-2]
    (tmp_path / "my data").mkdir()
    assert report.workbook([one], out, data=str(tmp_path / "my data"), profile="smoke", echo=lines.append) == 0
    assert (tmp_path / "log").read_text() == "laptop smoke " and (out / "01_a+my_data+smoke.html").exists()
    assert (out / "index.html").read_text().count("<h2>") == 2
    save(one, "# One, changed", COUNT)
    assert report.workbook([one], out, echo=lines.append) == 0
    assert (tmp_path / "log").read_text() == "laptop smoke laptop " and "One, changed" in (out / "index.html").read_text()


def test_what_shows_other_runs_is_made_again_when_a_later_notebook_has_trained(tmp_path):
    shows = save(tmp_path / "01_a.ipynb", "# One", COUNT)
    book = nbformat.read(shows, as_version=4)
    book.metadata["detlib"] = {"shows_runs": ["LADDER", "*backbone=*"]}
    nbformat.write(book, shows)
    metrics = tmp_path / "home" / "outputs" / "runs" / "data" / "laptop" / "fpn" / "seed0" / "metrics.json"
    train = f"from pathlib import Path; p = Path({str(metrics)!r}); p.parent.mkdir(parents=True); p.write_text('1')"
    trains = save(tmp_path / "02_b.ipynb", "# Two", train)
    said, home = [], {"DETLIB_HOME": str(tmp_path / "home")}
    assert report.workbook([shows, trains], tmp_path / "out", environment=home, echo=said.append) == 0
    assert (tmp_path / "log").read_text() == "laptop laptop " and [line[:5] for line in said[:3]] == ["[1/2]", "[2/2]", "[1/2]"]
    assert report.workbook([shows, trains], tmp_path / "out", environment=home, echo=said.append) == 0
    assert (tmp_path / "log").read_text() == "laptop laptop ", "nothing new: nothing is run"
    for rung, count in (("fpn+steps=3", 2), ("fpn+backbone=mobilenet", 3), ("extended", 4)):
        (tmp_path / "home/outputs/runs/data/laptop" / rung / "seed0").mkdir(parents=True)
        (tmp_path / "home/outputs/runs/data/laptop" / rung / "seed0/metrics.json").write_text("1")
        assert report.workbook([shows, trains], tmp_path / "out", environment=home, echo=said.append) == 0
        assert (tmp_path / "log").read_text() == "laptop " * count, f"{rung}: only what the notebook shows makes it run again"


def test_an_unreadable_notebook_does_not_stop_the_others(tmp_path):
    (tmp_path / "01_a.ipynb").write_text("{")
    good = save(tmp_path / "02_b.ipynb", "# Good", "1")
    assert report.workbook([tmp_path / "01_a.ipynb", good], tmp_path / "out", echo=lambda text: None) == 1
    assert (tmp_path / "out/02_b.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_the_part_and_says_how_to_go_on(tmp_path):
    save(tmp_path / "01_a.ipynb", "# A", "1")
    save(tmp_path / "02_b.ipynb", "# B", "print('part')", "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(300)")
    call = ("import pathlib, signal, detlib.report as r; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # else ignored in a background
            "raise SystemExit(r.workbook(sorted(pathlib.Path().glob('*.ipynb')), pathlib.Path('out')))")
    with subprocess.Popen([sys.executable, "-u", "-c", call], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if (tmp_path / "begun").exists():
                break
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said, code = process.communicate(timeout=120)[0], process.returncode
    assert code == 130 and "Finished: 01_a (1 of 2)" in said
    body = (tmp_path / "out/02_b.html").read_text()
    assert '<pre class="stdout">part' in body and "KeyboardInterrupt</span>: the run was interrupted here" in body and "Traceback" not in body
    assert "interrupted" in (tmp_path / "out/index.html").read_text()


def test_folders_of_one_name_have_reports_of_their_own(tmp_path):
    """The second folder's name gets a few letters; each keeps its own when it is called again."""
    save(tmp_path / "01_a.ipynb", "import os\nprint(os.path.basename(os.path.dirname(os.environ['DETLIB_DATA'])))")
    out, places = tmp_path / "out", [tmp_path / "first" / "streets", tmp_path / "second" / "streets"]
    for place in [*places, *places]:
        place.mkdir(parents=True, exist_ok=True)
        assert report.workbook([tmp_path / "01_a.ipynb"], out, data=str(place), echo=lambda text: None) == 0
    pages = {page.name: page.read_text() for page in out.glob("01_a*.html")}
    assert len(pages) == 2 and "first" in pages["01_a+streets.html"]
    assert [bool(re.fullmatch(r"01_a\+streets-[0-9a-f]{6}\.html", name)) for name, body in pages.items() if "second" in body] == [True]


def test_what_the_reference_cannot_show_is_said_and_the_rest_goes_on(tmp_path):
    """A cell that needs weights that are not kept ends in its sentence; any other error stops the notebook, whatever the cell's tags say."""
    says = new_code_cell("from detlib.runs import NoWeights\nprint('before')\nraise NoWeights('Train it here.')")
    wrong = new_code_cell("1 / 0")
    for cell in (says, wrong):
        cell.metadata["tags"] = ["raises-exception"]
    save(tmp_path / "n.ipynb", says, "print('after')", wrong, "print('never')")
    result = report.run(tmp_path / "n.ipynb", tmp_path / "ran.ipynb")
    first, second, third, last = nbformat.read(result.executed, 4).cells
    assert [output.output_type for output in first.outputs] == ["stream", "stream"] and "Train it here." in first.outputs[1].text
    assert second.outputs and third.outputs[0].ename == "ZeroDivisionError" and not last.outputs
    assert result.error.startswith("ZeroDivisionError")
