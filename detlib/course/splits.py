"""Exercises of notebooks 06 and 09: distances between splits and what clips are worth; other forms, other classes, other pictures."""
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from ..boxes import clip, cxcywh_to_xyxy
from ..data.resplit import distance
from ..shift import effective
from .data import boxes_at_random
from .exercise import Case, Exercise


def _samples() -> list[Case]:
    rng = np.random.default_rng(0)
    a = np.array([1.0, 2, 4])
    return [Case("a sample and itself moved by 3", (a, a + 3)), Case("two samples of the same mean", (np.array([5.0, 5]), np.array([0.0, 10]))),
            Case("3 values against 2", (a, np.array([2.0, 9]))), Case("a sample in another order", (a, a[::-1].copy())),
            Case("300 sizes against 80", (rng.lognormal(3, 0.6, 300), rng.lognormal(3.3, 0.4, 80)))]


def _mixes() -> list[Case]:
    return [Case("two classes that gain what two others lose", (np.array([40, 10, 40, 10]), np.array([25, 25, 30, 20]))),
            Case("two splits of the same mix and different size", (np.array([30, 10]), np.array([3, 1]))),
            Case("two splits without a common class", (np.array([5, 0]), np.array([0, 9]))),
            Case("the report's train and val", (np.array([9563, 123, 445, 0, 1043, 615, 4910, 1588]), np.array([1437, 0, 93, 0, 0, 0, 3699, 315])))]


def _undone(boxes: Tensor, scale: float, pad_xy: tuple[float, float], picture_hw: tuple[int, int]) -> Tensor:
    left, top = pad_xy
    return clip((boxes - boxes.new_tensor([left, top, left, top])) / scale, picture_hw)


def _boxed() -> list[Case]:
    box = torch.tensor([[40.0, 20, 60, 50]])
    return [Case("a scale of 1 and no border", (box, 1.0, (0, 0), (128, 256))), Case("a scale of 0.5 and no border", (box, 0.5, (0, 0), (256, 512))),
            Case("a border of 10 px on the left", (box, 1.0, (10, 0), (128, 236))),
            Case("scale and a border at the top", (box, 0.5, (0, 16), (128, 512))),
            Case("a box that sticks out into the border", (torch.tensor([[2.0, 10, 60, 127]]), 0.5, (8, 16), (192, 480))),
            Case("20 boxes at random", (boxes_at_random(20, (128, 256)), 0.4, (4, 14), (250, 620)))]


def _val_frames(clips: Sequence[str], wanted: int) -> np.ndarray:
    taken: list[str] = []
    for clip_name in dict.fromkeys(clips):
        if sum(name in taken for name in clips) >= wanted:
            break
        taken.append(clip_name)
    return np.array([name in taken for name in clips])


def _filters(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    return np.array([0, *(theirs.index(name) + 1 if name in theirs else -1 for name in ours)])


STREETS = ["b"] * 4 + ["a"] * 3 + ["c"] * 5

EXERCISES = (
    Exercise("wasserstein", wasserstein_distance,
             ("With equally many values one would sort both and pair them. The general form is the area between two distribution functions.",
              "Between neighbouring values of both samples taken together the functions are flat: `np.searchsorted(np.sort(a), grid, "
              "side=\"right\") / len(a)`.",
              "Sum |F - G| at each value but the last, times the gap to the next (`np.diff(grid)`)."),
             "two samples of one mean can lie far apart. The number has a unit: so many px a box would have to change, on average.", _samples),
    Exercise("total-variation", lambda a, b: float(distance(a, b, None)),
             ("Counts of splits of different size cannot be compared. Shares can.",
              "What one class gains another loses, so the plain sum counts each box twice.",
              "Half the sum of the absolute differences of the shares."),
             "between the report's train and val it is the share of boxes that would have to change their class: about two in five.", _mixes),
    Exercise("effective-clips", effective,
             ("Shares first: each clip's count by the sum.", "Equal counts must give the number of clips; one clip with all must give 1.",
              "1 / sum of the squared shares; 0 where there is nothing."),
             "twelve clips of which one holds nine tenths are worth little more than one. Look for the class in val whose AP rests on that.",
             lambda: [Case("four equal clips", (np.array([5, 5, 5, 5]),)), Case("one clip with all objects", (np.array([0, 12, 0]),)),
                      Case("twelve clips, one of which holds nine tenths", (np.array([99, *[1] * 11]),)),
                      Case("three clips of 3, 2 and 1", (np.array([3, 2, 1]),)),
                      Case("no objects", (np.zeros(4),))]),
    Exercise("extended-frames", 16_750.0,
             ("How many images has it seen in 6,000 steps?",
              "An epoch is one pass over all frames. It says that there were 11 of them, and perhaps a part of the twelfth.",
              "6,000 steps times 32 images, divided by 11 passes, or by up to 12 where the twelfth was begun."),
             "ten to eleven times the 1,604 frames of the other rows, which were seen 20 times each in 1,000 steps. So it had more streets, six "
             "times the steps and about half the passes at once, and the gain belongs to all of these.",
             tolerance=0.045,  # 16,000 (12 passes) to 17,500 (11)
             pointers={6000 * 32: "the number of images seen; each frame was seen several times.",
                       6000 / 11: "the steps of one pass, each of 32 images.", 6000 * 11: "steps times passes, which is nothing.",
                       1604 * 11: "11 passes over the *old* split.", 6000 * 32 / 1604: "the number of passes, had the split been the old one."}),
    Exercise("yolo-boxes", lambda rows, width, height: cxcywh_to_xyxy(rows * rows.new_tensor([width, height, width, height])),
             ("The four numbers are shares of the picture: x and w of its width, y and h of its height.",
              "The first two are the centre, not a corner.",
              "x1 = (cx - w / 2) width, x2 = (cx + w / 2) width; the same with y, h and the height."),
             "a form that is read as another one rarely raises an error: corners taken for centres give boxes that look almost right. Look at a "
             "picture.",
             lambda: [Case("the whole picture", (torch.tensor([[0.5, 0.5, 1, 1]]), 640, 480)),
                      Case("a box in the upper left quarter", (torch.tensor([[0.25, 0.25, 0.1, 0.2]]), 1024, 128)),
                      Case("no rows", (torch.zeros(0, 4), 64, 32)),
                      Case("20 rows at random", (torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), 640, 480))]),
    Exercise("unletterbox", _undone,
             ("Forwards, a picture is scaled first and then shifted by its border. Backwards, the last step comes first.",
              "Take the border off, x with x and y with y, then divide by the scale.",
              "Last, clip: x to 0 .. width and y to 0 .. height of the picture."),
             "a detector may answer in its own px; whoever uses it has pictures. This inverse belongs to the detector, not to its user.", _boxed),
    Exercise("whole-clips", _val_frames,
             ("Neighbours repeat each other, so a clip goes to val as a whole or not at all.",
              "Clips in the order in which they first appear: `dict.fromkeys(clips)`. Stop as soon as val has enough frames.",
              "A set of taken clips; while too few frames lie in it, add the next; the mask is `name in taken`."),
             "val becomes a little larger than asked for. The other way, to cut the last clip in two, would let a model be judged on frames it "
             "knows by heart.",
             lambda: [Case("three clips, 4 frames wanted", (STREETS, 4)), Case("three clips, 5 frames wanted", (STREETS, 5)),
                      Case("nothing wanted", (STREETS, 0)),
                      Case("everything wanted", (STREETS, 12)), Case("clips that alternate", (["a", "b"] * 4, 3))]),
    Exercise("old-filters", _filters,
             ("A class is its name. Its number is only its place in a list.", "Filter 0 is background's, in both cities; classes begin at 1.",
              "[0], then for each of our names its place in their list + 1, or -1 where they have no such class."),
             "exchange two filters by number and the fine-tuned detector begins by calling every car a person, which no error message reports.",
             lambda: [Case("the same classes", (["car", "person"], ["car", "person"])),
                      Case("another order", (["car", "person", "bus"], ["bus", "car", "person"])),
                      Case("a class that is new", (["car", "person"], ["person", "tram"])), Case("no class in common", (["car"], ["tree", "lamp"]))]),
)
