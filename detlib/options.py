"""Options that more than one command line has, and the forms of annotations that they name; imports nothing heavy."""
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

FORM_NAMES = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO", "kitti": "KITTI"}  # of annotations, by the names that they go by in a sentence


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: a, b or c."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def data_and_profile(parser: ArgumentParser) -> None:
    """--data, --profile and --invalid."""
    parser.add_argument("--data", help="'simulated' or a data set's folder (default: DETLIB_DATA, else simulated)")
    parser.add_argument("--profile", help="smoke, laptop or report (default: DETLIB_PROFILE, else laptop)")
    parser.add_argument("--invalid", choices=("raise", "drop", "clip"), help="what to do with boxes that cannot be used (default: raise)")


def reading(parser: ArgumentParser) -> None:
    """What a data set's folder may leave open."""
    parser.add_argument("--form", choices=tuple(FORM_NAMES), help="where two readings are possible: which one")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="names of the classes, in the order of their numbers, where the data name none")
    parser.add_argument("--splits", nargs="+", metavar="HOW", help="share=0.2 (of the pictures to val), clips=0.2 (of the clips), folder, or "
                                                                   "train=FILE.txt val=FILE.txt, where the data name no splits")
    parser.add_argument("--seed", type=int, default=0, help="of a share (default: 0)")
    parser.add_argument("--clips", choices=("names", "none"), help="are a_1 and a_2 neighbours in a film, or just numbered pictures?")


def training(parser: ArgumentParser) -> None:
    """Everything of `detlib train` and `python -m detlib.train`."""
    parser.add_argument("rungs", nargs="+", metavar="rung", help="baseline, adam, flip, ..., or LADDER for all of them")
    data_and_profile(parser)
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seeds", help="how many seeds from there on (default: DETLIB_SEEDS, else 1); with LADDER also those that one row is "
                                        "compared with itself on")
    parser.add_argument("--init", type=Path, metavar="RUN", help="start from the weights of this finished run, which may have other classes")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", dest="changes", help="change fields, such as weights=imagenet")
