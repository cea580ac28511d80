"""Exercises of notebooks 00, 01 and 03: rows of a ladder, boxes counted, and boxes that follow their picture."""
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from ..boxes import flip
from ..data.augment import LEAST_PART, LEAST_SHARE, crop, roll
from ..data.coco import clip_and_number
from ..experiments import ladder
from .exercise import Case, Exercise

FILES = ("images/train/trip007_glos_Video00000_85.png", "images/train/trip007_glos_Video00001_85.png", "images/val/clip3_7.png", "street_12_104.jpg",
         "images/val/tour.b_12.jpeg")  # an ending is what follows the last point, however long
HEIGHT = 128  # px of the pictures that boxes are moved in


def boxes_at_random(number: int, image_hw: tuple[int, int], seed: int = 0) -> Tensor:
    """Boxes (M, 4) xyxy px, in whole pixels and inside the picture."""
    rng, (height, width) = np.random.default_rng(seed), image_hw
    w, h = rng.integers(3, width // 2, number), rng.integers(3, height // 2, number)
    x, y = rng.integers(0, width - w), rng.integers(0, height - h)
    return torch.from_numpy(np.stack([x, y, x + w, y + h], -1)).float()


def _rows() -> list[Case]:
    rows = {name: {key: value for key, value in asdict(row).items() if key != "seed"} for name, row in ladder("laptop").items()}
    return [Case("baseline and adam", (rows["baseline"], rows["adam"])), Case("a row and itself", (rows["fpn"], rows["fpn"])),
            Case("flip and fpn", (rows["flip"], rows["fpn"])), Case("baseline and extended", (rows["baseline"], rows["extended"])),
            Case("the same settings in another order", ({"loss": "focal", "prior": 0.01}, {"prior": 0.01, "loss": "focal"})),
            Case("a setting that the second row lacks", ({"loss": "focal", "prior": None}, {"loss": "focal"})),
            Case("a setting that the first row lacks", ({"loss": "focal"}, {"loss": "focal", "weights": "imagenet"}))]


def _apart(a: np.ndarray, b: np.ndarray, width: int) -> np.ndarray:
    straight = np.abs(a - b)
    return np.minimum(straight, width - straight)


def _columns() -> list[Case]:
    rng, none = np.random.default_rng(0), np.zeros(0)
    return [Case("two columns side by side", (np.array([100.0]), np.array([101.0]), 1024)),
            Case("the first and the last column", (np.array([0.0]), np.array([1023.0]), 1024)),
            Case("the last and the first column", (np.array([1023.0]), np.array([0.0]), 1024)),
            Case("a third of a turn to the left", (np.array([600.0]), np.array([280.0]), 960)),
            Case("half a turn", (np.array([200.0]), np.array([712.0]), 1024)), Case("no columns", (none, none, 1024)),
            Case("twelve pairs at random", (rng.uniform(0, 512, 12).round(1), rng.uniform(0, 512, 12).round(1), 512))]


def _changed(a: dict, b: dict) -> float:
    nothing = object()
    return float(sum(a.get(key, nothing) != b.get(key, nothing) for key in a.keys() | b.keys()))


def _share(boxes: np.ndarray, limit_wh: tuple[float, float]) -> float:
    return float(((boxes[:, 2:] - boxes[:, :2]) < limit_wh).all(1).mean()) if len(boxes) else 0.0


def _mean(ap: list[float]) -> float:
    present = [value for value in ap if value >= 0]
    return float(np.mean(present)) if present else np.nan


def _rolled(boxes: Tensor, shift: int, width: int) -> Tensor:
    return roll((torch.zeros(1, HEIGHT, width), boxes, torch.ones(len(boxes))), shift)[1]


def _cropped(boxes: Tensor, left: int, width: int) -> Tensor:
    return crop((torch.zeros(1, HEIGHT, 512), boxes, torch.ones(len(boxes))), left, width)[1]


def sorted_rows(values: np.ndarray) -> np.ndarray:
    """Rows in one order, for results whose order is free."""
    return values[np.lexsort(values.T[::-1])] if values.ndim == 2 else values


def _moved() -> list[Case]:
    one = torch.tensor([[100.0, 20, 160, 60]])
    return [Case("a box that stays in one piece", (one, 50, 512)), Case("a box that comes to lie across the seam", (one, 380, 512)),
            Case("a box that goes round once", (one, 450, 512)), Case("a cut that leaves 1 px on the right", (one, 353, 512)),
            Case("a cut that leaves 1 px on the left", (one, 411, 512)), Case("a roll to the left", (one, -130, 512)),
            Case("no boxes", (one[:0], 10, 512)), Case("20 boxes at random", (boxes_at_random(20, (HEIGHT, 512)), 200, 512))]


def _windows() -> list[Case]:
    one = torch.tensor([[100.0, 20, 200, 60]])
    return [Case("a box inside the window", (one, 50, 256)), Case("a box that is cut to a half", (one, 150, 256)),
            Case("a box of which 40 of 100 columns are left", (one, 160, 256)), Case("a box of which 39 of 100 columns are left", (one, 161, 256)),
            Case("a box cut by the right edge", (one, 0, 145)), Case("a box outside", (one, 220, 256)), Case("no boxes", (one[:0], 10, 256)),
            Case("20 boxes at random", (boxes_at_random(20, (HEIGHT, 512)), 128, 256))]


EXERCISES = (
    Exercise("seam", _apart,
             ("There are two ways from one column to the other: straight on, and over the seam.",
              "Together the two ways are one turn, `width` columns.",
              "The straight way is `np.abs(a - b)`; take, element by element, the smaller of it and `width` minus it: `np.minimum`."),
             "a convolution that pads both edges with zeros does not know that they are neighbours: for it an object on the seam is two halves, far "
             "apart. Notebook 03 rolls pictures for that.", _columns),
    Exercise("two-changes", "bfg",
             ("Find the report's step in the table above. Is there one row for it, or are there two?",
              "Three steps are larger than one row. Two of them exchange a part that has nothing to do with their name.",
              "Look for the step that exchanges the backbone too, the one that exchanges the optimiser too, and the one that lasts longer too."),
             "three of its seven gains cannot be credited to what they are named after. That is why every row here replaces one setting.",
             pointers={"a": "mirroring is all that it changed.", "c": "the loss is all that it changed.",
                       "d": "the convolutions before each head are all that it changed.",
                       "e": "first values are all that it changed. (What of them is felt is another matter: notebook 04.)"}),
    Exercise("changed", _changed,
             ("Go over the names of the settings, not over their places: two rows may list them in another order.",
              "A name that only one row has is a difference too, even when its value is None. `a.keys() | b.keys()` holds all names.",
              "Sum over all names: `name not in a or name not in b or a[name] != b[name]`."),
             "this is the test that guards the ladder. A row that changed two settings would fail it before anybody trains.", _rows),
    Exercise("small-share", _share,
             ("Width and height first: `boxes[:, 2] - boxes[:, 0]` and its like.", "A box must be below both limits, not below one of them.",
              "The mean of a mask is a share: `((w < limit_wh[0]) & (h < limit_wh[1])).mean()`; of no boxes, 0."),
             "a share needs its limits beside it: \"small\" by COCO's 32² px is another share of the same boxes, and both are right.",
             lambda: [Case("a box of 10 x 40 px and a limit of 16 x 16", (np.array([[5.0, 5, 15, 45]]), (16, 16))),
                      Case("a box exactly as large as the limit", (np.array([[100.0, 5, 116, 15]]), (16, 50))),
                      Case("a limit of 30 x 50 px", (boxes_at_random(200, (128, 256)).numpy(), (30, 50))),
                      Case("a limit of 50 x 30 px", (boxes_at_random(200, (128, 256)).numpy(), (50, 30))),
                      Case("no boxes", (np.zeros((0, 4)), (30, 50)))]),
    Exercise("clip-name", lambda file_name: clip_and_number(file_name)[0],
             ("Folder and ending are no part of the clip's name, and neither is the number of the frame.",
              "Only the last number counts: `Video00000` has digits of its own.", "Take off folder and ending, then all after the last `_`."),
             "with the clips named, frames can be counted as what they are: many looks at few streets.",
             lambda: [Case(f"{name!r}", (name,)) for name in FILES]),
    Exercise("mean-over-classes", _mean,
             ("-1 is no AP. It marks a class that cannot be measured.", "A class with AP 0 has objects and none was found: it stays in the mean.",
              "Keep the values that are not below 0, then average; nothing kept is `float(\"nan\")`."),
             "on the report's val this is a mean over four classes of eight. Write the number of classes beside every mAP.",
             lambda: [Case("four classes, all with objects", ([0.5, 0.25, 0.1, 0.3],)), Case("classes without objects", ([0.2, -1, 0.4, -1],)),
                      Case("a class of which nothing was found", ([0.3, 0.0, -1, 0.6],)), Case("no class with objects", ([-1, -1],))]),
    Exercise("mirror", flip,
             ("Draw a picture 10 px wide with a box from 1 to 4. Where is it in the mirror?", "The edge that was right is left now.",
              "New x1 is width - x2, new x2 is width - x1."),
             "the box keeps its size and x1 stays the smaller. Whoever forgets to exchange the two gets negative widths.",
             lambda: [Case("a box from 1 to 4 in 10 columns", (torch.tensor([[1.0, 2, 4, 6]]), 10)),
                      Case("a box that touches the left edge", (torch.tensor([[0.0, 2, 4, 6]]), 64)), Case("no boxes", (torch.zeros(0, 4), 64)),
                      Case("20 boxes at random", (boxes_at_random(20, (128, 512)), 512))]),
    Exercise("rolled", _rolled,
             ("First move, then ask where the box is: `start = (x1 + shift) % width`, and the end follows from its width.",
              "What sticks out on the right comes in on the left: the same box, `width` px further left. Cut both at the picture's edges.",
              f"Of each box there are two parts, cut at 0 and `width`; keep those that are at least {LEAST_PART:g} px wide. Their order is free."),
             "a panorama has no edge of its own, so the cut is the sensor's and not the street's.", _moved, form=sorted_rows),
    Exercise("kept", _cropped,
             ("Move the boxes to the window's coordinates, then cut them at its edges.",
              "Compare areas before and after the cut, not the places of centres.",
              f"Keep a box if its area after the cut is at least {LEAST_SHARE:g} of that before; heights stay, so widths say the same."),
             "with no limit a wheel at the edge would be taught as a car. Where the limit lies is a choice, and belongs into the report.", _windows),
    Exercise("flip-cost", (1000 / 25.36 - 1000 / 26.69) / 0.3,
             ("Images a second cannot be subtracted. Turn both into milliseconds an image.",
              "The difference is a mean over all images, and only three in ten are flipped.", "Divide the 1.96 ms by 0.3."),
             "more than six milliseconds to mirror a small picture is not believable: the table's difference is mostly something else, and one "
             "number a row cannot say what.", tolerance=5e-3,
             pointers={26.69 - 25.36: "a difference of rates, images a second.",
                       1000 / 25.36 - 1000 / 26.69: "the mean over all images; few were flipped.",
                       (1000 / 25.36 - 1000 / 26.69) * 0.3: "less than the mean over all images; a flipped one must cost more.",
                       (1000 / 25.36 - 1000 / 26.69) / 0.7: "divided by the images that were not flipped.",
                       1000 / 25.36: "the whole time of an image."}),
)
