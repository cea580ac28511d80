"""Boxes of one object in the frames of a clip, linked by place, size and class under the picture's own motion; no track numbers are used.

What the camera's motion does to a standing object's place and size is a smooth function of where it stands: of its column and, since the lower
edge says how far away it is, of that row. This flow is fitted to the boxes of each two frames; what an object moves beyond it is its own.
"""
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from .data.coco import Frame, Split

NOISE = np.array([1.0, 1.5, 0.0, 0.0])  # what a box may be off its object's line: px of x and y ...
SHARES = np.array([0.12, 0.12, 0.3, 0.2])  # ... with these shares of its width and height; logs of width and height
OWN = 0.5  # heights that an object moves by itself between two frames, while its speed is not known
KNOWN = 0.15  # and beyond its speed, when that is known
OTHER_CLASS = 1.5  # cost of a link between two classes
FURTHEST = 8.0  # cost of a link at most: as of two of the four numbers that are 6 standard deviations off
WILD = 10.0  # standard deviations that one number may be off
GAP = 2  # frames that an object may be unseen within a track
TORN = 4  # a clip is torn where frame numbers jump by more than so many times its smallest step
FARTHEST = 12  # or by more than this: a second of film or more
PULL = 3.0  # boxes that the clip's flow counts for, when that of two frames is fitted
JOLT = 0.1  # of it for the shift that all objects have in common: cameras turn and jolt
STARTS = (20.0, 40.0, 80.0, 160.0)  # px that a box at the lower edge moves sideways: where the search for a panorama's flow begins


@dataclass
class Track:
    """Places of one object's rows in `split.boxes`, and the frames that they are in, both in order of time."""

    rows: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)


class Motion:
    """States of all boxes, (M, 4): centre x and lower edge px, logs of width and height; and the flow between neighbouring frames."""

    def __init__(self, split: Split, panorama: bool, flows: dict[tuple[int, int], np.ndarray] | None = None):
        self.frames, self.panorama = split.frames, panorama
        x1, y1, x2, y2 = split.boxes[["x1", "y1", "x2", "y2"]].to_numpy(float).T
        self.states = np.stack([(x1 + x2) / 2, y2, np.log(np.maximum(x2 - x1, 1e-3)), np.log(np.maximum(y2 - y1, 1e-3))], axis=1)
        self.labels = split.boxes["label"].to_numpy()
        self.edges = np.searchsorted(split.boxes["frame"].to_numpy(), np.arange(len(split) + 1))
        self.stretches = stretches(split.frames)
        self.flows = flows or {}  # (from, to) -> (terms, 4); those of nearly the same boxes serve as well
        for stretch in self.stretches if flows is None else ():
            self._fit(stretch)

    def rows(self, frame: int) -> np.ndarray:
        """Places in the box table of a frame's boxes."""
        return np.arange(self.edges[frame], self.edges[frame + 1])

    def difference(self, a: np.ndarray, b: np.ndarray, frame: int) -> np.ndarray:
        """States b less a; the short way round where the picture is a panorama."""
        change = b - a
        if self.panorama:
            width = self.frames[frame].image_hw[1]
            change[..., 0] = (change[..., 0] + width / 2) % width - width / 2
        return change

    def carried(self, states: np.ndarray, start: int, end: int) -> np.ndarray:
        """States (n, 4) of standing objects in frame `start` as they will be (or were) in frame `end` of the same stretch."""
        step = 1 if end > start else -1
        for frame in range(start, end, step):
            states = states + self._terms(states, frame) @ self.flows[frame, frame + step]
        return states

    def cost(self, expected: np.ndarray, own: np.ndarray | float, labels: np.ndarray, frame: int, rows: np.ndarray) -> np.ndarray:
        """How badly boxes of a frame fit what is expected there, (n, m): sums of log(1 + squared deviations), which bear one that is far off.

        `own` (n,) is how many heights an object may have moved by itself.
        """
        sides = np.stack([np.exp(expected[:, 2]), np.exp(expected[:, 3]), np.ones(len(expected)), np.ones(len(expected))], axis=1)
        spread = NOISE + SHARES * sides
        spread[:, 0] = np.hypot(spread[:, 0], own * sides[:, 1])
        change = self.difference(expected[:, None], self.states[rows][None], frame) / spread[:, None]
        return (np.log1p(change**2) + (change / WILD) ** 2).sum(axis=2) + OTHER_CLASS * (labels[:, None] != self.labels[rows][None])

    def _terms(self, states: np.ndarray, frame: int) -> np.ndarray:
        height, width = self.frames[frame].image_hw
        x, low, one = states[:, 0] / width, states[:, 1] / height - 0.5, np.ones(len(states))
        if self.panorama:
            sine, cosine = np.sin(2 * np.pi * x), np.cos(2 * np.pi * x)
            return np.stack([one, low, sine, cosine, low * sine, low * cosine], axis=1)
        return np.stack([one, low, x - 0.5, low * (x - 0.5)], axis=1)

    def _fit(self, stretch: list[int]) -> None:
        common = None
        for step in (1, -1):
            pairs = [(a, b) for a, b in pairwise(stretch[::step]) if len(self.rows(a)) and len(self.rows(b))]
            paces = {pair: abs(self.frames[pair[1]].number - self.frames[pair[0]].number) or 1 for pair in pairs}
            common = self._start(pairs, paces) if common is None else -common
            for _ in range(4 if pairs else 0):
                common = self._refit(pairs, paces, common, common, 0.1)
            for a, b in pairwise(stretch[::step]):
                flow = common * paces.get((a, b), 1)
                for _ in range(3 if (a, b) in paces else 0):
                    flow = self._refit([(a, b)], {(a, b): 1}, flow, common * paces[a, b], PULL)
                self.flows[a, b] = flow

    def _start(self, pairs: list[tuple[int, int]], paces: dict) -> np.ndarray:
        """The flow a frame number that links most boxes, of some simple ones: none, and in panoramas travel in eight directions."""
        choices = [np.zeros((6 if self.panorama else 4, 4))]
        for size in STARTS if self.panorama else ():
            for turn in np.arange(8) * np.pi / 4:
                choices.append(np.zeros((6, 4)))
                choices[-1][4:, 0] = 2 * size * np.cos(turn), 2 * size * np.sin(turn)
        smallest = min(paces.values(), default=1)
        costs = [sum(np.minimum(self._costs(pair, choice / smallest * paces[pair]).min(axis=1), 4).sum() for pair in pairs) for choice in choices]
        return choices[int(np.argmin(costs))] / smallest

    def _costs(self, pair: tuple[int, int], flow: np.ndarray) -> np.ndarray:
        a, b = pair
        rows = self.rows(a)
        return self.cost(self.states[rows] + self._terms(self.states[rows], a) @ flow, KNOWN, self.labels[rows], b, self.rows(b))

    def _refit(self, pairs: list[tuple[int, int]], paces: dict, flow: np.ndarray, prior: np.ndarray, pull: float) -> np.ndarray:
        """The flow a frame number from the boxes that it links, each weighted by how well it fits; `pull` boxes speak for the prior."""
        terms, changes, weights = [], [], []
        for a, b in pairs:
            costs = self._costs((a, b), flow * paces[a, b])
            i, j = linear_sum_assignment(np.minimum(costs, FURTHEST))
            i, j, cost = i[costs[i, j] < FURTHEST], j[costs[i, j] < FURTHEST], costs[i, j][costs[i, j] < FURTHEST]
            start = self.states[self.rows(a)[i]]
            terms.append(self._terms(start, a) * paces[a, b])
            changes.append(self.difference(start, self.states[self.rows(b)[j]], b))
            weights.append(np.exp(-cost / 2))
        x, y, weight = np.concatenate(terms), np.concatenate(changes), np.concatenate(weights)[:, None]
        size = np.diag((x**2 * weight).sum(axis=0) / max(weight.sum(), 1e-9) + 1e-6) * pull
        size[0, 0] *= JOLT  # the first term is the constant
        return np.linalg.solve((x * weight).T @ x + size, (x * weight).T @ y + size @ prior)


def stretches(frames: tuple[Frame, ...]) -> list[list[int]]:
    """Places of the frames that follow each other closely enough to be linked: clips, torn where their numbers jump."""
    found: list[list[int]] = []
    table = pd.DataFrame({"clip": [frame.clip for frame in frames], "number": [frame.number for frame in frames]})
    for _, clip in table.groupby("clip", sort=False):
        steps = np.diff(clip["number"])
        cuts: np.ndarray | list[int] = np.flatnonzero(steps > min(TORN * max(1, steps[steps > 0].min()), FARTHEST)) + 1 if (steps > 0).any() else []
        found += [part.tolist() for part in np.split(clip.index.to_numpy(), cuts)]
    return found


def link(motion: Motion) -> list[Track]:
    """The tracks of all clips; an object without a partner in the neighbouring frames is a track of one."""
    done: list[Track] = []
    for stretch in motion.stretches:
        live: list[Track] = []
        for index in stretch:
            rows = motion.rows(index)
            linked = set()
            if live and len(rows):
                expected, own = zip(*(expect(motion, track.rows, track.frames, index) for track in live), strict=True)
                labels = np.array([usual(motion.labels[track.rows]) for track in live])
                costs = motion.cost(np.array(expected), np.array(own), labels, index, rows)
                for t, r in zip(*linear_sum_assignment(np.minimum(costs, FURTHEST)), strict=True):
                    if costs[t, r] < FURTHEST:
                        live[t].rows.append(int(rows[r]))
                        live[t].frames.append(index)
                        linked.add(r)
            live += [Track([int(row)], [index]) for r, row in enumerate(rows) if r not in linked]
            done += [track for track in live if index - track.frames[-1] > GAP]
            live = [track for track in live if index - track.frames[-1] <= GAP]
        done += live
    return done


def usual(labels: np.ndarray) -> int:
    """The label that occurs most."""
    return int(np.bincount(labels).argmax())


def expect(motion: Motion, rows: list[int], frames: list[int], index: int) -> tuple[np.ndarray, float]:
    """The state (4,) in a frame that an object's boxes in earlier (or, listed backwards, later) frames expect, and its heights of uncertainty.

    The flow carries the last box; what the object moved beyond the flow before, it goes on to move.
    """
    state, far = motion.states[rows[-1]], abs(index - frames[-1])
    expected = motion.carried(state[None], frames[-1], index)[0]
    if len(rows) < 2:
        return expected, OWN * far
    moves = []
    for k in range(max(1, len(rows) - 2), len(rows)):
        before = motion.carried(motion.states[rows[k - 1]][None], frames[k - 1], frames[k])[0]
        moves.append(motion.difference(before, motion.states[rows[k]], frames[k])[0] / abs(frames[k] - frames[k - 1]))
    expected[0] += float(np.mean(moves)) * far
    return expected, KNOWN * far
