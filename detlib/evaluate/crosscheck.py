"""The same detections judged by pycocotools: an oracle that shares no code with ours but the IoU of two boxes."""
import contextlib
import io
from collections.abc import Sequence

import pandas as pd
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.coco import Dataset, Split
from ..runs import Run
from .coco import MAX_DETECTIONS, evaluate, kept_detections


def judged(truth: dict, results: list[dict], size_limits: Sequence[float], labels: Sequence[int] | None = None) -> COCOeval:
    """Pycocotools' judgement of COCO results against a COCO json, of all categories or of these ids; limits of small and large in px."""
    low, high = size_limits
    with contextlib.redirect_stdout(io.StringIO()):
        objects, found = COCO(), COCO()
        objects.dataset = {**truth, "info": {}}
        objects.createIndex()
        found.dataset = {**truth, "info": {}, "annotations": []}
        found.createIndex()
        judge = COCOeval(objects, objects.loadRes(results) if results else found, "bbox")
        judge.params.areaRng = [[0, 1e10], [0, low**2], [low**2, high**2], [high**2, 1e10]]
        if labels is not None:
            judge.params.catIds = list(labels)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def pycocotools_metrics(truth: dict, results: list[dict], size_limits: Sequence[float]) -> tuple[list[float], list[float | None]]:
    """COCOeval's twelve numbers (-1 where there are no objects) and AP of each category; a COCO json, COCO results, limits in px."""
    judge = judged(truth, results, size_limits)
    precision = judge.eval["precision"][:, :, :, 0, judge.params.maxDets.index(MAX_DETECTIONS)]  # (T, 101, K)
    return judge.stats.tolist(), [float(p.mean()) if (p := precision[:, :, k]).max() > -1 else None for k in range(precision.shape[2])]


def as_coco(split: Split) -> dict:
    """A split's frames and boxes as a COCO json, labels as category ids."""
    columns = ("image_id", "label", "x1", "y1", "width", "height", "area", "crowd")
    rows = zip(*(split.boxes[c].tolist() for c in columns), strict=True)
    return {"images": [{"id": frame.image_id} for frame in split.frames],
            "categories": [{"id": label, "name": name} for label, name in enumerate(split.categories, start=1)],
            "annotations": [{"id": number, "image_id": image, "category_id": label, "bbox": [x, y, w, h], "area": area, "iscrowd": int(crowd)}
                            for number, (image, label, x, y, w, h, area, crowd) in enumerate(rows, start=1)]}


def cross_check(run: Run, dataset: Dataset) -> pd.DataFrame:
    """Ours and pycocotools' numbers for what a finished run found, side by side with their difference."""
    theirs, _ = pycocotools_metrics(as_coco(dataset["val"]), run.detections(), dataset.size_limits)
    ours = {k: v for k, v in evaluate(kept_detections(run, dataset), dataset["val"], dataset).items() if k.startswith(("mAP", "AP", "recall"))}
    frame = pd.DataFrame({"ours": [-1.0 if v is None else v for v in ours.values()], "pycocotools": theirs}, index=list(ours))
    return frame.assign(difference=(frame["ours"] - frame["pycocotools"]).abs())
