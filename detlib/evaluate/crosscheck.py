"""The same detections judged by pycocotools, from the files on the disk: an oracle that shares no code with ours but the IoU of two boxes."""
import contextlib
import io
import json
from collections.abc import Sequence

import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.coco import ANNOTATIONS, Dataset
from ..runs import Run
from .coco import MAX_DETECTIONS


def pycocotools_metrics(truth: dict, results: list[dict], size_limits: Sequence[float]) -> tuple[list[float], list[float | None]]:
    """COCOeval's twelve numbers (-1 where there are no objects) and AP of each category; a COCO json, COCO results, limits in px."""
    low, high = size_limits
    with contextlib.redirect_stdout(io.StringIO()):
        objects, found = COCO(), COCO()
        objects.dataset = {**truth, "info": {}}
        objects.createIndex()
        found.dataset = {**truth, "info": {}, "annotations": []}
        found.createIndex()
        judge = COCOeval(objects, objects.loadRes(results) if results else found, "bbox")
        judge.params.areaRng = [[0, 1e10], [0, low**2], [low**2, high**2], [high**2, 1e10]]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, judge.params.maxDets.index(MAX_DETECTIONS)]  # (T, 101, K)
    return judge.stats.tolist(), [float(p.mean()) if (p := precision[:, :, k]).max() > -1 else None for k in range(precision.shape[2])]


def cross_check(run: Run, dataset: Dataset) -> pd.DataFrame:
    """Ours and pycocotools' numbers for a finished run, side by side with their difference."""
    truth = json.loads((dataset.root / f"val{ANNOTATIONS}").read_text())
    ids = {c["name"]: c["id"] for c in truth["categories"]}
    name = dict(enumerate(dataset.categories, start=1))
    results = [{**r, "category_id": ids[name[r["category_id"]]]} for r in run.detections() if name[r["category_id"]] in ids]
    theirs, _ = pycocotools_metrics(truth, results, dataset.size_limits)
    ours = {k: v for k, v in run.metrics.items() if k.startswith(("mAP", "AP", "recall"))}
    frame = pd.DataFrame({"ours": [-1.0 if v is None else v for v in ours.values()], "pycocotools": theirs}, index=list(ours))
    return frame.assign(difference=(frame["ours"] - frame["pycocotools"]).abs())
