"""A notebook as it stands -> one HTML file that asks nothing of the network: widgets as what they showed, formulas as MathML."""
import base64
import html as htmllib
import json
import mimetypes
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

import ipywidgets
import nbformat
from latex2mathml.converter import convert
from nbconvert.filters import Highlight2HTML, ansi2html, strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath, MathBlockParser, MathInlineParser
from traitlets import HasTraits

from . import __version__
from .files import tidy, write_atomic

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# The browser itself refuses what an output might still ask of the network.
POLICY = ("default-src 'none'; img-src data: blob:; media-src data: blob:; font-src data:; style-src 'unsafe-inline' data:; "
          "script-src 'unsafe-inline' 'unsafe-eval' data: blob:; worker-src data: blob:; connect-src data: blob:; frame-src data: blob:")
NOT_SAVED = ('<p class="note">The state of this widget was not saved in the notebook, so what it showed is missing here. In JupyterLab: '
             "<em>Settings → Save Widget State Automatically</em>, run the cell again, save the notebook, export again.</p>")
EMPTY = '<p class="note">This widget was empty when the notebook was saved.</p>'
# An anywidget lives on: its own module draws it, from the state that was saved, with a stand-in for the model that JupyterLab would give it.
ALIVE = """<div id="%(id)s">An interactive part, which needs JavaScript.</div><script type="module">
const bytes = text => Uint8Array.from(atob(text.split(",")[1]), c => c.charCodeAt(0));
const state = JSON.parse(new TextDecoder().decode(bytes("%(state)s")));
for (const [path, data] of %(buffers)s) path.slice(0, -1).reduce((at, key) => at[key], state)[path.at(-1)] = new DataView(bytes(data).buffer);
const heard = {}, tell = (event, ...more) => [...heard[event] ?? []].forEach(call => call(...more));
const model = {get: name => state[name], save_changes() {}, send() {},
  set(name, value) { if (state[name] !== value) { state[name] = value; tell("change:" + name); tell("change"); } },
  on(event, call) { (heard[event] ??= []).push(call); }, off(event, call) { heard[event] = (heard[event] ?? []).filter(other => other !== call); }};
const el = document.getElementById("%(id)s");
try {
  const module = (await import("data:text/javascript;%(esm)s")).default, widget = typeof module === "function" ? await module() : module;
  el.textContent = "";
  await widget.initialize?.({model, offline: true});
  await widget.render({model, el, offline: true});
} catch (error) { el.textContent = "This part did not start: " + error; }
</script>"""
ANSI = {"black": "#3e424d", "red": "#c2342b", "green": "#0a7d3c", "yellow": "#9a6700", "blue": "#1f6feb", "magenta": "#a0399a",
        "cyan": "#0e7c86", "white": "#8a8f98"}
STYLE = """
:root{--ink:#1f2328;--soft:#5f6872;--rule:#e3e6ea;--code:#f6f7f9;--link:#0b5cad;--column:1024px}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;
font:17px/1.62 Inter,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",Arial,sans-serif}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
code,pre{font-family:"JetBrains Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.82em}
main{padding:1.2rem 1.5rem 5rem}main>*,.out>*{max-width:var(--column);margin-inline:auto}main>.out{max-width:none}
.meta{display:flex;flex-wrap:wrap;gap:.2rem 1.3rem;font-size:.8rem;color:var(--soft);padding-bottom:.6rem;
border-bottom:1px solid var(--rule)}
.meta a{font-weight:600}
.md>*{max-width:50em}.md>table,.md>figure,.md>pre,.md>.highlight,.md>p:has(>img:only-child){max-width:100%}
h1,h2,h3,h4{line-height:1.25;letter-spacing:-.01em;margin:2em 0 .6em;text-wrap:balance}h1{font-size:2.1rem;margin-top:1.1em}
h2{font-size:1.5rem;padding-top:.9em;border-top:1px solid var(--rule)}h3{font-size:1.2rem}h4{font-size:1rem}
.anchor{visibility:hidden;margin-left:.4em;color:#b3bac2}:is(h1,h2,h3,h4):hover .anchor{visibility:visible}
blockquote{margin:1em 0;padding:.1em 1.1em;border-left:3px solid #c9d3de;color:#3d464f}
img,video,canvas,svg{max-width:100%;height:auto}
.md code,.note code{background:var(--code);padding:.1em .35em;border-radius:4px}.md pre code{background:none;padding:0}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.5}
.code,.md pre{background:var(--code);border-radius:6px;padding:.65rem .95rem;margin-block:1rem .7rem}
.code{border-left:3px solid #b9c6d6}
.md .highlight pre{margin:0}.time{float:right;margin:-.3rem -.25rem .1rem 1rem;font-size:.72rem;color:#8a929b}
summary{cursor:pointer;color:var(--soft);font-size:.85rem}
.out{margin-block:.3rem 1.4rem}.out>*{margin-block:.6rem}.out pre{color:#30363d}
.out pre.stderr{background:#fdf7ec;border-radius:6px;padding:.5rem .9rem}
.out pre.error{background:#fdf1f0;border-left:3px solid #d1453b;border-radius:6px;padding:.65rem .95rem}
@media screen{.out pre:not(.error){max-height:34rem;overflow:auto}}
.wide{width:fit-content;min-width:min(var(--column),100%);max-width:100%!important;overflow-x:auto}.wide img{display:block}
.plain{font-size:.88rem;overflow-wrap:anywhere}
table{border:0;border-collapse:collapse;font-size:.86rem;line-height:1.4;margin:1rem 0;font-variant-numeric:tabular-nums}
.wide>table,.wide>div>table{margin:.2rem 0}
main th,main td{padding:.32rem .8rem;border:0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
main thead th{border-bottom:1.5px solid #aab4bf;white-space:nowrap}table.dataframe :is(th,td){text-align:right}
table.dataframe tbody th{text-align:left;font-weight:500;color:var(--soft)}tbody tr:hover{background:#f8fafc}
math{font-family:"STIX Two Math","Latin Modern Math","Cambria Math","DejaVu Math TeX Gyre",math;
font-size:1.08em}[mathvariant^=bold]{font-weight:700}
mtd[columnalign=right]{text-align:right}mtd[columnalign=left]{text-align:left}
math[display=block]{margin:1em 0;overflow-x:auto;overflow-y:hidden}
.note{color:var(--soft);font-size:.86rem;background:#f7f8fa;border:1px dashed #c6cdd5;border-radius:6px;padding:.6rem .9rem}
.widget{width:min(var(--column),100%);overflow-x:auto}
.widget :is(.note,pre,p){max-width:var(--column)}
.row{display:flex;flex-wrap:wrap;gap:.35rem .7rem;align-items:center}
.box>*{margin-block:.35rem}.row>*{margin-block:0;max-width:100%}
.chip,.button{display:inline-block;width:fit-content;font-size:.8rem;background:#f0f2f5;color:#4c555f;border:1px solid #dde1e6;
border-radius:5px;padding:.06rem .6rem}
.chip+.chip{margin-left:.3rem}.row>.chip{margin-left:0}.chip b{font-weight:600;color:#2e353c}.button{background:#e7eaee;border-radius:4px}
.live{font-size:.74rem;color:#858d96;font-style:italic}
.pane{border:1px solid var(--rule);border-radius:6px;padding:.3rem .9rem .6rem;margin-block:.6rem}
.pane>h5{margin:.3rem 0 .4rem;font-size:.85rem;color:var(--soft)}
progress{width:14rem;height:.7rem;accent-color:#2f6fb0;vertical-align:middle}
nav.toc{font-size:.86rem;line-height:1.4;margin-top:1rem;columns:2 20rem}nav.toc a{display:block;padding:.16rem 0;color:#3d4b5a}
nav.toc .l3{padding-left:1rem;color:var(--soft)}
@media(min-width:1500px){main.has-toc{margin-left:270px}
nav.toc{position:fixed;left:0;top:0;bottom:0;width:270px;margin:0;padding:1.6rem 1rem 2rem 1.6rem;overflow-y:auto;columns:auto;
border-right:1px solid var(--rule);background:#fbfcfd}}
.highlight .c,.highlight .c1,.highlight .cm{color:#6a737d;font-style:italic}.highlight :is(.k,.kn,.kc,.kd,.ow){color:#8b2f97}
.highlight .o{color:#57606a}
.highlight :is(.s,.s1,.s2,.sa,.sd,.si,.se){color:#0a6b3d}.highlight :is(.mi,.mf,.mh){color:#0b5cad}
.highlight :is(.nf,.nc,.nd,.fm){color:#7a4b00}.highlight :is(.nb,.bp){color:#1b6c8a}
@media print{body{font-size:10.5pt}main,main.has-toc{padding:0;margin:0}nav.toc,.anchor,.meta a{display:none}
.code,.out img,.out table{break-inside:avoid}h1,h2,h3{break-after:avoid}}
.ansi-bold{font-weight:600}
""" + "".join(f".ansi-{name}-fg,.ansi-{name}-intense-fg{{color:{c}}}.ansi-{name}-bg{{background:{c}22}}\n" for name, c in ANSI.items())


def export(notebook: Path, html: Path) -> Path:
    """Write `notebook` with the outputs and widget positions it has now as one self-contained page; nothing is executed."""
    notebook, html = Path(notebook), Path(html)
    try:
        book = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = "no such notebook" if isinstance(error, FileNotFoundError) else f"not a notebook ({type(error).__name__} {str(error)[:120]})"
        raise ValueError(f"{notebook}: {what}; name an .ipynb file, such as notebooks/02_baseline.ipynb") from None
    made = book.metadata.get("detlib", {})
    folder = (notebook.parent / made.get("folder", ".")).resolve()  # an executed copy lies elsewhere than the pictures it names
    body = _Body(book, folder, suffix="+".join(["", *html.stem.split("+")[1:]]))
    cells = "\n".join(filter(None, map(body.cell, book.cells)))
    when = made.get("date") or datetime.fromtimestamp(notebook.stat().st_mtime).isoformat()
    when = f"{datetime.fromisoformat(when):%d %b %Y, %H:%M}"
    ran = f"ran in {duration(made['seconds'])}" if "seconds" in made else ""
    facts = filter(None, [made.get("data"), made.get("profile"), when, ran, f"detlib {made.get('version', __version__)}"])
    back = '<a href="index.html">← All notebooks</a>' if (html.parent / "index.html").exists() else ""
    meta = back + "".join(f"<span>{htmllib.escape(fact)}</span>" for fact in facts)
    links = [(level, htmllib.escape(anchor), text) for level, anchor, text in body.headings if level in (2, 3)]
    toc = "".join(f'<a class="l{level}" href="#{anchor}">{text}</a>' for level, anchor, text in links)
    nav = f'<nav class="toc" aria-label="Contents">{toc}</nav>' if toc else ""
    main = f'<main{" class=has-toc" if toc else ""}><header class="meta">{meta}</header>\n{nav}\n{cells}</main>'
    tidy(html.parent)
    write_atomic(html, without_paths(page(title(book, notebook.stem), main), folder))
    return html


def page(title: str, body: str, style: str = "") -> str:
    """A complete HTML document that the browser keeps off the network; `title` is text, `body` is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<title>{htmllib.escape(title)}</title><style>{STYLE}{style}</style></head>
<body>{body}</body></html>
"""


def title(book: nbformat.NotebookNode, otherwise: str) -> str:
    """The notebook's first heading as plain text."""
    found = re.search(r"^#{1,6}\s+(.+?)\s*#*$", "\n".join(c.source for c in book.cells if c.cell_type == "markdown"), re.M)
    return re.sub(r"[*`$]|\\(?=\W)", "", found[1]) if found else otherwise


def without_paths(text: str, folder: Path) -> str:
    """Shorten this machine's absolute paths: the project's become relative, home is `~`, of any other the name remains."""
    root = Path(__file__).resolve().parents[1]
    tops = "|".join(re.escape(p.name) for p in Path("/").iterdir() if p.is_dir())
    rules = [(r"/\w+/ipykernel_\d+/\d+\.py", "&lt;cell&gt;"), (r"(?:/[\w.@+-]+)+/(?=site-packages/|lib/python3)", "")]
    for place, short in ((root, "."), (folder, "."), (Path.home(), "~")):
        if len(place.parts) > 1:
            start = rf"(?<![\w.~/]){re.escape(str(place))}"
            rules += [(f"{start}/(?=[\\w.])", "" if short == "." else "~/"), (rf"{start}(?![\w.-])", short)]
    rules.append((rf"(?<![\w.~/])/(?:{tops})(?:/[\w.@+%~-]+)*/([\w.@+%~-]+)", r"…/\1"))
    parts = re.split(r"(base64,[A-Za-z0-9+/=]+)", text)
    for pattern, short in rules:
        parts[::2] = [re.sub(pattern, short, part) for part in parts[::2]]
    return "".join(parts)


def mathml(tex: str, block: bool = False) -> str:
    """A formula as MathML; one that cannot be converted is shown as its source."""
    source = re.sub(r"\\mathrm\{(\w)\}", r"\\text{\1}", re.sub(r"\b(?:aligned|align|gathered|multline)\*?(?=\})", "split", tex.strip()))
    try:
        if re.sub(r"\\[{}]", "", source).count("{") != re.sub(r"\\[{}]", "", source).count("}"):
            raise ValueError("unbalanced braces")
        out = convert(source, display="block" if block else "inline")
        if "\\" in out or "<mi>&</mi>" in out or "<mrow />" in out:
            raise ValueError("unknown command")
    except Exception:  # the converter raises many kinds, and a formula must not stop a report
        return f'<code class="formula">{htmllib.escape(tex.strip())}</code>'
    functions = r"(?<!<msub>)(?<!<msup>)(?<!<msubsup>)(<mi>(?:log|ln|exp|sin|cos|tan|arg|det|dim)</mi>)(?=<m(?:i|n|sub|sup|frac|sqrt)\b)"
    return re.sub(functions, r'\1<mspace width="0.167em"/>', out)


class _Blocks(MathBlockParser):
    """Display formulas that begin a line; those inside a line are the inline parser's, which knows code spans."""

    SPECIFICATION: ClassVar = {**MathBlockParser.SPECIFICATION, "multiline_math": (
        r"^ {0,3}(?s:\$\$.+?\$\$|\\{1,2}\[.+?\\{1,2}\]|\\begin\{(?P<math_env_name>[a-z]*\*?)\}.*?\\end\{(?P=math_env_name)\})")}


class _Inlines(MathInlineParser):
    r"""`$x$` as pandoc reads it, so that $5 and $6 are prices; \( \) and \[ \] with one backslash or two."""

    SPECIFICATION: ClassVar = {**MathInlineParser.SPECIFICATION,
                               "block_math_latex": r"(?s:\\{1,2}\[(?P<math_block_latex>.+?)\\{1,2}\])",
                               "inline_math_latex": r"(?s:\\{1,2}\((?P<math_inline_latex>.+?)\\{1,2}\))",
                               "inline_math_tex": r"(?<![$\\])\$(?![\s$])(?P<math_inline_tex>(?:\\.|[^$\\`])+?)(?<!\s)\$(?![\d$])"}


class _Renderer(IPythonRenderer):
    """Markdown of one cell, within the page `body`."""

    def __init__(self, body: "_Body", attachments: dict):
        super().__init__(escape=False)
        self.body, self.attachments = body, attachments

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(body if name.startswith("equation") else f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    def heading(self, text: str, level: int, **attrs: object) -> str:
        anchor = base = re.sub(r"\s+", "-", htmllib.unescape(re.sub(r"<[^>]+>", "", text)).strip())  # as JupyterLab names them
        taken = {a for _, a, _ in self.body.headings}
        for count in range(2, len(taken) + 3):
            if anchor not in taken:
                break
            anchor = f"{base}-{count}"
        self.body.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        anchor = htmllib.escape(anchor)
        return f'<h{level} id="{anchor}">{text}<a class="anchor" href="#{anchor}" aria-hidden="true">#</a></h{level}>\n'

    def block_mermaidjs(self, code: str) -> str:
        return f"<pre><code>{htmllib.escape(code)}</code></pre>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        name = unquote(url.removeprefix("attachment:"))
        for kind, data in self.attachments.get(name, {}).items() if url.startswith("attachment:") else ():
            url = f"data:{kind};base64,{_text(data)}"
        return self.body.embed(f'<img src="{htmllib.escape(url)}" alt="{text}"' + (f' title="{htmllib.escape(title)}">' if title else ">"))

    def link(self, text: str, url: str, title: str | None = None) -> str:
        url = re.sub(r"^([^/:?#]+)\.ipynb(?=#|$)", lambda m: m[1] + quote(self.body.suffix, safe="+") + ".html", url)
        return super().link(text, url, title)

    def block_html(self, html: str) -> str:
        return self.body.embed(html)

    inline_html = block_html


class _Body:
    """Turns cells into HTML; knows the widget states, the folder that relative names start from, and the headings so far."""

    def __init__(self, book: nbformat.NotebookNode, folder: Path, suffix: str = ""):
        self.states = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
        self.folder, self.suffix, self.alive = folder, suffix, 0
        self.headings: list[tuple[int, str, str]] = []
        self.within: list[str] = []
        self.highlight = Highlight2HTML(pygments_lexer="ipython3")

    def cell(self, cell: nbformat.NotebookNode) -> str:
        """One cell; nothing for a raw or an empty one."""
        if cell.cell_type == "markdown":
            return f'<section class="md">{self.markdown(cell.source, cell.get("attachments", {}))}</section>'
        if cell.cell_type != "code" or not (cell.source.strip() or cell.outputs):
            return ""
        seconds = cell.metadata.get("detlib", {}).get("seconds", 0)
        spent = f'<span class="time">{duration(seconds)}</span>' if seconds >= 1 else ""
        code, lines = self.highlight(cell.source.strip("\n")), cell.source.strip("\n").count("\n") + 1
        if lines > 30:
            code = f"<details><summary>{lines} lines of code</summary>{code}</details>"
        code = f'<div class="code">{spent}{code}</div>' if cell.source.strip() else ""
        shown = code + (f'\n<div class="out">{self.outputs(cell.outputs)}</div>' if cell.outputs else "")
        return f"<details><summary>Solution</summary>{shown}</details>" if "solution" in cell.metadata.get("tags", []) else shown

    def markdown(self, source: str, attachments: dict | None = None) -> str:
        """Markdown -> HTML."""
        parser = MarkdownWithMath(_Renderer(self, attachments or {}), block=_Blocks(), inline=_Inlines(hard_wrap=False))
        return parser.render(source)

    def outputs(self, outputs: list) -> str:
        """All outputs of a cell or of an Output widget; neighbouring pieces of one stream are joined."""
        joined: list[dict] = []
        for output in outputs:
            if joined and output["output_type"] == "stream" and output.get("name") == joined[-1].get("name"):
                joined[-1]["text"] = _text(joined[-1]["text"]) + _text(output["text"])
            else:
                joined.append(dict(output))
        return "\n".join(map(self.output, joined))

    def output(self, output: dict) -> str:
        """One output, in the richest form that works without a kernel."""
        if output["output_type"] == "stream":
            lines = re.sub("\x1b\\[[0-9;]*[A-HJK]", "", _text(output["text"])).rstrip().split("\n")  # cursor moves
            text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
            return f'<pre class="{htmllib.escape(output.get("name", ""))}">{ansi2html(text)}</pre>' if text.strip() else ""
        if output["output_type"] == "error":
            trace = "\n".join(output.get("traceback") or [f"{output['ename']}: {output['evalue']}"])
            return f'<pre class="error">{ansi2html(trace)}</pre>'
        data = {kind: _text(value) for kind, value in output.get("data", {}).items()}
        if "text/html" in data:
            html = re.sub(r"<td[^>]*>[^<]*</td>", _intervals, data["text/html"])
            return f'<div class="{"wide" if "<" in html else "plain"}">{self.embed(html)}</div>'
        for kind in PICTURES:
            if kind in data:
                size = output.get("metadata", {}).get(kind, {})
                return _picture(kind, data[kind], {k: size[k] for k in ("width", "height") if k in size}, _alt(data.get("text/plain", "")))
        if "image/svg+xml" in data:
            return _picture("image/svg+xml", base64.b64encode(data["image/svg+xml"].encode()).decode(), {}, "figure")
        if VIEW in data:
            return self.view(data[VIEW]["model_id"])
        if "text/markdown" in data:
            return f'<div class="md">{self.markdown(data["text/markdown"])}</div>'
        if "text/latex" in data:
            return f"<div>{mathml(re.sub(r'^[$ ]+(?:.displaystyle)?|[$ ]+$', '', data['text/latex'].strip()), block=True)}</div>"
        plain = data.get("text/plain") or f"[{', '.join(data) or 'nothing'}: this output shows only in JupyterLab]"
        return f"<pre>{ansi2html(str(plain))}</pre>"

    def embed(self, html: str) -> str:
        """Put the files that HTML names into it; what lies on the network becomes a link, a missing file a sentence."""
        def tag(found: re.Match) -> str:
            source = re.search(r"""\s(src|href|data|poster)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", found[0], re.I)
            url = htmllib.unescape(next(filter(None, source.groups()[1:]), "")) if source else ""
            if not url or url.startswith(("data:", "blob:", "#")):
                return found[0]
            file = self.folder / unquote(url.removeprefix("file://"))
            if source and not re.match(r"(\w+:)?//", url) and file.is_file():
                return found[0].replace(source[0], f' {source[1]}="{_data_url(file)}"')
            if found[1].lower() in ("script", "link"):
                return f"<{found[1]} data-left-out>"
            alt = re.search(r"""\salt=["']([^"']+)""", found[0])
            shown = link = htmllib.escape(url)
            if "//" in url:
                shown = f'<a href="{link}">{link}</a>'
            place = "on the network" if "//" in url else "file not found"
            return f'<span class="note">{alt[1] if alt else found[1]}: {shown} ({place})</span>'
        pattern = re.compile(r"<(img|script|link|iframe|video|audio|source|embed|object)\b[^>]*>", re.I)
        parts = re.split(r"(?is)(<script\b[^>]*>)(.*?)(?=</script>)", html)  # text, tag, script, text, tag, script, ..., text
        return "".join(part if i % 3 == 2 else pattern.sub(tag, part) for i, part in enumerate(parts))

    def view(self, model_id: str) -> str:
        """What a widget showed when the notebook was saved; never an empty place."""
        shown = self.widget(model_id)
        if self.within:
            return shown
        if re.search('class="(chip|button)', shown):
            shown += '<div class="live">live in JupyterLab</div>'
        return f'<div class="widget">{shown or EMPTY}</div>'

    def widget(self, model_id: str) -> str:
        """One widget and what it contains; empty if it showed nothing."""
        if model_id not in self.states or model_id in self.within:
            return NOT_SAVED
        self.within.append(model_id)
        live = "_esm" in self.states[model_id].get("state", {})
        shown = self._alive(self.states[model_id]) if live else self._shown(*self._state(model_id))
        self.within.pop()
        return shown

    def _alive(self, entry: dict) -> str:
        """An anywidget with all it needs: its module, the state it was saved in, and the bytes that lie apart from that."""
        self.alive += 1
        state = {name: value for name, value in entry["state"].items() if not name.startswith("_")}
        buffers = [[buffer["path"], f"base64,{re.sub(chr(10), '', buffer['data'])}"] for buffer in entry.get("buffers", [])]
        style = f"<style>{entry['state']['_css']}</style>" if entry["state"].get("_css") else ""
        return style + ALIVE % {"id": f"alive-{self.alive}", "state": _base64(json.dumps(state)), "esm": _base64(entry["state"]["_esm"]),
                                "buffers": json.dumps(buffers).replace("<", "\\u003c")}

    def _shown(self, name: str, state: dict) -> str:
        name, value = name.removesuffix("Model"), state.get("value")
        label = str(state.get("description") or "").strip().rstrip(":") or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
        if "children" in state:
            return self._container(name, state)
        if name == "Output":
            return self.outputs(state.get("outputs") or [])
        if name in ("Image", "Video", "Audio"):
            return _media(name.lower(), state)
        if name in ("HTML", "HTMLMath", "Label"):
            text = str(value or "")
            text = htmllib.escape(text) if name == "Label" else re.sub(r"<(?=/?script\b)", "&lt;", text, flags=re.I)
            if name != "HTML":
                text = re.sub(_Inlines.SPECIFICATION["inline_math_tex"], lambda m: mathml(htmllib.unescape(m[1])), text)
            described = f"<b>{htmllib.escape(label)}</b> " if state.get("description") else ""
            return f"<div>{described}{self.embed(text)}</div>" if text.strip() else ""
        if name in ("IntProgress", "FloatProgress"):
            low, high, now = (float(state.get(k) or 0) for k in ("min", "max", "value"))
            bar = f'<progress max="{high - low:g}" value="{now - low:g}" title="{now:g} of {high:g}"></progress>'
            return f"<span>{htmllib.escape(label)} {bar} <small>{now:g} of {high:g}</small></span>" if state.get("description") else bar
        if name == "Button":
            return f'<span class="button">{htmllib.escape(str(state.get("description") or state.get("icon") or "button"))}</span>'
        return f'<span class="chip"><b>{htmllib.escape(label)}:</b> {htmllib.escape(_value(name, state))}</span>'

    def _container(self, name: str, state: dict) -> str:
        children = [str(child).removeprefix("IPY_MODEL_") for child in state["children"] or []]
        if name == "Stack":
            children = children[state["selected_index"]:][:1] if state.get("selected_index") is not None else []
        layouts = {c: str(self._state(c)[1].get("layout")).removeprefix("IPY_MODEL_") for c in children}
        parts = [self.widget(c) if self._state(layouts[c])[1].get("display") != "none" else "" for c in children]
        if name in ("Tab", "Accordion"):
            titles = [*(state.get("titles") or ()), *[""] * len(parts)]
            titles = [htmllib.escape(text or f"{name} {number}") for number, text in enumerate(titles[:len(parts)], start=1)]
            return "".join(f'<div class="pane"><h5>{text}</h5>{part}</div>' for text, part in zip(titles, parts, strict=True))
        if NOT_SAVED in parts:
            parts = list(dict.fromkeys(parts))  # said once
        return f'<div class="box{" row" if name in ("HBox", "Box", "GridBox") else ""}">{"".join(parts)}</div>' if any(parts) else ""

    def _state(self, model_id: str) -> tuple[str, dict]:
        """Class name and full state: JupyterLab leaves defaults out, and bytes lie apart in `buffers`."""
        entry = self.states.get(model_id, {})
        state = {**_defaults(entry.get("model_name", "")), **entry.get("state", {})}
        for buffer in entry.get("buffers", []):
            if len(buffer["path"]) == 1:
                state[buffer["path"][0]] = base64.b64decode(buffer["data"])
        return entry.get("model_name") or state.get("_model_name", ""), state


@cache
def _defaults(model_name: str) -> dict:
    cls = getattr(ipywidgets, model_name.removesuffix("Model"), None)
    if not (isinstance(cls, type) and issubclass(cls, HasTraits)):
        return {}
    plain = (str, int, float, bool, list, tuple, type(None))
    return {name: trait.default_value for name, trait in cls.class_traits(sync=True).items() if isinstance(trait.default_value, plain)}


def _value(name: str, state: dict) -> str:
    value, labels, index = state.get("value"), state.get("_options_labels"), state.get("index")
    if name == "Password":
        return "•••"
    if labels is not None:
        chosen = index if isinstance(index, list | tuple) else [] if index is None else [index]
        return (" – " if "Range" in name else ", ").join(str(labels[i]) for i in chosen if i < len(labels)) or "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict) and {"year", "month", "date"} <= value.keys():
        return f"{value['year']}-{value['month'] + 1:02}-{value['date']:02}"  # the browser counts months from 0
    if isinstance(value, list | tuple):
        return (" – " if "Range" in name else ", ").join(_value(name, {**state, "value": v}) for v in value) or "–"
    if isinstance(value, int | float):
        try:
            return format(value, state.get("readout_format") or "")
        except ValueError:  # d3 knows formats that Python does not
            return f"{value:g}"
    if value is None and "value" not in state:
        return "an interactive widget, shown only in JupyterLab"
    return "–" if value in (None, "", b"") else str(value)


def _media(kind: str, state: dict) -> str:
    data, form = state.get("value") or b"", state.get("format") or {"image": "png", "video": "mp4", "audio": "mpeg"}[kind]
    data = data.encode() if isinstance(data, str) else data
    if not data or form == "url":
        return f'<p class="note">{kind}: {htmllib.escape(bytes(data).decode(errors="replace")) or "no data"}</p>'
    source = f"data:{kind}/{ {'svg': 'svg+xml', 'jpg': 'jpeg'}.get(form, form)};base64,{base64.b64encode(data).decode()}"
    size = "".join(f' {k}="{int(state[k])}"' for k in ("width", "height") if str(state.get(k) or "").isdigit())
    source = f'src="{htmllib.escape(source)}"{size}'
    return f'<img alt="picture of a widget" {source}>' if kind == "image" else f"<{kind} controls {source}></{kind}>"


def _intervals(cell: re.Match) -> str:
    """A table's cell, its intervals never broken by the end of a line."""
    return re.sub(r"(\[[-+\d.]+,) (?=[-+\d.]+\])", "\\1\N{NO-BREAK SPACE}", cell[0])


def _picture(kind: str, data: str, size: dict, alt: str) -> str:
    attributes = "".join(f' {k}="{int(v)}"' for k, v in size.items())
    return f'<div class="wide"><img src="data:{kind};base64,{re.sub(chr(10), "", data)}" alt="{htmllib.escape(alt)}"{attributes}></div>'


def _alt(plain: str) -> str:
    return "figure" if plain.startswith("<") or not plain else strip_ansi(plain)[:100]


def _data_url(file: Path) -> str:
    return f"data:{mimetypes.guess_type(file.name)[0] or 'application/octet-stream'};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _base64(text: str) -> str:
    return f"base64,{base64.b64encode(text.encode()).decode()}"


def _text(value: str | list | dict) -> Any:
    return "".join(value) if isinstance(value, list) else value


def duration(seconds: float) -> str:
    """12 s, 3.4 min, 1 h 20 min."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
