"""All figures: measured by name, kept as json, and shown on one page."""
import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from .. import machine, offline, plots
from ..files import write_atomic, write_json
from . import equal_steps, growth, judging, loading, training, waiting
from .turns import ROUNDS, Benchmark, NotMeasured, folder

PACE = "this is no ratio: it is the processor's speed too, which on a shared machine changes from hour to hour"
BENCHMARKS = {b.name: b for b in (
    Benchmark("training_r18", "a training step of the laptop profile against float32 in the default layout", "times", 2, "higher", training.small),
    Benchmark("training_r50", "the same with ResNet-50 and whole panoramas", "times", 2.5, "higher", training.large),
    Benchmark("torchvision", "a training step against torchvision's RetinaNet with the same backbone", "times", 3, "higher", training.torchvision),
    Benchmark("side_by_side", "trainings side by side, as a workbook trains, against one after another", "times", machine.WORTH, "higher",
              training.side_by_side),
    Benchmark("loader_first", "batches with targets in the first epoch against decoding and matching image by image", "times", 3, "higher",
              loading.first_epoch),
    Benchmark("loader_cached", "the same in later epochs", "times", 20, "higher", loading.later_epochs),
    Benchmark("waiting_share", "of a training step spent waiting for data, in the first epoch", "%", 3, "lower", loading.waiting,
              cause="pictures are there when they are asked for (they are read ahead); what is left is cropping, flipping and stacking them"),
    Benchmark("metrics_per_class", "all metrics against pycocotools once for each class", "times", 8, "higher", judging.per_class),
    Benchmark("metrics_once", "all metrics against pycocotools once", "times", 3, "higher", judging.once),
    Benchmark("inference", "decoding and NMS as a share of the forward pass", "%", 10, "lower", judging.finding,
              cause="of the steps behind the network, NMS takes one thread, and the others are too small to gain from a second one"),
    Benchmark("simulator_core", "simulated panoramas a second on one core", "frames/s", 40, "higher", waiting.simulator_core, cause=PACE),
    Benchmark("simulator_files", "simulated panoramas a second as files, on all cores", "frames/s", 40, "higher", waiting.simulator_files,
              cause=PACE),
    Benchmark("coverage_ms", "the best anchor of every box", "ms", 15, "lower", waiting.coverage_ms),
    Benchmark("studio_ms", "from the move of a slider to the new picture", "ms", 50, "lower", waiting.studio_ms),
    Benchmark("import_seconds", "import detlib", "s", 0.3, "lower", waiting.importing),
    Benchmark("help_seconds", "detlib --help", "s", 0.5, "lower", waiting.helping),
    Benchmark("opening_seconds", "all that is kept of the ladder's finished runs, opened", "s", 1, "lower", waiting.opening),
    Benchmark("map_float32", "mAP after equal steps, against the same in float32", "times", 0.95, "higher", equal_steps.against_float32, slow=True),
    Benchmark("map_torchvision", "mAP after equal steps, against torchvision's RetinaNet", "times", 1, "higher", equal_steps.against_torchvision,
              slow=True),
    Benchmark("workbook_minutes", "make workbook from nothing, laptop profile", "min", 45, "lower", waiting.workbook_minutes, slow=True,
              cause="three quarters of the processors' time are trainings of 1,000 steps and three validations each, two at once; the rest is mostly "
              "the audit, what is measured alone, and figures; and " + PACE),
    Benchmark("workbook_again_seconds", "make workbook where nothing has changed", "s", 60, "lower", waiting.workbook_again, slow=True))}
GROWTH = "growth"
STYLE = """.bench{max-width:1180px;margin:0 auto;padding:24px}.bench img{width:100%;background:#fff}
.bench table{border-collapse:collapse;width:100%}
.bench td,.bench th{padding:5px 10px;text-align:left;border-bottom:1px solid #8884;vertical-align:top}
.bench td.missed{color:#D55E00;font-weight:600}"""


def names(asked: Sequence[str]) -> list[str]:
    """The figures that are meant: those named, or all but the slow ones; raises ValueError for an unknown name."""
    known = [*BENCHMARKS, GROWTH]
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"no benchmark {', '.join(unknown)}: there are {', '.join(known)}")
    return list(asked) or [name for name in known if name == GROWTH or not BENCHMARKS[name].slow]


def measure(asked: Sequence[str], quick: bool = False) -> list[dict]:
    """Measure these figures, keep each as it is done, rewrite summary and page, and return the summary; `quick`: two rounds instead of ROUNDS."""
    rounds = 2 if quick else ROUNDS
    for name in names(asked):
        print(f"{name} ...", file=sys.stderr, flush=True)
        about = {"when": datetime.now().isoformat(timespec="seconds"), "machine": machine.describe(), "rounds asked": rounds}
        if name == GROWTH:
            table = growth.growth(rounds=1 if quick else 3)
            write_json(folder() / "growth.json", {**about, "table": table.to_dict("records"), "slopes": growth.slopes(table).to_dict("index")})
            continue
        try:
            found = BENCHMARKS[name].measure(rounds)
            write_json(folder() / f"{name}.json", {**about, "value": found.value, **asdict(found)})
        except NotMeasured as reason:
            write_json(folder() / f"{name}.json", {**about, "value": None, "rounds": [], "parts": {}, "said": str(reason)})
    return page()


def kept(name: str) -> dict | None:
    """What was measured last, or None."""
    path = folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def summary() -> list[dict]:
    """One entry a figure that has a value, as other programs read it."""
    return [{"name": b.name, "value": found["value"], "unit": b.unit, "goal": b.goal, "better": b.better, "runs": found["rounds"]}
            for b in BENCHMARKS.values() if (found := kept(b.name)) and found["value"] is not None]


def page() -> list[dict]:
    """Write summary.json and index.html from what is kept, and return the summary."""
    entries = summary()
    write_json(folder() / "summary.json", entries)
    rows = "".join(_row(b, found) for b in BENCHMARKS.values() if (found := kept(b.name)))
    parts = ["<h1>How fast it is</h1><p>Each figure was measured in turn with what it is compared with, in one run; the value is the median round ("
             "mAP after equal steps: of trainings, one after the other). "
             f"Again: <code>detlib bench NAME</code>. {escape(machine.describe())}.</p>"]
    if entries:
        parts.append(_picture(plots.goals(entries), "each figure against its goal"))
    parts.append(f"<table><tr><th>name</th><th>what</th><th>median</th><th>least to most</th><th>goal</th><th>measured on</th></tr>{rows}</table>")
    if found := kept(GROWTH):
        table = pd.DataFrame(found["table"])
        parts.append("<h2>Growth</h2><p>Slopes are exponents between the two largest sizes: 1 is linear, 0 is no growth. Sorting costs n log n, "
                     "and arrays that the processor's cache cannot hold cost more: both add hundredths to an exponent, as does a slow minute.</p>"
                     + _picture(plots.growth(table, growth.slopes(table)), "seconds and memory against the size"))
    write_atomic(folder() / "index.html", offline.page("How fast it is", f'<div class="bench">{"".join(parts)}</div>', STYLE))
    return entries


def _row(b: Benchmark, found: dict) -> str:
    sign = "≥" if b.better == "higher" else "≤"
    if found["value"] is None:
        value, spread, state = "not measured", "", ""
    else:
        value, spread = f"{found['value']:.3g} {b.unit}", f"{min(found['rounds']):.3g} to {max(found['rounds']):.3g}"
        state = "" if b.reached(found["value"]) else "missed"
    of = "; ".join(f"{name} {np.median(values):.3g} s" for name, values in found["parts"].items())
    said = ". ".join(text for text in (found["said"], of, found["when"].replace("T", " "), b.cause if state else "") if text)
    cells = "".join(f"<td>{escape(text)}</td>" for text in (spread, f"{sign} {b.goal:g}", said))
    return f'<tr><td><code>{b.name}</code></td><td>{escape(b.what)}</td><td class="{state}">{escape(value)}</td>{cells}</tr>'


def _picture(figure: Any, text: str) -> str:
    png = base64.b64encode(figure.png()).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{png}">'
