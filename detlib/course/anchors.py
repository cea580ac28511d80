"""Exercises of notebooks 02 and 05: overlap, grid, encoding, matching and mining; shapes, coverage and one step of k-means."""
import torch
from torch import Tensor
from torchvision.ops import box_iou

from ..anchors import AnchorSpec, ssd_shapes
from ..boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..coverage import coverage
from ..matching import THRESHOLD, decode, encode, match
from ..models.losses import hard_negatives
from .data import boxes_at_random
from .exercise import Case, Exercise

TOY, TOY_HW = AnchorSpec((8,), (((10.0, 10.0), (16.0, 8.0)),)), (32, 64)
OBJECTS = torch.tensor([[8.0, 8, 25, 16], [53, 6, 57, 24], [38, 19, 49, 30], [40, 15, 48, 26]])  # the toy of notebook 02


def _pairs() -> list[Case]:
    square = torch.tensor([[10.0, 10, 30, 20]])
    others = {
        "two boxes that are the same": [10.0, 10, 30, 20], "a box that covers the right half": [20.0, 10, 40, 20],
        "boxes that only touch": [30.0, 10, 40, 20], "boxes apart on both axes": [40.0, 40, 60, 50], "boxes apart on one axis": [40.0, 10, 60, 20],
        "a box inside another": [12.0, 12, 20, 15], "a box less than 1 px wide": [10.2, 10, 10.9, 20]}
    return [*(Case(what, (square, torch.tensor([other]))) for what, other in others.items()), Case("no boxes against 1", (square[:0], square)),
            Case("20 boxes against 30", (boxes_at_random(20, (64, 128), 1), boxes_at_random(30, (64, 128), 2)))]


def _grids() -> list[Case]:
    return [Case("one shape on 2 x 3 cells", (4, [(6, 3)], (8, 12))), Case("the toy of section 1", (8, [(10, 10), (16, 8)], TOY_HW)),
            Case("stride 16 and three shapes", (16, [(5, 9), (12.5, 4), (20, 20)], (32, 64)))]


def _codes() -> list[Case]:
    anchors = TOY.grid(TOY_HW)
    some = anchors[torch.arange(12) * 5]
    boxes = boxes_at_random(12, (32, 64), 3)
    person = anchors[match(TOY.grid_xyxy(TOY_HW), OBJECTS) == 1]
    return [Case("an anchor that fits exactly", (cxcywh_to_xyxy(some), some)), Case("the person and her anchor", (OBJECTS[1:2], person)),
            Case("12 boxes at random", (boxes, some)), Case("offsets of zero", (torch.zeros(12, 4), some), 1),
            Case("the person's offsets", (encode(OBJECTS[1:2], person), person), 1), Case("12 offsets at random", (encode(boxes, some), some), 1)]


def _scenes() -> list[Case]:
    """Overlaps of anchors and objects; one is exactly the threshold, some anchors are contested."""
    line = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    near = torch.tensor([[0.0, 0, 10, 10], [0, 3, 10, 13]])
    scenes = {
        "one object that an anchor fits": (line, [[21, 0, 31, 10]]), "an object thinner than every anchor": (line, [[42, 0, 44, 10]]),
        "a second anchor with an IoU of exactly one half": (torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), [[0, 0, 10, 10]]),
        "two objects that claim one anchor": (line, [[0, 0, 10, 8], [1, 0, 9, 10]]),
        "an anchor that a poor match claims from a good one": (line, [[0, 0, 10, 9], [4, 4, 7, 16]]),
        "an object with two anchors, the better of which fits an earlier object better": (near, [[0, 0, 10, 10], [0, 1, 10, 11]]),
        "no objects": (line, []), "the toy of section 1": (TOY.grid_xyxy(TOY_HW), OBJECTS),
        "eight objects at random": (TOY.grid_xyxy(TOY_HW), boxes_at_random(8, TOY_HW, 4))}
    scenes = {what: (anchors, torch.as_tensor(boxes).float().view(-1, 4)) for what, (anchors, boxes) in scenes.items()}
    return [Case(what, (box_iou(anchors, boxes), THRESHOLD), known=(anchors, boxes)) for what, (anchors, boxes) in scenes.items()]


def _hardest(losses: Tensor, positive: Tensor) -> Tensor:
    return hard_negatives(torch.stack([-losses, torch.zeros_like(losses)], -1)[None], positive.long()[None])[0]


def _losses() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    losses, positive = torch.rand(40, generator=generator), torch.zeros(40, dtype=torch.bool)
    positive[[3, 17]] = True
    few = torch.tensor([0.3, 0.9, 0.1, 0.5])
    return [Case("one positive and seven negatives", (torch.tensor([0.7, 0.02, 5.0, 0.05, 0.3, 0.01, 1.3, 0.2]), torch.arange(8) == 2)),
            Case("no positives", (few, torch.zeros(4, dtype=torch.bool))), Case("fewer negatives than three for each positive", (few, few > 0.4)),
            Case("two positives among 40", (losses, positive))]


def _covers() -> list[Case]:
    one, some = AnchorSpec((32,), (((10.0, 10.0),),)), boxes_at_random(30, TOY_HW, 5)
    scenes = {"one box at IoU one half": (one, torch.tensor([[11.0, 11, 21, 16]]), 0.5), "the toy of notebook 02": (TOY, OBJECTS, 0.5),
              "one box that an anchor fits, and one far away": (one, torch.tensor([[11.0, 11, 21, 20], [53, 2, 63, 9]]), 0.5),
              "a threshold of 0.7": (TOY, some, 0.7), "30 boxes at random": (TOY, some, 0.4)}
    return [Case(what, (box_iou(spec.grid_xyxy(TOY_HW), boxes), threshold), known=(spec, boxes, threshold))
            for what, (spec, boxes, threshold) in scenes.items()]


def _step(wh: Tensor, centres: Tensor) -> Tensor:
    around = [cxcywh_to_xyxy(torch.cat([torch.zeros_like(sizes), sizes], -1)) for sizes in (wh, centres)]
    nearest = box_iou(*around).argmax(1)
    return torch.stack([wh[nearest == k].mean(0) if (nearest == k).any() else centre for k, centre in enumerate(centres)])


def _clouds() -> list[Case]:
    wh = xyxy_to_cxcywh(boxes_at_random(60, (128, 256), 6))[:, 2:]
    return [Case("four boxes and two clear groups", (torch.tensor([[4.0, 12], [6, 16], [60, 30], [80, 40]]), torch.tensor([[5.0, 10], [50, 50]]))),
            Case("a box that IoU and distance give to different centres",
                 (torch.tensor([[20.0, 20], [40, 40], [90, 90]]), torch.tensor([[12.0, 12], [80, 80]]))),
            Case("a shape that no box is nearest to", (torch.tensor([[10.0, 20], [12, 18]]), torch.tensor([[11.0, 19], [200, 200]]))),
            Case("60 boxes and 4 centres", (wh, wh[:4]))]


EXERCISES = (
    Exercise("iou", box_iou,
             ("The intersection is a box: its left edge is the larger of both left edges, its right edge the smaller of both right edges.",
              "Boxes that do not touch get a negative width there, and two negatives make a plus: `clamp(min=0)` each, before multiplying.",
              "`a[:, None]` against `b[None]` gives all pairs. The union is both areas less the intersection."),
             "every part of a detector leans on this number: anchors, matching, NMS and AP. Boxes have edges, not pixels, so no + 1.", _pairs),
    Exercise("anchor-grid", lambda stride, shapes, image_hw: AnchorSpec((stride,), (tuple(shapes),)).grid(image_hw),
             ("`image_hw` is height, then width. How many rows and columns of cells are there?",
              "A cell's centre is half a stride behind its corner.",
              "Three loops, from outside in: row, column, shape. The entry is ((column + 0.5) stride, (row + 0.5) stride, w, h)."),
             "the order is a promise: the head's outputs are read in the same one. An exchanged row and column trains without an error, and "
             "learns nothing.",
             _grids),
    Exercise("encode-decode", (encode, decode),
             ("Boxes come as corners and anchors as centre and size: bring the box to centre and size first (`unbind(-1)` gives four columns).",
              "The formulas stand in section 1. Solve each of them for x, y, w, h: where there was a logarithm, there is an exponential.",
              "x = x_a + 0.1 w_a t_x, and w = w_a exp(0.2 t_w); then back to corners."),
             "there and back is the identity. A pair that is wrong in the same way on both sides would pass that test too, so each is "
             "compared by itself.",
             _codes),
    Exercise("match", match,
             ("`overlap.max(dim=1)` gives each anchor's best overlap and whose it is.",
              "An anchor at or below the threshold is background, -1. Only then do objects claim theirs, and a claim overrules what stood there.",
              "Claims in order: `for m, anchor in enumerate(overlap.argmax(dim=0)): matched[anchor] = m`. No objects: all -1."),
             "what you have written decides what each anchor is taught. Read it again: an object that claims first can be overruled, and "
             "is then forgotten, unless it has another anchor above the threshold.",
             _scenes),
    Exercise("hard-negatives", _hardest,
             ("How many are wanted? Three for each positive, but never more than there are negatives.",
              "Positives must not be chosen however large their loss is: lower it below every other before sorting.",
              "`losses.masked_fill(positive, -1).topk(wanted).indices` are the places to set to True."),
             "a picture without objects gets no negatives: under this loss an empty street teaches nothing.", _losses),
    Exercise("ssd-shapes", lambda size, next_size, ratios: torch.tensor(ssd_shapes([(size,) * 2, (next_size,) * 2], [ratios])[0]),
             ("First the squares: this level's size, and the geometric mean of it and the next.",
              "Each ratio gives a wide box, then a high one, both with the area of the first square.",
              "For a ratio r: (size · root, size / root) and (size / root, size · root), with root = √r."),
             "each ratio makes a wide box and a high one, whether the data have both or not. Persons are never wide, and no setting of this recipe "
             "can say so.",
             lambda: [Case("size 16, next 32, no ratios", (16, 32, [])), Case("size 16, next 36, ratio 4", (16, 36, [4])),
                      Case("the report's finest level", (6, 16, [2, 4])), Case("the baseline's third level", (48, 64, [2, 3]))]),
    Exercise("covered", lambda spec, boxes, threshold: coverage(spec, boxes, TOY_HW).recall(threshold),
             ("The overlaps are (R, M), a row an anchor. Of which axis do you want the maximum?",
              "One value a box: its best anchor. Reaching the threshold is enough.",
              "The mean of a mask is a share: `(best >= threshold).float().mean()`."),
             f"this is exact, and slow. Section 2 gets the same number from the nearest cells alone. (Matching asks for more than {THRESHOLD:g}, "
             f"not for as much.)",
             _covers),
    Exercise("kmeans-step", _step,
             ("On one centre the intersection of two boxes is the smaller width times the smaller height.",
              "Each box goes to the shape of its highest IoU; a shape moves to the mean of its boxes, and one without boxes stays.",
              "`inter = torch.minimum(wh[:, None], centres).prod(-1)`, the union as ever, `argmax(1)`; then a mean for each shape."),
             "with IoU a small box weighs as much as a large one. By plain distance the largest boxes would choose most of the shapes.", _clouds),
    Exercise("why-it-rose", "acde",
             ("For each explanation ask: did it differ between the two rows, and did coverage rise where the network is taught, on train?",
              "The table above says for whom coverage rose, on which split. Notebook 02 says what else changed with the anchors.",
              "Four explanations remain. Persons are covered worse by its set on both splits, and both models had the same steps."),
             "an experiment with four open explanations has shown none of them. The one that the report hoped for is ruled out.",
             pointers={"b": "its set covers fewer persons than before, on both splits.", "f": "both models had 1,000 steps."}),
)
