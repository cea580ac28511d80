"""The command line: `detlib VERB`."""
import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from . import verbs
from .files import TROUBLE
from .options import FORM_NAMES, data_and_profile, listed, reading, training


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; errors that a user can mend are one sentence on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="detlib", description=__doc__)
    known = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = known.add_parser(name, help=text, description=text)
        sub.set_defaults(function=function)
        return sub

    sub = verb("simulate", verbs.simulate, "make a simulated data set")
    sub.add_argument("--profile", help="whose sizes to take (default: DETLIB_PROFILE, else laptop)")
    sub.add_argument("--out", type=Path, help="folder (default: data/simulated-PROFILE)")
    sub.add_argument("--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="train, val, train_extended (default: train val)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--frames", type=int, default=10, help="frames a clip (default: 10)")
    sub.add_argument("--processes", type=int, help="default: one for each core")

    sub = verb("explore", verbs.explore, "the figures that need nothing but a data set, as PNG files, and its summary; without any training")
    data_and_profile(sub)
    reading(sub)
    sub.add_argument("--out", type=Path, help="folder (default: outputs/figures/DATA)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("train", verbs.train, "train rungs of the ladder, or all of it, or go on where training stopped")
    training(sub)

    for name, what in (("figure", "draw a figure"), ("table", "print a table")):
        sub = verb(name, verbs.figure if name == "figure" else verbs.show, f"{what} of the notebooks; without a name, list them")
        sub.add_argument("name", nargs="?", help="its name in the list")
        data_and_profile(sub)
        sub.add_argument("--rungs", nargs="+", default=[], metavar="RUNG", help="of these rungs; changed fields as in fpn+weights=imagenet")
        sub.add_argument("--seeds", help="how many seeds of each rung (default: DETLIB_SEEDS, else 1)")
        sub.add_argument("--split", default="train", help="of this split, where one is shown (default: train)")
        sub.add_argument("--frame", type=int, help="this frame of it (default: the one with the most boxes)")
        if name == "figure":
            sub.add_argument("--out", type=Path, help="a PNG file (default: outputs/figures/NAME.png)")
        sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("cost", verbs.cost, "parameters and anchors of every rung, counted without data")
    sub.add_argument("--profile", help="smoke, laptop or report (default: DETLIB_PROFILE, else laptop)")
    sub.add_argument("--measure", action="store_true", help="also arithmetic, memory, latency and throughput of fresh networks on simulated frames")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("anchors", verbs.anchors, "how well an anchor set covers the boxes of a COCO json, or a set fitted to them; pictures are not needed")
    sub.add_argument("action", choices=("coverage", "fit"))
    sub.add_argument("file", type=Path, help="a COCO json; all its pictures have one size")
    sub.add_argument("--anchors", default="baseline", metavar="SET", help="coverage of: baseline, report, fitted, or a saved set's json file")
    sub.add_argument("--fit-on", type=Path, metavar="TRAIN.json", help="for --anchors fitted: fit to these boxes, as many shapes as the baseline's")
    sub.add_argument("--budget", type=int, help="fit: at most so many anchors (default: the baseline's number of shapes on each level)")
    sub.add_argument("--objective", default="recall", help="fit: recall or mean_iou (default: recall)")
    sub.add_argument("--out", type=Path, metavar="SAVED.json", help="fit: keep the set here")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), default="raise", help="what to do with boxes that cannot be used")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("evaluate", verbs.evaluate, "metrics of a finished run")
    sub.add_argument("run", type=Path, help="a run's folder, below outputs/runs")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("rerun", verbs.rerun, "train a finished run again from its record, in a folder that is thrown away, and print what differs "
                                     "(exit code 0: nothing)")
    sub.add_argument("run", type=Path, help="a finished run's folder, below outputs/runs")
    sub.add_argument("--data", help="the data it was trained on: 'simulated' or a folder (default: DETLIB_DATA, else simulated)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what was done with boxes that cannot be used (default: raise)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("compare", verbs.compare, "what the second of two finished runs gains on the first, with its interval over the validation's clips")
    sub.add_argument("run", type=Path, nargs=2, help="two finished runs' folders, below outputs/runs")
    sub.add_argument("--data", help="'simulated' or a data set's folder (default: what the first was trained on)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("workbook", verbs.workbook, "run the notebooks, with trainings side by side (DETLIB_AT_ONCE), and write outputs/reports/index.html")
    data_and_profile(sub)
    sub.add_argument("--seeds", help="how many trainings of each row of the ladder, notebook 04 (default: DETLIB_SEEDS, else 1)")
    sub.add_argument("--runs", dest="of", choices=("own", "reference"), help="whose trainings: trained here, or those that came with detlib, on "
                                                                             "another machine (default: DETLIB_RUNS, else own)")
    sub.add_argument("notebooks", nargs="*", type=Path, help="only these (default: all)")

    sub = verb("reference", verbs.reference, "keep the trainings of this home as the reference run that comes with detlib (for maintainers)")
    sub.add_argument("data", nargs="+", help="'simulated' and folders")
    sub.add_argument("--seeds", type=int, default=3, help="how often each row was trained on simulated data (default: 3)")

    sub = verb("student", verbs.student, "copy the notebooks without the solutions of their exercises")
    sub.add_argument("--out", type=Path, help="folder (default: outputs/student)")

    sub = verb("report", verbs.report, "export a notebook as it stands, with its outputs and widgets, to one HTML file that needs no network")
    sub.add_argument("notebook", type=Path)
    sub.add_argument("--out", type=Path, help="default: outputs/exports/NAME.html; outputs/reports belongs to the workbook")

    sub = verb("predict", verbs.predict, "what a finished run finds on a picture, a folder of pictures, a video file, or a split of a data set")
    sub.add_argument("run", type=Path, help="a finished run's folder, below outputs/runs")
    sub.add_argument("source", nargs="?", help="a picture, a folder of pictures or a video file; with --split 'simulated' or a data set's folder")
    sub.add_argument("--split", help="of a data set: writes COCO results with its category ids")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--draw", action="store_true", help="write the pictures, or the video, with boxes, too")
    sub.add_argument("--score", type=float, help="least score (default: 0.05 in the json; drawn is what the run's own validation suggests)")
    sub.add_argument("--out", type=Path, help="folder (default: below outputs/predictions)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = verb("video", verbs.video, "a clip with boxes through one or several finished runs, below each other, as mp4 or animated WebP")
    sub.add_argument("run", nargs="+", type=Path, help="finished runs' folders, below outputs/runs")
    sub.add_argument("--of", type=Path, metavar="PATH", help="a folder of frames or a video file of yours (default: a clip of the data)")
    sub.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--split", default="val", help="whose clip (default: val)")
    sub.add_argument("--clip", help="which clip (default: the one with the most objects)")
    sub.add_argument("--score", type=float, help="least score (default: each run's best on these frames; with --of what its own validation suggests)")
    sub.add_argument("--out", type=Path, help="a file that ends in .mp4 or .webp (default: below outputs/videos)")

    sub = verb("export", verbs.export, "for use elsewhere: a run's detections as COCO results, its detector as ONNX, or a data set in another form")
    sub.add_argument("what", choices=(*FORM_NAMES, "onnx"))
    sub.add_argument("run", type=Path, metavar="RUN|FOLDER", help="a finished run's folder, below outputs/runs; or a data set's folder")
    sub.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
    sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")
    sub.add_argument("--split", default="val", help="coco: of this split; onnx: checked on frames of it (default: val)")
    sub.add_argument("--out", type=Path, help="of a run's coco a json file, else a folder (default: below outputs/exports)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    looks, brings = ("what is wrong with a data set, before it is trained on: file, annotation and fix of each finding",
                     f"bring a data set ({listed(FORM_NAMES.values())}) into data/, as the workbook's own form")
    for name, function, text in (("check", verbs.check, looks), ("import", verbs.bring, brings)):
        sub = verb(name, function, text)
        sub.add_argument("folder", type=Path)
        reading(sub)
        if name == "check":
            sub.add_argument("--annotations-only", action="store_true", help="do not open the pictures")
            sub.add_argument("--json", action="store_true", help="print one JSON object")
        else:
            sub.add_argument("--out", type=Path, help="folder (default: data/NAME)")
            sub.add_argument("--name", help="of the data set (default: the folder's)")
            sub.add_argument("--panorama", action="store_true", help="the first and the last column are neighbours")
            sub.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")

    sub = verb("bench", verbs.bench, "measure how fast things are here, against what they are compared with; writes outputs/bench/index.html")
    sub.add_argument("names", nargs="*", metavar="NAME", help="only these; an unknown name prints the list (default: all but the slow ones)")
    sub.add_argument("--quick", action="store_true", help="two rounds instead of five")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    options = vars(parser.parse_args(arguments))
    options.pop("verb")
    try:
        with _json_alone() if options.get("json") else contextlib.nullcontext():
            return options.pop("function")(**options) or 0
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        trouble = TROUBLE.get(error.errno or 0) if isinstance(error, OSError) else None
        what = f"{getattr(error, 'filename', None) or error}: {trouble}; then call it again" if trouble else str(error)
        print(f"detlib: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _json_alone() -> Iterator[None]:
    """Of all that a verb prints, the last line, which is its JSON object, goes to standard output, and the rest to standard error."""
    said, done = io.StringIO(), False
    try:
        with contextlib.redirect_stdout(said):
            yield
        done = True
    finally:
        *before, last = said.getvalue().splitlines() or [""]
        print(*before, *([] if done else [last]), sep="\n", end="\n" if before else "", file=sys.stderr)
    print(last)


if __name__ == "__main__":
    sys.exit(main())
