"""The command line: `detlib VERB`."""
import argparse
import json as _json
import sys
from pathlib import Path

LISTED = 5  # findings of a kind that `check` prints


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; errors that a user can mend are one sentence on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="detlib", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    def data_and_profile(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
        sub.add_argument("--profile", help="smoke, laptop or report (default: DETLIB_PROFILE, else laptop)")
        sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")

    sub = verb("simulate", simulate, "make a simulated data set")
    sub.add_argument("--profile", help="whose sizes to take (default: DETLIB_PROFILE, else laptop)")
    sub.add_argument("--out", type=Path, help="folder (default: data/simulated-PROFILE)")
    sub.add_argument("--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="train, val, train_extended (default: train val)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--frames", type=int, default=10, help="frames a clip (default: 10)")
    sub.add_argument("--processes", type=int, help="default: one for each core")

    sub = verb("train", train, "train a rung of the ladder, or all of it, or go on where training stopped")
    sub.add_argument("rung", help="baseline, adam, flip, ..., or LADDER")
    data_and_profile(sub)
    sub.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    sub.add_argument("--seeds", help="how many seeds from there on (default: DETLIB_SEEDS, else 1); with LADDER also those that one row is "
                                     "compared with itself on")
    sub.add_argument("--init", type=Path, metavar="RUN", help="start from the weights of this finished run, which may have other classes")
    sub.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", dest="changes", help="change fields, such as weights=imagenet")

    for name, what in (("figure", "draw a figure"), ("table", "print a table")):
        sub = verb(name, figure if name == "figure" else show, f"{what} of the notebooks; without a name, list them")
        sub.add_argument("name", nargs="?", help="its name in the list")
        data_and_profile(sub)
        sub.add_argument("--rungs", nargs="+", default=[], metavar="RUNG", help="of these rungs; changed fields as in fpn+weights=imagenet")
        sub.add_argument("--seeds", help="how many seeds of each rung (default: DETLIB_SEEDS, else 1)")
        sub.add_argument("--split", default="train", help="of this split, where one is shown (default: train)")
        sub.add_argument("--frame", type=int, help="this frame of it (default: the one with the most boxes)")
        if name == "figure":
            sub.add_argument("--out", type=Path, help="a PNG file (default: outputs/figures/NAME.png)")
        sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("cost", cost, "parameters and anchors of every rung, counted without data")
    sub.add_argument("--profile", help="smoke, laptop or report (default: DETLIB_PROFILE, else laptop)")
    sub.add_argument("--measure", action="store_true", help="also arithmetic, memory, latency and throughput of fresh networks on simulated frames")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("anchors", anchors, "how well an anchor set covers the boxes of a COCO json, or a set fitted to them; pictures are not needed")
    sub.add_argument("action", choices=("coverage", "fit"))
    sub.add_argument("file", type=Path, help="a COCO json; all its pictures have one size")
    sub.add_argument("--anchors", default="baseline", metavar="SET", help="coverage of: baseline, report, fitted, or a saved set's json file")
    sub.add_argument("--fit-on", type=Path, metavar="TRAIN.json", help="for --anchors fitted: fit to these boxes, as many shapes as the baseline's")
    sub.add_argument("--budget", type=int, help="fit: at most so many anchors (default: the baseline's number of shapes on each level)")
    sub.add_argument("--objective", default="recall", help="fit: recall or mean_iou (default: recall)")
    sub.add_argument("--out", type=Path, metavar="SAVED.json", help="fit: keep the set here")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), default="raise", help="what to do with boxes that cannot be used")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("evaluate", evaluate, "metrics of a finished run")
    sub.add_argument("run", type=Path, help="a run's folder, below outputs/runs")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("workbook", workbook, "run the notebooks in order and write outputs/reports/index.html")
    data_and_profile(sub)
    sub.add_argument("--seeds", help="how many trainings of each row of the ladder, notebook 04 (default: DETLIB_SEEDS, else 1)")
    sub.add_argument("notebooks", nargs="*", type=Path, help="only these (default: all)")

    sub = verb("report", report, "export a notebook as it stands, with its outputs and widgets, to one HTML file that needs no network")
    sub.add_argument("notebook", type=Path)
    sub.add_argument("--out", type=Path, help="default: outputs/exports/NAME.html; outputs/reports belongs to the workbook")

    sub = verb("predict", predict, "what a finished run finds on a picture, a folder of pictures, a video file, or a split of a data set")
    sub.add_argument("run", type=Path, help="a finished run's folder, below outputs/runs")
    sub.add_argument("source", nargs="?", help="a picture, a folder of pictures or a video file; with --split 'simulated' or a data set's folder")
    sub.add_argument("--split", help="of a data set: writes COCO results with its category ids")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--draw", action="store_true", help="write the pictures, or the video, with boxes, too")
    sub.add_argument("--score", type=float, help="least score (default: 0.05 in the json; drawn is what the run's own validation suggests)")
    sub.add_argument("--out", type=Path, help="folder (default: below outputs/predictions)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("video", video, "a clip with boxes through one or several finished runs, below each other, as mp4 or animated WebP")
    sub.add_argument("run", nargs="+", type=Path, help="finished runs' folders, below outputs/runs")
    sub.add_argument("--of", type=Path, metavar="PATH", help="a folder of frames or a video file of yours (default: a clip of the data)")
    sub.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--split", default="val", help="whose clip (default: val)")
    sub.add_argument("--clip", help="which clip (default: the one with the most objects)")
    sub.add_argument("--score", type=float, help="least score (default: each run's best on these frames; with --of what its own validation suggests)")
    sub.add_argument("--out", type=Path, help="a file that ends in .mp4 or .webp (default: below outputs/videos)")

    sub = verb("export", export, "for use elsewhere: a run's detections as COCO results, its detector as ONNX, or a data set in another form")
    sub.add_argument("what", choices=("coco", "onnx", "voc", "yolo", "kitti"))
    sub.add_argument("run", type=Path, metavar="RUN|FOLDER", help="a finished run's folder, below outputs/runs; or a data set's folder")
    sub.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--split", default="val", help="coco: of this split; onnx: checked on frames of it (default: val)")
    sub.add_argument("--out", type=Path, help="of a run's coco a json file, else a folder (default: below outputs/exports)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    for name, function, text in (("check", check, "what is wrong with a data set, before it is trained on: file, annotation and fix of each finding"),
                                 ("import", bring, "bring a data set (COCO, Pascal VOC, YOLO or KITTI) into data/, as the workbook's own form")):
        sub = verb(name, function, text)
        sub.add_argument("folder", type=Path)
        sub.add_argument("--form", choices=("coco", "voc", "yolo", "kitti"), help="where two readings are possible: which one")
        sub.add_argument("--classes", nargs="+", metavar="NAME", help="names of the classes, in the order of their numbers, where the data name none")
        sub.add_argument("--splits", nargs="+", metavar="HOW", help="share=0.2 (of the pictures to val), clips=0.2 (of the clips), folder, or "
                                                                    "train=FILE.txt val=FILE.txt, where the data name no splits")
        sub.add_argument("--seed", type=int, default=0, help="of a share (default: 0)")
        sub.add_argument("--clips", choices=("names", "none"), help="are a_1 and a_2 neighbours in a film, or just numbered pictures?")
        if name == "check":
            sub.add_argument("--annotations-only", action="store_true", help="do not open the pictures")
            sub.add_argument("--json", action="store_true", help="print one JSON object")
        else:
            sub.add_argument("--out", type=Path, help="folder (default: data/NAME)")
            sub.add_argument("--name", help="of the data set (default: the folder's)")
            sub.add_argument("--panorama", action="store_true", help="the first and the last column are neighbours")
            sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")

    options = vars(parser.parse_args(arguments))
    options.pop("verb")
    try:
        return options.pop("function")(**options) or 0
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"detlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def check(folder: Path, json: bool, annotations_only: bool, **reading: object) -> int:
    """Print what is wrong with a data set: counts by kind, then the findings."""
    from .data.checks import check as look

    found = look(folder, pictures=not annotations_only, **reading)
    if json:
        print(_json.dumps({"images": found.images, "boxes": found.boxes, "findings": found.listed()}))
        return 0
    print(f"{folder}: {found.images:,} pictures, {found.boxes:,} boxes, {len(found.findings):,} findings")
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
    print(f"{path}\nNow: detlib check {path}; make workbook DATA={path}")


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


def train(rung: str, data: str | None, profile: str | None, invalid: str | None, seed: int, seeds: str | None, changes: list[str],
          init: Path | None) -> None:
    """Train one rung or the ladder, for one or several seeds."""
    from . import runs
    from .experiments import LADDER, NULL, parse, profile_name, seed_count
    from .train import fit

    if init:
        changes = [*changes, f"weights={runs.weights_name(init)}"]
    number, names = seed_count(seeds), [name for name, _ in LADDER] if rung == "LADDER" else [rung]
    wanted = [(name, k) for k in range(seed, seed + number) for name in names]
    if rung == "LADDER" and number > 1:
        wanted += [(NULL, k) for k in range(seed + number, seed + 2 * number)]
    for name, k in wanted:
        experiment = parse("+".join([name, *changes]), profile, k)
        dataset = runs.open_data(data, profile_name(profile), splits=("train", "val", experiment.split), invalid=invalid)
        if experiment.split not in dataset:
            print(f"{name}: not run: no {experiment.split} in this data")
            continue
        run = fit(experiment, dataset)
        found = run.metrics
        print(f"{name}, seed {k}: mAP {_value(found['mAP'])} over {found['classes_with_objects']} of {found['classes']} classes; {run.folder}")


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


def figure(name: str | None, out: Path | None, json: bool, **asked: object) -> None:
    """Draw a figure of the catalogue."""
    from . import runs
    from .catalogue import FIGURES, Asked, entry, listing
    from .files import write_atomic

    if name is None:
        print(_json.dumps({key: value.what for key, value in FIGURES.items()}) if json else listing(FIGURES))
        return
    path = out or runs.outputs() / "figures" / f"{name}.png"
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {path}: figures are written as PNG; name a file that ends in .png")
    write_atomic(path, entry(FIGURES, name).make(Asked(**asked)).png())
    print(_json.dumps({"figure": str(path)}) if json else path)


def show(name: str | None, json: bool, **asked: object) -> None:
    """Print a table of the catalogue, in Markdown's form."""
    from .catalogue import TABLES, Asked, entry, listing
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

    path = run / "metrics.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run}: no finished run (no metrics.json); train it with `detlib train RUNG`")
    metrics = _json.loads(path.read_text())
    print(_json.dumps(metrics) if json else table(metrics).to_string())


def workbook(data: str | None, profile: str | None, invalid: str | None, seeds: str | None, notebooks: list[Path]) -> int:
    """Run the notebooks and write the reports."""
    import os

    from . import benchmark, runs
    from .experiments import profile_name, seed_count
    from .report import workbook as make

    data = data or os.environ.get("DETLIB_DATA") or "simulated"
    if data != "simulated":
        data = str(Path(data).expanduser().resolve())
    if data != "simulated" and not Path(data).is_dir():
        raise FileNotFoundError(f"--data {data}: no such folder; name a data set's folder, or 'simulated'")
    if missing := [str(n) for n in notebooks if not n.is_file()]:
        raise FileNotFoundError(f"no such notebook: {', '.join(missing)}")
    given = {name: os.environ[name] for name in ("DETLIB_PRECISION", "DETLIB_INVALID") if name in os.environ}  # what a report depends on
    if invalid:
        given["DETLIB_INVALID"] = invalid
    given["DETLIB_SEEDS"] = str(seed_count(seeds))
    return make(notebooks or benchmark.notebooks(), runs.outputs() / "reports", data=data, profile=profile_name(profile), environment=given)


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
        print(apply.clip_video(found, runs.open_data(data, found[0].experiment.profile, invalid=invalid), split, clip, out, score))


def export(what: str, run: Path, data: str | None, invalid: str | None, split: str, out: Path | None, json: bool) -> None:
    """Write a run's detections as COCO results, its detector as ONNX, or a data set in another form."""
    from . import apply, runs
    from .predict import finished_run

    if what != "onnx" and (what != "coco" or any(run.glob("*_annotations.json"))):
        out = out or runs.outputs() / "exports" / f"{run.resolve().name}-{what}"
        _tell({"folder": str(out), "not in this form": runs.export_data(run, what, out, invalid or "raise")}, json)
        return
    found = finished_run(run)
    dataset, place = runs.open_data(data, found.experiment.profile, invalid=invalid), runs.outputs() / "exports" / _of(run)
    if what == "coco":
        _tell(apply.export_results(found, dataset, split, out or place / f"{dataset.name}-{split}_results.json"), json)
    else:
        _tell(apply.export_model(found, dataset, split, out or place / "onnx"), json)


def _of(run: Path) -> Path:
    """Data, profile, rung and seed of a run's folder, as they follow each other below outputs/runs."""
    return Path(*run.resolve().parts[-4:])


def _tell(result: dict, json: bool) -> None:
    print(_json.dumps(result) if json else "\n".join(f"{key}: {value}" for key, value in result.items()))


def _value(value: float | None) -> str:
    return "no objects" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
