"""Runs notebooks, keeps what each showed as an offline page, and an index of all of them."""
import asyncio
import base64
import hashlib
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatch
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import zmq
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from PIL import Image

from . import __version__, offline, runs
from .ahead import Ahead, at_once
from .experiments import LADDER
from .files import alive, write_atomic
from .offline import duration, export, title

__all__ = ["Result", "export", "index", "run", "workbook"]

DEFAULTS = ("simulated", "laptop")  # data and profile that a report's name does not mention
REFERENCE = " (reference)"  # behind the name of the data
INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended
PATIENCE = 10  # seconds a cell has to end after Ctrl-C, so that training can write its checkpoint
THUMBNAIL = (640, 300)


@dataclass(frozen=True)
class Result:
    """How a notebook ran; `error` is the last line of what stopped it, or None."""

    executed: Path
    seconds: float
    cell_seconds: tuple[float, ...]  # one a code cell that was started
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Every cell ran."""
        return self.error is None


def run(notebook: Path, executed: Path, environment: dict[str, str] | None = None, timeout_per_cell: float | None = None,
        on_cell: Callable[[int, int], None] | None = None) -> Result:
    """Execute a copy of `notebook` in a fresh kernel of this interpreter and write it, with widget state, to `executed`.

    `on_cell(cell, cells)` is called when a code cell starts and then every second. Whatever stops the run (an error, a dead
    kernel, Ctrl-C, which is raised again as KeyboardInterrupt), `executed` holds what there is until then, the reason included.
    """
    notebook, executed, environment = Path(notebook), Path(executed), dict(environment or {})
    book = nbformat.read(notebook, as_version=4)
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.perf_counter()
    error: str | None = "interrupted"
    try:
        error = asyncio.run(_execute(book, notebook.resolve().parent, environment, timeout_per_cell, on_cell or (lambda cell, cells: None)))
    finally:
        seconds = time.perf_counter() - start
        book.metadata["detlib"] = {
            "data": Path(environment.get("DETLIB_DATA", "")).name, "profile": environment.get("DETLIB_PROFILE", ""), "version": __version__,
            "date": datetime.now().isoformat(timespec="seconds"), "seconds": round(seconds, 2),
            "folder": os.path.relpath(notebook.resolve().parent, executed.resolve().parent)}
        write_atomic(executed, nbformat.writes(book))
    times = tuple(c.metadata["detlib"]["seconds"] for c in book.cells if "seconds" in c.metadata.get("detlib", {}))
    return Result(executed, seconds, times, error)


async def _execute(book: nbformat.NotebookNode, folder: Path, environment: dict[str, str], timeout: float | None,
                   on_cell: Callable[[int, int], None]) -> str | None:
    """Run the code cells of `book` in place; returns the error that stopped it, or None."""
    # Without folders to look into, the only kernel it knows is the one of sys.executable.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(book, km=manager, timeout=timeout, store_widget_state=True, record_timing=False, force_raise_errors=True,
                            extra_arguments=["--log-level=ERROR"], resources={"metadata": {"path": str(folder)}})
    client.reset_execution_trackers()
    codes = [(i, cell) for i, cell in enumerate(book.cells) if cell.cell_type == "code" and cell.source.strip()]
    cell = codes[0][1] if codes else nbformat.v4.new_code_cell()
    try:  # not client.async_setup_kernel(), which makes Ctrl-C a dead kernel; here asyncio.run() cancels
        await client.async_start_new_kernel(env={**os.environ, **environment})
        await client.async_start_new_kernel_client()
        for number, (i, cell) in enumerate(codes, start=1):
            try:
                await _cell(client, manager, cell, i, partial(on_cell, number, len(codes)))
            except CellExecutionError as failure:
                if failure.ename != runs.NoWeights.__name__:
                    raise
                cell.outputs = [o for o in cell.outputs if o.output_type != "error"] + [nbformat.v4.new_output("stream", text=f"{failure.evalue}\n")]
        return None
    except CellExecutionError as failure:
        return _line(f"{failure.ename}: {failure.evalue}")
    except CellTimeoutError:
        return _note(cell, "CellTimeoutError", f"this cell took longer than the {timeout:g} seconds that it was given")
    except DeadKernelError:
        return _note(cell, "DeadKernelError", _why_dead(await manager.provisioner.poll() if manager.provisioner else None))
    except RuntimeError as failure:
        return _note(cell, type(failure).__name__, f"the Python process of this notebook did not start: {failure}")
    finally:
        client.set_widgets_metadata()
        if client.kc:
            client.kc.stop_channels()
        if manager.has_kernel and await manager.is_alive():
            await manager.shutdown_kernel()
        await manager.cleanup_resources()


async def _cell(client: NotebookClient, manager: AsyncKernelManager, cell: nbformat.NotebookNode, i: int, on_second: Callable[[], None]) -> None:
    assert client.kc is not None  # started by now
    start = time.perf_counter()
    task = asyncio.ensure_future(client.async_execute_cell(cell, i, execution_count=client.code_cells_executed + 1))
    try:
        while not task.done():
            on_second()
            await asyncio.wait({task}, timeout=1)
            # nbclient sends an Output widget's state past asyncio, and pyzmq may then sleep on a reply that is there: look once.
            client.kc.shell_channel.socket.get(zmq.EVENTS)
        await task
    except asyncio.CancelledError:  # Ctrl-C: the kernel is told, and the report gets a sentence in place of its traceback
        await manager.interrupt_kernel()
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # looked at, so that asyncio does not print it
        cell.outputs = [o for o in cell.outputs if o.output_type != "error" or o.ename != "KeyboardInterrupt"]
        if not task.done() or not any(output.output_type == "error" for output in cell.outputs):
            _note(cell, "KeyboardInterrupt", "the run was interrupted here")
        raise
    finally:
        cell.metadata["detlib"] = {"seconds": round(time.perf_counter() - start, 2)}


def _why_dead(code: int | None) -> str:
    killed = f"was killed ({signal.Signals(-code).name})" if code and code < 0 else f"ended{'' if code is None else f' (exit code {code})'}"
    memory = " Most often this means that the memory was used up: try a smaller profile or batch." if code == -signal.SIGKILL else ""
    return f"the Python process of this notebook {killed} while this cell ran.{memory} The cells below did not run."


def _note(cell: nbformat.NotebookNode, name: str, sentence: str) -> str:
    shown = [f"\x1b[1m{name}\x1b[0m: {sentence}"]
    cell.setdefault("outputs", []).append(nbformat.v4.new_output("error", ename=name, evalue=sentence, traceback=shown))
    return _line(f"{name}: {sentence}")


def _line(text: str, length: int = 200) -> str:
    text = next((line for line in strip_ansi(text).splitlines() if line.strip()), "")
    return text if len(text) <= length else text[:length - 1] + "…"


@dataclass(frozen=True)
class Entry:
    """What the index knows of one notebook with one choice of data and profile."""

    name: str  # of its files, without their endings
    data: str
    profile: str
    title: str
    about: str = ""
    status: str = "waiting"  # waiting, running, done, failed, interrupted
    error: str = ""
    seconds: float = 0.0
    when: str = ""
    key: str = ""
    thumbnail: str = ""  # base64 of a WebP
    process: int = field(default_factory=os.getpid)  # who wrote this
    kept: bool = False  # unchanged in the last call, so it was not run again
    place: str = ""  # of a data folder: which of several with one name it is


def workbook(notebooks: list[Path], out: Path, data: str = DEFAULTS[0], profile: str = DEFAULTS[1],
             environment: dict[str, str] | None = None, echo: Callable[[str], None] = print) -> int:
    """Bring the reports of `notebooks` in `out` up to date; returns 0, 1 if one failed, 130 after Ctrl-C.

    They run one at a time, in order, but that one may be overtaken that waits for its trainings, which go on beside (`ahead`). `data` is
    `simulated` or a folder. What is unchanged since it was done (its code, detlib, `environment`, the data's tables)
    is not run again, so that calling again goes on where a call stopped.
    """
    notebooks, out = [Path(n) for n in notebooks], Path(out)
    places = 1 if (environment or {}).get("DETLIB_RUNS") == "reference" else at_once(profile, environment)
    where = str(Path(data).resolve()) if Path(data).is_dir() else data
    environment = {**(environment or {}), "DETLIB_DATA": where, "DETLIB_PROFILE": profile}
    label = re.sub(r"[^\w.-]+", "_", Path(where).name) or "data"
    which = hashlib.sha256(where.encode()).hexdigest()[:6] if where != DEFAULTS[0] else ""
    if any(entry.place not in ("", which) for entry in _entries(out) if entry.data.removesuffix(REFERENCE) == label):
        label = f"{label}-{which}"  # another folder of this name has its reports here
    suffix = "".join(f"+{value}" for value, default in zip((label, profile), DEFAULTS, strict=True) if value != default)
    if environment.get("DETLIB_RUNS") == "reference":
        suffix, label = f"{suffix}+reference", f"{label}{REFERENCE}"
    entries: dict[Path, Entry] = {}
    for notebook in notebooks:
        entry = _read(out, notebook.stem + suffix)
        if entry is None or entry.status in ("running", "interrupted"):
            status = "interrupted" if entry else "waiting"
            entry = Entry(notebook.stem + suffix, label, profile, notebook.stem, status=status, place=which)
        entries[notebook] = _keep(out, replace(entry, kept=False, **_headline(notebook)))
    index(out)
    again = [notebook for notebook in notebooks if _runs_key(notebook, environment)]  # at the end, where a later notebook has trained something
    with Ahead(places, where, environment, echo) as ahead:
        left = list(notebooks)
        while left or again:
            notebook = left[0] if left else again.pop(0)
            if not left and (entries[notebook].status != "done" or entries[notebook].key.endswith(_runs_key(notebook, environment))):
                continue
            progress = _Progress(echo, notebook, notebooks)
            try:
                if left and not _unchanged(notebook, entries[notebook], out, environment, where):
                    notebook = ahead.next([n for n in left if not _unchanged(n, entries[n], out, environment, where)], progress.says)
                    progress = _Progress(echo, notebook, notebooks)
                entries[notebook] = _one(notebook, entries[notebook], out, environment, where, progress, ahead)
            except KeyboardInterrupt:
                entries[notebook] = replace(_read(out, entries[notebook].name) or entries[notebook], status="interrupted")
            except Exception as failure:  # one unreadable notebook must not stop the others
                entries[notebook] = replace(entries[notebook], status="failed", key="", error=_line(f"{type(failure).__name__}: {failure}"))
            left = [n for n in left if n != notebook]
            entry = _keep(out, entries[notebook])
            index(out)
            took = "" if entry.status == "interrupted" else duration(entry.seconds)
            progress.last(f"{entry.status}{', unchanged' if entry.kept else ''}  {took}  {entry.error}".rstrip())
            if entry.status == "interrupted":
                ahead.close()
                done = [n.stem for n in notebooks if entries[n].status == "done"]
                echo(f"Interrupted. Finished: {', '.join(done) or 'none'} ({len(done)} of {len(notebooks)}). Calling again goes on from there.")
                return INTERRUPTED
    failed = [n.stem for n in notebooks if entries[n].status != "done"]
    echo(f"Failed: {', '.join(failed)}; the error is in the report. " * bool(failed) + f"Reports: {out / 'index.html'}")
    return int(bool(failed))


def _one(notebook: Path, entry: Entry, out: Path, environment: dict[str, str], data: str, progress: "_Progress", ahead: Ahead) -> Entry:
    executed, html = out / ".executed" / f"{entry.name}.ipynb", out / f"{entry.name}.html"
    if _unchanged(notebook, entry, out, environment, data):
        if not html.exists() or html.stat().st_mtime < max(executed.stat().st_mtime, Path(offline.__file__).stat().st_mtime):
            export(executed, html)
        return replace(entry, kept=True)
    key, trained = _key(notebook, environment, data), ahead.trained
    entry = _keep(out, replace(entry, status="running", error="", kept=False, process=os.getpid()))
    index(out)

    def on_cell(cell: int, cells: int) -> None:
        progress.says(f"cell {cell}/{cells}")
        ahead.look(beside=notebook)

    try:
        result = run(notebook, executed, environment | ahead.settings(notebook), on_cell=on_cell)
    finally:
        if sys.exc_info()[0] is KeyboardInterrupt and executed.exists():
            export(executed, html)
    export(executed, html)
    key += _runs_key(notebook, environment)
    ahead.look(notebook)
    if ahead.trained != trained:  # it may have come after what shows it: made again at the end
        key = key.partition("-")[0]
    return replace(entry, status="done" if result.ok else "failed", error=result.error or "", seconds=result.seconds,
                   key=key, when=datetime.now().isoformat(timespec="seconds"), thumbnail=_thumbnail(executed))


def _unchanged(notebook: Path, entry: Entry, out: Path, environment: dict[str, str], data: str) -> bool:
    """Whether a notebook's report is done, and would be the same again."""
    if entry.status != "done" or not (out / ".executed" / f"{entry.name}.ipynb").exists():
        return False
    try:
        return entry.key == _key(notebook, environment, data) + _runs_key(notebook, environment)
    except Exception:  # it cannot be read: running it reports what is wrong
        return False


def _key(notebook: Path, environment: dict[str, str], data: str) -> str:
    """Changes when anything changes that the outputs depend on: code, environment, detlib, Python, the data's tables."""
    cells = [[c.cell_type, c.source] for c in nbformat.read(notebook, as_version=4).cells]
    package = Path(__file__).parent
    exempt = {Path(__file__), Path(offline.__file__), *(package / name for name in ("ahead.py", "apidoc.py", "cli.py", "verbs.py"))}
    sources = [[str(f.relative_to(package)), hashlib.sha256(f.read_bytes()).hexdigest()] for f in sorted(package.rglob("*"))
               if f.suffix in (".py", ".js", ".css", ".json") and f not in exempt and f.parent.name != "bench"]  # what changes no outputs is left out
    tables = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(Path(data).glob("*.json"))] if Path(data).is_dir() else []
    facts = [cells, sorted(environment.items()), sources, __version__, sys.version, tables]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def _runs_key(notebook: Path, environment: dict[str, str]) -> str:
    """Changes when a training is finished that a notebook shows: of the rungs that its metadata's `detlib.shows_runs` lists, patterns among them
    and LADDER for all rows of the ladder; empty for a notebook that shows none but its own."""
    try:
        shown = nbformat.read(notebook, as_version=4).metadata.get("detlib", {}).get("shows_runs")
    except Exception:  # it cannot be read: running it reports what is wrong
        return ""
    if not shown:
        return ""
    patterns = [*shown, *(name for name, _ in LADDER if "LADDER" in shown)]
    folder = Path(environment.get("DETLIB_HOME") or runs.home()) / "outputs" / "runs"
    finished = [[str(f), f.stat().st_mtime_ns] for f in sorted(folder.glob("*/*/*/*/metrics.json"))
                if any(fnmatch(f.parent.parent.name, pattern) for pattern in patterns)]
    return "-" + hashlib.sha256(json.dumps(finished).encode()).hexdigest()[:12]


def _headline(notebook: Path) -> dict[str, Any]:
    """Title and first paragraph of a notebook."""
    try:
        book = nbformat.read(notebook, as_version=4)
    except Exception:  # it is shown under its file's name; running it reports what is wrong
        return {"title": notebook.stem}
    text = "\n\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    plain = [p for p in re.split(r"\n\s*\n", text) if re.match(r"[^\W\d_]|[*_`\"'(]\w", p.strip())]
    about = re.sub(r"[*`]|!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(plain[0].split())) if plain else ""
    return {"title": title(book, notebook.stem), "about": _line(re.sub(r"\$[^$]*\$", "…", about), 170)}


def _thumbnail(executed: Path) -> str:
    """The first PNG of a cell tagged `thumbnail`, else of the notebook; shrunk, as base64."""
    book = nbformat.read(executed, as_version=4)
    states = book.metadata.get("widgets", {}).get(offline.STATE, {}).get("state", {})
    cells = sorted((c for c in book.cells if c.cell_type == "code"), key=lambda c: "thumbnail" not in c.metadata.get("tags", []))
    inside = [o for s in states.values() for o in s.get("state", {}).get("outputs") or []]
    for output in [*(o for c in cells for o in c.outputs), *inside]:
        if png := output.get("data", {}).get("image/png"):
            picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
            white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
            white.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
            white.save(file := io.BytesIO(), "WEBP", quality=86)
            return base64.b64encode(file.getvalue()).decode()
    return ""


def _read(out: Path, name: str) -> Entry | None:
    try:
        return Entry(**json.loads((out / ".executed" / f"{name}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, cut short, or of another version: it is made again
        return None


def _entries(out: Path) -> list[Entry]:
    return [entry for file in sorted((out / ".executed").glob("*.json")) if (entry := _read(out, file.stem))]


def _keep(out: Path, entry: Entry) -> Entry:
    write_atomic(out / ".executed" / f"{entry.name}.json", json.dumps(asdict(entry)))
    return entry


class _Progress:
    """One line about one notebook: rewritten in place on a terminal, every half minute elsewhere."""

    def __init__(self, echo: Callable[[str], None], notebook: Path, notebooks: list[Path]):
        self.echo, self.start, self.said = echo, time.monotonic(), time.monotonic()
        self.name = f"[{notebooks.index(notebook) + 1}/{len(notebooks)}] {notebook.stem:<{max(len(n.stem) for n in notebooks)}}"
        self.live = echo is print and sys.stdout.isatty()

    def says(self, what: str) -> None:
        text = f"{self.name}  {what}  {duration(time.monotonic() - self.start)}"
        if self.live:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif time.monotonic() - self.said > 30:
            self.said = time.monotonic()
            self.echo(text)

    def last(self, text: str) -> None:
        self.echo(("\r\x1b[K" if self.live else "") + f"{self.name}  {text}")


INDEX_STYLE = """
.cover{max-width:1240px;margin:0 auto;padding:3rem 1.6rem 5rem}.cover h1{margin:0;font-size:2.3rem}
.cover>p{color:var(--soft);margin:.4rem 0 0;max-width:46em}
.cover h2{border:0;margin:2.6rem 0 .2rem;padding:0;font-size:1.25rem}
.cover h2 small{font-weight:400;color:var(--soft);font-size:.85rem;margin-left:.6rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:1.3rem;margin-top:1rem}
.card{display:flex;flex-direction:column;border:1px solid var(--rule);border-radius:10px;overflow:hidden;color:inherit;background:#fff;
break-inside:avoid}
a.card:hover{text-decoration:none;border-color:#9db4cc;box-shadow:0 3px 14px #1f3b5a1f}
.shot{height:140px;padding:.6rem;background:#f7f8fa;border-bottom:1px solid var(--rule);display:flex;align-items:center;
justify-content:center}
.shot img{max-width:100%;max-height:100%;object-fit:contain;mix-blend-mode:multiply}
.shot span{font-size:2.2rem;font-weight:600;color:#cdd5de}
.text{padding:.8rem 1rem .9rem;display:flex;flex-direction:column;gap:.35rem;flex:1}.text b{font-size:1.02rem;line-height:1.3}
.text p{margin:0;font-size:.83rem;line-height:1.45;color:var(--soft)}
.text .error{color:#b3261e;overflow-wrap:anywhere;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:4;overflow:hidden}
.state{margin-top:auto;padding-top:.4rem;font-size:.75rem;color:var(--soft);display:flex;align-items:center;gap:.4rem}
.state i{width:.6rem;height:.6rem;border-radius:50%;background:#c9d0d8;flex:none}
.done i{background:#2e8b57}.failed i{background:#d1453b}.running i{background:#1f6feb}.interrupted i{background:#d9930d}
"""
SAY = {"waiting": "not run yet", "running": "running now", "interrupted": "interrupted: run it again to go on"}


def index(out: Path) -> Path:
    """Rewrite `out/index.html` from what is kept beside the executed notebooks: a group of cards for each data and profile."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in _entries(Path(out)):
        if entry.status == "running" and not alive(entry.process):
            entry = replace(entry, status="interrupted")
        groups.setdefault((entry.data, entry.profile), []).append(entry)
    order = sorted(groups, key=lambda group: (group != DEFAULTS, group))
    body = "".join(f"<h2>{escape(_heading(data, profile))}<small>{_sum(groups[data, profile])}</small></h2>"
                   f'<div class="cards">{"".join(_card(e, Path(out)) for e in sorted(groups[data, profile], key=lambda e: e.name))}</div>'
                   for data, profile in order)
    api = ' · <a href="api/detlib.html">what every function does</a>' if (Path(out) / "api" / "detlib.html").exists() else ""
    head = f"<h1>Object detection workbook</h1><p>Every notebook as it ran, to read without Python or a network. detlib {__version__}{api}</p>"
    path = Path(out) / "index.html"
    write_atomic(path, offline.page("Object detection workbook", f'<div class="cover">{head}{body}</div>', INDEX_STYLE))
    return path


def _heading(data: str, profile: str) -> str:
    name = data.removesuffix(REFERENCE)
    return f"{name} data, {profile} profile" + (", with the trainings of the reference run" if name != data else "")


def _sum(entries: Iterable[Entry]) -> str:
    entries = list(entries)
    return f"{sum(e.status == 'done' for e in entries)} of {len(entries)} done, {duration(sum(e.seconds for e in entries))} in all"


def _card(entry: Entry, out: Path) -> str:
    number = re.match(r"\d+", entry.name)
    shot = f"<span>{number[0] if number else '·'}</span>"
    if entry.thumbnail:
        shot = f'<img src="data:image/webp;base64,{entry.thumbnail}" alt="">'
    when = f"{datetime.fromisoformat(entry.when):%d %b %H:%M}" if entry.when else ""
    ran = f"{duration(entry.seconds)}{', unchanged since ' if entry.kept else ', run '}{when}"
    state = SAY.get(entry.status) or (f"failed after {duration(entry.seconds)}, run {when}" if entry.status == "failed" else ran)
    error = f'<p class="error">{escape(entry.error)}</p>' if entry.error else ""
    inner = (f'<div class="shot">{shot}</div><div class="text"><b>{escape(entry.title)}</b><p>{escape(entry.about)}</p>{error}'
             f'<div class="state {entry.status}"><i></i>{state}</div></div>')
    page = out / f"{entry.name}.html"
    return f'<a class="card" href="{quote(page.name, safe="+")}">{inner}</a>' if page.exists() else f'<div class="card">{inner}</div>'
