"""Fitting anchor shapes to the boxes of a data set: freely, by scales and ratios, or by k-means; and keeping them in files."""
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .anchors import STRIDES, AnchorSpec, Shape
from .boxes import xyxy_to_cxcywh
from .coverage import coverage, nearest_iou
from .data.coco import Split
from .files import write_json
from .matching import THRESHOLD

# What a box is worth by the IoU of its best anchor: the IoU itself, or a step at matching's threshold, soft so that it has a gradient
OBJECTIVES: dict[str, Callable[[Tensor], Tensor]] = {"mean_iou": lambda iou: iou, "recall": lambda iou: torch.sigmoid((iou - THRESHOLD) / 0.05)}
SAMPLE = 4000  # boxes drawn for the choice and for each step: enough for steady gradients, and the time is bounded; at most twice all
CANDIDATES = 14  # widths, and heights, that the choice is made among
STEPS, RATE = 200, 0.02  # Adam's, on the logarithms of the sizes
RESTARTS = 5  # attempts on other draws, the best of which also does better on clips that were left out
SHARPNESS = 40.0  # of the soft maximum over shapes: through it shapes learn also from boxes that another one covers a little better
PRICE = 0.5  # exponent of cells: a fine level fits every box better, but there shapes are dear and belong to what coarse levels cannot reach
LEAST_GAIN = 1e-5  # of the objective: a shape that brings less is not worth a channel of the head

LISTINGS = {
    "torchvision": "# strides {2}; torchvision rounds corners to whole pixels and puts centres at the cells' corners\n"
                   "AnchorGenerator(\n    sizes={0},\n    aspect_ratios={1},\n)",
    "detectron2": "# strides {2}\nMODEL.ANCHOR_GENERATOR.SIZES = {0}\nMODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = {1}\n"
                  "MODEL.ANCHOR_GENERATOR.OFFSET = 0.5",
}


def fit(boxes: Tensor, image_hw: tuple[int, int], *, counts: Sequence[int] | None = None, budget: int | None = None, strides: Sequence[int] = STRIDES,
        objective: str = "recall", weights: Tensor | None = None, seed: int = 0, name: str = "fitted") -> AnchorSpec:
    """Shapes for boxes (M, 4) xyxy px: `counts` shapes on each level, or as many as `budget` anchors on an image allow, at least one a level.

    Two stages. The value of a set of shapes, a mean over boxes of their best anchors, has diminishing returns, so choosing greedily the shape that
    gains most, divided by the root of its cells, comes near the best choice (after Nemhauser et al. 1978). Then gradient ascent moves all shapes
    together. Of RESTARTS such attempts the best on all boxes is kept. `weights` (M,) say how much each box counts; the seed makes it repeatable.
    """
    boxes, weights, worth = _checked(boxes, weights, objective)
    image_hw, cells = _image(strides, image_hw)
    if (counts is None) == (budget is None):
        raise ValueError("give either counts (shapes of each level) or budget (anchors on an image), not both and not neither")
    if counts is not None:
        _check_counts(counts, strides)
    if budget is not None and budget < sum(cells):
        raise ValueError(f"a budget of {budget:,} anchors is too small: one shape on each level makes {sum(cells):,}; raise it, or use fewer strides")

    def one(seed: int) -> AnchorSpec:
        draw = _sampler(boxes, weights, seed)
        sizes = [torch.tensor(level).log() for level in _choose(draw(), image_hw, strides, cells, counts, budget, worth)]
        return _spec(strides, _ascend(sizes, lambda: [size.exp() for size in sizes], draw, image_hw, strides, worth), name)

    with _one_thread() as threads, ThreadPoolExecutor(threads) as pool:  # an attempt in each; new threads of Python compute in one, too
        attempts = pool.map(one, range(RESTARTS * seed, RESTARTS * (seed + 1)))
        return max(attempts, key=lambda spec: float(worth(coverage(spec, boxes, image_hw).iou) @ weights))


def fit_classical(boxes: Tensor, image_hw: tuple[int, int], *, scales: int = 3, ratios: int = 3, strides: Sequence[int] = STRIDES,
                  objective: str = "recall", weights: Tensor | None = None, seed: int = 0, name: str = "classical") -> AnchorSpec:
    """Shapes as RetinaNet has them (Lin et al. 2017b, sec. 4): `scales` sizes, in strides, times `ratios` width / height, the same on every level.

    Only the scales and ratios are fitted: a handful of numbers instead of two for each shape. `listing` writes them for other libraries.
    """
    boxes, weights, worth = _checked(boxes, weights, objective)
    image_hw, _ = _image(strides, image_hw)
    if scales < 1 or ratios < 1:
        raise ValueError(f"scales={scales}, ratios={ratios}: both are numbers of values, at least 1")
    with _one_thread():
        draw = _sampler(boxes, weights, seed)
        sample = draw()
        aspect = (sample[2] / sample[3]).log().quantile((torch.arange(ratios) + 0.5) / ratios)

        def shapes(scale: Tensor, aspect: Tensor) -> list[Tensor]:
            w, h = ((scale[:, None] + sign * aspect / 2).exp().flatten() for sign in (1, -1))
            return [torch.stack([w, h], -1) * stride for stride in strides]  # (S * Q, 2) of each level

        starts = [(torch.arange(scales) / scales + octave).mul(math.log(2)) for octave in (0, 0.5, 1, 1.5, 2, 2.5, 3)]
        scale = max(starts, key=lambda start: float(worth(_ious(sample, shapes(start, aspect), strides, image_hw).amax(0)).mean()))
        numbers = [scale, aspect]
        numbers = _ascend(numbers, lambda: shapes(*numbers), draw, image_hw, strides, worth)
    return AnchorSpec(tuple(strides), tuple(tuple(map(tuple, level.tolist())) for level in shapes(*numbers)), name)


def kmeans_shapes(boxes: Tensor, counts: Sequence[int], *, strides: Sequence[int] = STRIDES, seed: int = 0, name: str = "k-means") -> AnchorSpec:
    """YOLOv2's dimension clusters: k-means of widths and heights with the distance 1 - IoU of boxes on one centre (Redmon & Farhadi 2017, sec. 2).

    The clusters are sorted by area and dealt out, the smallest to the finest stride. Where anchors can stand plays no part, which is what `fit` adds.
    """
    boxes, weights, _ = _checked(boxes, None, "mean_iou")
    _check_counts(counts, strides)
    generator = torch.Generator().manual_seed(seed)
    wh = xyxy_to_cxcywh(boxes)[torch.multinomial(weights, 5 * SAMPLE, True, generator=generator), 2:]

    def overlap(centres: Tensor) -> Tensor:
        inter = torch.minimum(wh[:, None], centres).prod(-1)
        return inter / (wh.prod(-1)[:, None] + centres.prod(-1) - inter)  # (M, k)

    with _one_thread():
        centres = wh[:1]
        while len(centres) < sum(counts):  # k-means++: the next centre is likely where no other is near (Arthur & Vassilvitskii 2007)
            far = (1 - overlap(centres).amax(1)).clamp(min=1e-9) ** 2
            centres = torch.cat([centres, wh[torch.multinomial(far, 1, generator=generator)]])
        for _ in range(100):
            nearest = overlap(centres).argmax(1)
            sums = torch.zeros_like(centres).index_add_(0, nearest, wh)
            members = torch.bincount(nearest, minlength=len(centres))[:, None]
            centres, before = torch.where(members > 0, sums / members.clamp(min=1), centres), centres
            if torch.equal(centres, before):
                break
    ordered = centres[centres.prod(1).argsort()]
    return _spec(strides, [level.log() for level in ordered.split(list(counts))], name)


def fit_split(split: Split, **options: Any) -> AnchorSpec:
    """`fit` on a split's boxes at its image size; `options` are those of `fit`."""
    return fit(split_boxes(split), split.image_hw, **options)


def split_boxes(split: Split) -> Tensor:
    """All boxes (M, 4) xyxy px of a split, crowds left out, as training sees them."""
    return torch.cat([torch.zeros(0, 4), *(split.targets(index)[0] for index in range(len(split)))])


def listing(spec: AnchorSpec, style: str = "plain") -> str:
    """The shapes as text to paste: `plain` (w, h) px of any set; `torchvision` or `detectron2` for sets made of sizes x ratios on each level.

    Both libraries write ratios as height / width. Raises ValueError for free shapes in their styles.
    """
    if style == "plain":
        return "\n".join(f"stride {stride:>3}: " + "  ".join(f"{w:.1f}x{h:.1f}" for w, h in shapes)
                         for stride, shapes in zip(spec.strides, spec.shapes, strict=True))
    if style not in LISTINGS:
        raise ValueError(f"no style {style!r}: there are 'plain', {', '.join(map(repr, LISTINGS))}")
    levels = [factors for shapes in spec.shapes if (factors := _factors(shapes))]
    if len(levels) < len(spec.shapes):
        raise ValueError(f"the {spec.name or 'unnamed'} anchors are free shapes, not sizes x ratios on each level, and {style} can say nothing else; "
                         "list them with style='plain', or fit with fit_classical")

    def written(columns: Sequence[Sequence[float]]) -> str:
        return "[" + ", ".join("[" + ", ".join(f"{value:.4g}" for value in column) + "]" for column in columns) + "]"
    return LISTINGS[style].format(written([sizes for sizes, _ in levels]), written([[1 / ratio for ratio in ratios] for _, ratios in levels]),
                                  ", ".join(map(str, spec.strides)))


def to_json(spec: AnchorSpec, path: Path, about: dict[str, Any] | None = None) -> None:
    """Write a set and where it comes from: `about` is free, such as data, split and objective."""
    write_json(Path(path), {"name": spec.name, "strides": spec.strides, "shapes": spec.shapes, "about": about or {}})


def from_json(path: str | Path) -> tuple[AnchorSpec, dict[str, Any]]:
    """A set that `to_json` wrote, and its `about`; ValueError says what is wrong with another file."""
    def wrong(what: str) -> ValueError:
        return ValueError(f"{path}: {what}; use a file that `detlib anchors fit` or to_json wrote, or fit again")
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise wrong("no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise wrong(f"not readable as json ({error})") from None
    missing = {"name", "strides", "shapes"} - content.keys() if isinstance(content, dict) else {"name", "strides", "shapes"}
    if missing:
        raise wrong(f"not an anchor set, it lacks {', '.join(sorted(missing))}")
    name, strides, shapes, about = content["name"], content["strides"], content["shapes"], content.get("about", {})
    if not (isinstance(strides, list) and strides and all(type(s) is int and s > 0 for s in strides) and strides == sorted(set(strides))):
        raise wrong(f"strides {strides!r} are not growing whole numbers of pixels")
    if not isinstance(shapes, list) or not all(isinstance(level, list) and level and all(map(_is_shape, level)) for level in shapes):
        raise wrong("shapes is not, for each stride, a list of one or more [width, height] in pixels above 0")
    if not isinstance(name, str) or not isinstance(about, dict):
        raise wrong("name is not a text, or about is not an object")
    try:
        return AnchorSpec(tuple(strides), tuple(tuple((float(w), float(h)) for w, h in level) for level in shapes), name), about
    except ValueError as error:
        raise wrong(str(error)) from None


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) == 2 and all(type(v) in (int, float) and 0 < v < math.inf for v in shape)


def _checked(boxes: Tensor, weights: Tensor | None, objective: str) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Boxes, weights and objective, each fit for use."""
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r}: known are {', '.join(map(repr, OBJECTIVES))}")
    if not len(boxes):
        raise ValueError("no boxes to fit anchors to: choose a split that has objects")
    weights = torch.ones(len(boxes)) if weights is None else weights.float()
    if weights.shape != (len(boxes),) or not (weights >= 0).all() or not 0 < float(weights.sum()) < math.inf:
        raise ValueError(f"weights of shape {tuple(weights.shape)} for {len(boxes)} boxes: give each box one number, none below 0, not all 0")
    boxes = boxes.float()
    if not ((boxes[:, 2:] > boxes[:, :2]).all() and boxes.isfinite().all()):
        raise ValueError("a box without extent cannot be fitted: leave out boxes whose width or height is not above 0")
    return boxes, weights, OBJECTIVES[objective]


def _check_counts(counts: Sequence[int], strides: Sequence[int]) -> None:
    if len(counts) != len(strides) or min(counts) < 1:
        raise ValueError(f"counts={tuple(counts)} for {len(strides)} strides: give one number of shapes, at least 1, for each stride")


def _image(strides: Sequence[int], image_hw: tuple[int, int]) -> tuple[tuple[int, int], list[int]]:
    """The padded image size, and the cells of each level on it: what one shape there costs in anchors."""
    one = AnchorSpec(tuple(strides), (((1.0, 1.0),),) * len(strides))
    image_hw = one.padded(image_hw)
    return image_hw, [rows * columns for rows, columns in one.grid_hws(image_hw)]


def _sampler(boxes: Tensor, weights: Tensor, seed: int) -> Callable[[], Tensor]:
    """A function that draws S boxes by weight, SAMPLE or twice as many as there are, as columns (4, S) cxcywh px."""
    generator, columns, count = torch.Generator().manual_seed(seed), xyxy_to_cxcywh(boxes).T.contiguous(), min(SAMPLE, 2 * len(boxes))

    def draw() -> Tensor:
        return columns[:, torch.multinomial(weights, count, replacement=True, generator=generator)]
    return draw


def _ious(boxes: Tensor, shapes: Sequence[Tensor], strides: Sequence[int], image_hw: tuple[int, int]) -> Tensor:
    """IoU (S, M) of boxes (4, M) cxcywh px with every level's shapes (A, 2) px, clamped to the image, in their nearest cells."""
    stride = torch.tensor(strides).repeat_interleave(torch.tensor([len(level) for level in shapes]))[:, None]
    return nearest_iou(boxes, torch.minimum(torch.cat(list(shapes)), torch.tensor(image_hw[::-1])), stride, image_hw)


def _choose(boxes: Tensor, image_hw: tuple[int, int], strides: Sequence[int], cells: Sequence[int], counts: Sequence[int] | None, budget: int | None,
            worth: Callable[[Tensor], Tensor]) -> list[list[Shape]]:
    """Shapes of every level, picked one by one among widths x heights between the boxes' extremes."""
    ends = [(float(side.quantile(0.005)), float(side.quantile(0.995))) for side in boxes[2:].log()]
    pool = torch.cartesian_prod(*(torch.linspace(low - 0.1, high + 0.1, CANDIDATES).exp() for low, high in ends))  # (P, 2)
    value = torch.stack([worth(_ious(boxes, [pool], [stride], image_hw)) for stride in strides])  # (L, P, M), one after another: large
    best = worth(torch.zeros(boxes.shape[1]))
    chosen: list[list[Shape]] = [[] for _ in strides]
    price = torch.tensor(cells) ** PRICE
    while True:
        gain = (value - best).clamp_(min=0).mean(-1)  # (L, P)
        spare = 0 if budget is None else budget - sum(cell * max(1, len(level)) for cell, level in zip(cells, chosen, strict=True))
        most = gain.amax(1).tolist()
        wanted = [len(level) < counts[k] if counts is not None else not level or (cells[k] <= spare and most[k] > LEAST_GAIN)
                  for k, level in enumerate(chosen)]
        if not any(wanted):
            return chosen
        k, p = divmod(int((gain / price[:, None]).masked_fill(~torch.tensor(wanted)[:, None], -1.0).argmax()), len(pool))
        chosen[k].append(tuple(pool[p].tolist()))
        best = torch.maximum(best, value[k, p])


def _ascend(numbers: list[Tensor], shapes: Callable[[], list[Tensor]], draw: Callable[[], Tensor], image_hw: tuple[int, int], strides: Sequence[int],
            worth: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Move `numbers`, of which `shapes()` are made, up the gradient of the mean worth of freshly drawn boxes, in place."""
    for number in numbers:
        number.requires_grad_()
    optimizer = torch.optim.Adam(numbers, RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        value = torch.logsumexp(SHARPNESS * worth(_ious(draw(), shapes(), strides, image_hw)), 0) / SHARPNESS
        optimizer.zero_grad()
        (-value.mean()).backward()
        optimizer.step()
    return [number.detach_() for number in numbers]


def _spec(strides: Sequence[int], log_sizes: Sequence[Tensor], name: str) -> AnchorSpec:
    """A set from logarithms of sizes: to a hundredth of a pixel, the smallest first."""
    levels = [sorted(((max(round(w, 2), 0.01), max(round(h, 2), 0.01)) for w, h in level.exp().tolist()), key=math.prod) for level in log_sizes]
    return AnchorSpec(tuple(strides), tuple(map(tuple, levels)), name)


def _factors(shapes: Sequence[Shape]) -> tuple[list[float], list[float]] | None:
    """Sizes px and ratios width / height whose products are exactly these shapes, a repeated one once, or None."""
    def distinct(values: list[float]) -> list[float]:
        return [v for i, v in enumerate(values) if not any(math.isclose(v, u, rel_tol=1e-4) for u in values[:i])]
    sizes, ratios = distinct([math.sqrt(w * h) for w, h in shapes]), distinct([w / h for w, h in shapes])
    made = [(s * math.sqrt(r), s / math.sqrt(r)) for s, r in product(sizes, ratios)]

    def each_in(some: Sequence[Shape], others: Sequence[Shape]) -> bool:
        return all(any(np.allclose(a, b, rtol=1e-3) for b in others) for a in some)
    return (sizes, ratios) if each_in(made, shapes) and each_in(shapes, made) else None


@contextmanager
def _one_thread() -> Iterator[int]:
    """Sums of several threads depend on their number; these are small enough for one. -> how many there were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
