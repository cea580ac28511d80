"""What each verb of the command line does; imports stand in the functions, so that `detlib --help` needs none of them."""
import json as _json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LISTED = 5  # findings of a kind that `check` prints
FIRST_SHARE = ("00", "03", "04", "08", "09")  # the notebooks that take half of the time when the reference is read


def check(folder: Path, json: bool, annotations_only: bool, **reading: object) -> int:
    """Print what is wrong with a data set: counts by kind, then the findings."""
    from .data.checks import check as look

    found = look(folder, pictures=not annotations_only, **reading)
    if json:
        print(_json.dumps({"images": found.images, "boxes": found.boxes, "classes": found.classes.to_dict(), "findings": found.listed()}))
        return 0
    print(f"{folder}: {found.images:,} pictures, {found.boxes:,} boxes, findings: {len(found.findings):,}\n\nboxes of each class\n"
          f"{found.classes.to_string()}")
    for kind, rows in found.findings.groupby("kind", sort=False):
        print(f"\n{kind}: {len(rows):,}\n  {rows['fix'].iloc[0]}")
        for row in rows.head(LISTED).itertuples():
            print(f"  - {row.split}, {row.file}{f', {row.annotation}' if row.annotation else ''}: {row.what}")
        if len(rows) > LISTED:
            print(f"  - and {len(rows) - LISTED:,} more: --json prints all")
    return 0


def bring(folder: Path, out: Path | None, name: str | None, panorama: bool, invalid: str | None, **reading: object) -> None:
    """Write a data set of any known form into data/ as the workbook's own."""
    from . import runs

    path = runs.import_data(folder, out, name=name, panorama=panorama, invalid=invalid or "raise", **reading)
    from .plots.data import class_counts, summary

    dataset = runs.open_dataset(path)
    print(f"{path}\n\n{summary(dataset, dataset.splits).to_string()}\n\nboxes of each class\n{class_counts(dataset.splits).to_string()}\n\n"
          f"Now: detlib check {path}; make workbook DATA={path}")


def explore(data: str | None, profile: str | None, invalid: str | None, out: Path | None, json: bool, **reading: object) -> None:
    """Draw the figures that need nothing but a data set, and print its summary."""
    from . import runs
    from .asked import Asked
    from .catalogue import EXPLORING, FIGURES, TABLES
    from .files import write_atomic

    asked = Asked(data, profile, invalid, reading=reading)
    out = out or runs.outputs() / "figures" / asked.dataset.name
    written = {name: out / f"{name}.png" for name in EXPLORING}
    for name, path in written.items():
        write_atomic(path, FIGURES[name].make(asked).png())
        if not json:
            print(f"{path}: {FIGURES[name].what}")
    summary = TABLES["summary"].make(asked)
    print(_json.dumps({"summary": summary.to_dict(), "figures": {name: str(path) for name, path in written.items()}}, default=str) if json
          else "\n" + summary.to_string())


def simulate(profile: str | None, out: Path | None, splits: list[str], seed: int, frames: int, processes: int | None) -> None:
    """Write simulated data of a profile's sizes."""
    from . import runs
    from .data import lidar
    from .experiments import PROFILES, profile_name

    name = profile_name(profile)
    sizes = PROFILES[name]
    folder = lidar.simulate(out or runs.home() / "data" / f"simulated-{name}", splits=tuple(splits), sensor=lidar.Sensor(**sizes.sensor), seed=seed,
                            clips=sizes.clips, frames_per_clip=frames, processes=processes, progress=runs.ProgressBar())
    print(folder)


def train(**options: Any) -> None:
    """Train rungs or the ladder, for one or several seeds."""
    from .train import train_rungs

    train_rungs(**options)


def rerun(run: Path, data: str | None, invalid: str | None, json: bool) -> int:
    """Train a finished run again from its record, and print what differs; 1 where something does."""
    from .rerun import rerun as again
    from .rerun import told

    found = again(run, data, invalid)
    print(_json.dumps(found) if json else told(found))
    return int(not found["identical"])


def cost(profile: str | None, measure: bool, json: bool) -> None:
    """Count parameters and anchors; measure what running takes."""
    import pandas as pd

    from .models.tables import costs

    rows = costs(profile)
    if measure:
        from .cost import measured

        print("Measuring each network once; this takes some minutes.", file=sys.stderr)
        rows = {name: rows[name] | found for name, found in measured(profile).items()}
    print(_json.dumps(rows) if json else pd.json_normalize(list(rows.values())).set_index(pd.Index(rows)).to_string(float_format="{:.1f}".format))


def anchors(action: str, file: Path, fit_on: Path | None, budget: int | None, objective: str, out: Path | None, invalid: str, json: bool,
            **options: str) -> None:
    """Coverage of an anchor set, or a fitted set and its coverage."""
    import time

    from .anchors import BASELINE, SPECS
    from .coverage import coverage
    from .data.folder import open_annotations
    from .fitting import fit_split, from_json, listing, split_boxes, to_json

    name, split = options["anchors"], open_annotations(file, invalid)
    counts = BASELINE.per_cell if budget is None else None
    start = time.perf_counter()
    if action == "fit":
        spec = fit_split(split, counts=counts, budget=budget, objective=objective)
        if out:
            to_json(spec, out, {"fitted to": file.name, "boxes": len(split.boxes), "image_hw": split.image_hw, "objective": objective})
    elif name == "fitted":
        if not fit_on:
            raise ValueError("--anchors fitted needs --fit-on TRAIN.json: a set is judged on other boxes than it was fitted to")
        spec = fit_split(open_annotations(fit_on, invalid), counts=counts, budget=budget, objective=objective)
    else:
        spec = SPECS[name] if name in SPECS else from_json(name)[0]
    found = coverage(spec, split_boxes(split), split.image_hw)
    result = {"recall@0.5": found.recall(0.5), "mean_iou": found.mean, "anchors": spec.count(spec.padded(split.image_hw)),
              "seconds": time.perf_counter() - start}
    if json:
        print(_json.dumps(result))
    else:
        print(listing(spec), *(f"{key}: {value:.3f}" if isinstance(value, float) else f"{key}: {value:,}" for key, value in result.items()),
              *([f"kept in {out}"] if action == "fit" and out else []), sep="\n")


def figure(name: str | None, out: Path | None, json: bool, **asked: Any) -> None:
    """Draw a figure of the catalogue."""
    from . import runs
    from .asked import Asked
    from .catalogue import FIGURES, entry, listing
    from .files import write_atomic

    if name is None:
        print(_json.dumps({key: value.what for key, value in FIGURES.items()}) if json else listing(FIGURES))
        return
    path = out or runs.outputs() / "figures" / f"{name}.png"
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {path}: figures are written as PNG; name a file that ends in .png")
    write_atomic(path, entry(FIGURES, name).make(Asked(**asked)).png())
    print(_json.dumps({"figure": str(path)}) if json else path)


def show(name: str | None, json: bool, **asked: Any) -> None:
    """Print a table of the catalogue, in Markdown's form."""
    from .asked import Asked
    from .catalogue import TABLES, entry, listing
    from .experiments import markdown_table

    if name is None:
        print(_json.dumps({key: value.what for key, value in TABLES.items()}) if json else listing(TABLES))
        return
    frame = entry(TABLES, name).make(Asked(**asked))
    if json:
        print(frame.to_json(orient="split") if hasattr(frame, "to_json") else _json.dumps({"markdown": frame}))
    else:
        print(frame if isinstance(frame, str) else markdown_table(frame))


def evaluate(run: Path, json: bool) -> None:
    """Print a finished run's metrics."""
    from .evaluate.coco import table
    from .predict import finished_run

    metrics = finished_run(run).metrics
    print(_json.dumps(metrics) if json else table(metrics).to_string())


def compare(run: list[Path], data: str | None, invalid: str | None, json: bool) -> None:
    """Print what the second of two finished runs gains on the first, and how sure that is."""
    from . import runs
    from .evaluate.compare import difference
    from .predict import finished_run

    first, second = (finished_run(folder) for folder in run)
    if first.config["data"]["val"] != second.config["data"]["val"]:
        raise ValueError(f"{first.folder} and {second.folder} were judged on different boxes ({first.config['data']['name']}, "
                         f"{second.config['data']['name']}): only runs on the same validation split can be compared")
    dataset = runs.open_data(data or runs.data_of(first), first.experiment.profile, invalid=invalid)
    found = difference([first], [second], dataset)
    print(_json.dumps({"first": found.first, "second": found.second, "difference": found.value, "low": found.low, "high": found.high,
                       "verdict": found.verdict}) if json else found.sentence)


def workbook(data: str | None, profile: str | None, invalid: str | None, seeds: str | None, notebooks: list[Path], of: str | None = None) -> int:
    """Run the notebooks and write the reports."""
    import os

    from . import apidoc, benchmark, reference, report, runs
    from .experiments import profile_name, seed_count

    data = data or os.environ.get("DETLIB_DATA") or "simulated"
    if data != "simulated":
        data = str(Path(data).expanduser().resolve())
    if data != "simulated" and not Path(data).is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder; name a data set's folder, or 'simulated'")
    notebooks = [_notebook(name, benchmark.notebooks()) for name in notebooks]
    if data != "simulated" and not notebooks:  # what is wrong with it is said once, before the first notebook
        runs.open_data(data, profile, invalid=invalid)
    given = {name: os.environ[name] for name in ("DETLIB_PRECISION", "DETLIB_INVALID") if name in os.environ}  # what a report depends on
    if invalid:
        given["DETLIB_INVALID"] = invalid
    if of or os.environ.get("DETLIB_RUNS"):
        given["DETLIB_RUNS"] = os.environ["DETLIB_RUNS"] = of or os.environ["DETLIB_RUNS"]
    if runs.reading_reference():
        dataset = runs.open_data(data, profile, invalid=invalid)
        seeds = seeds or str(reference.seeds_of(dataset, profile_name(profile)))
    given["DETLIB_SEEDS"] = str(seed_count(seeds))
    out = runs.home() / "outputs" / "reports"
    def beside(write: Callable[[Path], object]) -> None:
        try:
            write(out)
        except OSError as error:  # the reports do not need it
            print(error, file=sys.stderr)

    if runs.reading_reference() and not notebooks:
        code = _side_by_side(benchmark.notebooks(), ["--data", data, "--profile", profile_name(profile), "--seeds", given["DETLIB_SEEDS"],
                                                     *(["--invalid", invalid] if invalid else [])], lambda: beside(apidoc.write))
    else:
        code = report.workbook(notebooks or benchmark.notebooks(), out, data=data, profile=profile_name(profile), environment=given)
        if code != report.INTERRUPTED and (not notebooks or not (out / "api").is_dir()):
            beside(apidoc.write)
    beside(report.index)
    return code


def _side_by_side(notebooks: list[Path], options: list[str], meanwhile: Callable[[], object]) -> int:
    """Run notebooks by two processes of one thread: nothing is trained, so that none has to wait for another, and drawing takes one processor.

    Ctrl-C reaches both.
    """
    import contextlib
    import os
    import subprocess

    from .machine import devices, precision_here

    command = [sys.executable, "-m", "detlib.cli", "workbook", "--runs", "reference", *options]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "DETLIB_PRECISION": precision_here(devices()[-1])}
    shares = [[str(path) for path in notebooks if (path.stem[:2] in FIRST_SHARE) == first] for first in (True, False)]
    running = [subprocess.Popen([*command, *share], env=settings) for share in shares]
    with contextlib.suppress(KeyboardInterrupt):  # which they end by themselves
        meanwhile()
        for process in running:
            process.wait()
    return max(process.wait() for process in running)


def _notebook(asked: Path, known: list[Path]) -> Path:
    """A notebook by its file, its name, or its number."""
    if asked.is_file():
        return asked
    found = [path for path in known if asked.name in (path.name, path.stem, path.stem.split("_")[0], path.stem.split("_")[0].lstrip("0"))]
    if not found:
        raise FileNotFoundError(f"no such notebook: {asked}; there are {', '.join(path.stem for path in known)}")
    return found[0]


def reference(data: list[str], seeds: int) -> None:
    """Keep what is trained here as the reference run."""
    from . import machine, reference, runs
    from .evaluate.intervals import SCHEME, resampled_classes
    from .predict import finished_run

    datasets = [runs.open_data(name, "laptop", invalid="drop", needs=("train", "val", "train_extended"), images=False) for name in data]
    for dataset in datasets:
        for metrics in (runs.outputs() / "runs" / dataset.key / "laptop").glob("*/seed*/metrics.json"):
            resampled_classes(finished_run(metrics.parent), dataset)
        if dataset.name == "simulated":
            reference.pack_streets(dataset)
    for path in reference.pack(runs.outputs(), datasets, "laptop", machine.describe(), f"resamples{SCHEME}.npz", seeds):
        print(path)


def bench(names: list[str], quick: bool, json: bool) -> None:
    """Measure how fast things are, and write the page."""
    from .bench import page, turns

    entries = page.measure(names, quick)
    if json:
        print(_json.dumps(entries))
        return
    for entry in entries:
        missed = "" if page.BENCHMARKS[entry["name"]].reached(entry["value"]) else "  MISSED"
        print(f"{entry['name']:<24}{entry['value']:>10.3g} {entry['unit']:<9} {'at least' if entry['better'] == 'higher' else 'at most'} "
              f"{entry['goal']:g}{missed}")
    print(turns.folder() / "index.html")


def student(out: Path | None) -> None:
    """Copy the notebooks without their solutions; a copy that is there is kept, since it may hold answers."""
    import nbformat

    from . import benchmark, runs
    from .files import write_atomic

    out = out or runs.outputs() / "student"
    for notebook in benchmark.notebooks():
        path = out / notebook.name
        if path.exists():
            print(f"kept as it is: {path} (delete it to have it anew)", file=sys.stderr)
            continue
        book = nbformat.read(notebook, as_version=4)
        book.cells = [cell for cell in book.cells if "solution" not in cell.metadata.get("tags", [])]
        write_atomic(path, nbformat.writes(book))
    print(out)


def report(notebook: Path, out: Path | None) -> None:
    """Export one notebook as it stands."""
    from . import runs
    from .offline import export

    print(export(notebook, out or runs.outputs() / "exports" / f"{notebook.stem}.html"))


def predict(run: Path, source: str | None, split: str | None, invalid: str | None, draw: bool, score: float | None, out: Path | None,
            json: bool) -> None:
    """Write what a run finds on pictures, a video or a split."""
    from . import apply, runs
    from .predict import finished_run

    found = finished_run(run)
    if not source and not split:
        raise ValueError("name a picture, a folder of pictures or a video file; or a split of a data set with --split")
    place = runs.outputs() / "predictions" / _of(run)
    if split:
        dataset = runs.open_data(source, found.experiment.profile, invalid=invalid)
        written = apply.predict_split(found, dataset, split, out or place / f"{dataset.name}-{split}", draw, score)
    else:
        assert source
        written = apply.predict_source(found, source, out or place / Path(source).name, draw, score)
    _tell(written, json)


def video(run: list[Path], of: Path | None, data: str | None, invalid: str | None, split: str, clip: str | None, score: float | None,
          out: Path | None) -> None:
    """Write a clip with the boxes of one or several runs."""
    from . import apply, runs
    from .predict import finished_run

    if of and (data or clip):
        raise ValueError("--of films a file or folder of yours, --data and --clip a clip of the data: give one or the other")
    found = [finished_run(folder) for folder in run]
    name = "+".join(dict.fromkeys(one.experiment.rung for one in found))
    out = out or runs.outputs() / "videos" / f"{name}-{of.stem if of else clip or split}.mp4"
    if of:
        print(apply.footage_video(found, of, out, score))
    else:
        dataset = runs.open_data(data or runs.data_of(found[0]), found[0].experiment.profile, invalid=invalid)
        print(apply.clip_video(found, dataset, split, clip, out, score))


def export(what: str, run: Path, data: str | None, invalid: str | None, split: str, out: Path | None, json: bool) -> None:
    """Write a run's detections as COCO results, its detector as ONNX, or a data set in another form."""
    from . import apply, runs
    from .predict import finished_run

    if what != "onnx" and not (what == "coco" and (run / "config.json").is_file()):  # which a run has, and a data set has not
        out = out or runs.outputs() / "exports" / f"{run.resolve().name}-{what}"
        lost = runs.export_data(run, what, out, invalid or "raise")
        _tell({"folder": str(out), "not in this form": lost if json else "; ".join(lost) or "nothing is lost"}, json)
        return
    found = finished_run(run)
    dataset = runs.open_data(data or runs.data_of(found), found.experiment.profile, invalid=invalid)
    place = runs.outputs() / "exports" / _of(run)
    if what == "coco":
        _tell(apply.export_results(found, dataset, split, out or place / f"{dataset.name}-{split}_results.json"), json)
    else:
        _tell(apply.export_model(found, dataset, split, out or place / "onnx"), json)


def _of(run: Path) -> Path:
    """Data, profile, rung and seed of a run's folder, as they follow each other below outputs/runs."""
    return Path(*run.resolve().parts[-4:])


def _tell(result: dict, json: bool) -> None:
    print(_json.dumps(result) if json else "\n".join(f"{key}: {value}" for key, value in result.items()))
