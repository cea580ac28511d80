"""Casts the rays of a spinning LiDAR into a scene of upright shapes, exactly.

Rays are kept as horizontal range s (m) and the slope t = tan(elevation) of their row: a hit lies at s * (cos az, sin az, t).
An upright shape is then a function of a column plus a function of a row, so that a pixel costs a few operations.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .objects import BALL, HOUSE, LEAF, RING
from .streets import BACKDROP, GROUND, HILLS, SKY, Scene

__all__ = ["FACES", "NOTHING", "Caster", "Hits", "Sensor"]

NOTHING = np.float32(1e6)  # m, the range of a ray that meets nothing
FACES = 32  # first face number of the shapes, four each; those below are ground, sky and backdrop
BATCH = 25_000  # px: a thing whose shapes cover fewer is cast at once, a larger one shape by shape
TINY = 0.7  # px: smaller shapes are left out


@dataclass(frozen=True)
class Sensor:
    """A spinning LiDAR: `azimuth_deg` wide (360 = a panorama whose first and last columns touch), forward in the middle column."""

    image_hw: tuple[int, int] = (128, 1024)
    azimuth_deg: float = 360.0
    elevation_deg: tuple[float, float] = (22.5, -22.5)  # upper and lower edge of the image
    height_m: float = 1.9
    max_range_m: float = 120.0
    grey_range_m: tuple[float, float] = (4.5, 52.0)  # ranges shown as 0 and 255

    @property
    def panorama(self) -> bool:
        """Whether the columns close to a circle."""
        return self.azimuth_deg == 360

    @property
    def circle(self) -> int:
        """Columns in a full turn."""
        return round(self.image_hw[1] * 360 / self.azimuth_deg)

    def slopes(self) -> np.ndarray:
        """tan(elevation) at the rows' centres, (H,)."""
        height, (top, bottom) = self.image_hw[0], self.elevation_deg
        return np.tan(np.deg2rad(top + (bottom - top) * (np.arange(height) + 0.5) / height))

    def azimuths(self, columns: np.ndarray) -> np.ndarray:
        """Azimuth of the columns' centres, rad, to the left of forward."""
        return (self.image_hw[1] / 2 - columns - 0.5) * (2 * np.pi / self.circle)


@dataclass
class Hits:
    """What the rays met: horizontal range (m, NOTHING if none) and face number, both (H, W); per object its parts of the image."""

    depth: np.ndarray
    face: np.ndarray
    parts: list[tuple[int, tuple[slice, slice], int]]  # object, rows and columns, pixels it would have un-occluded


@dataclass
class Placed:
    """The P shapes of a scene as the caster wants them."""

    kind: np.ndarray  # (P,)
    table: np.ndarray  # (P, 9) cos and sin of the yaw, centre along and across, half extents, lower and upper end, extra
    gap: np.ndarray  # (P,) horizontal distance of the nearest point, m
    seen: np.ndarray  # (P,) whether it is in the image and large enough
    window: np.ndarray  # (P, 4) rows from, to, columns from, to; columns unwrapped


class Caster:
    """Casts the rays of one sensor; holds its tables of directions."""

    def __init__(self, sensor: Sensor) -> None:
        """The tables cover three turns, so that a window across the seam is one slice."""
        self.sensor, circle, height = sensor, sensor.circle, sensor.image_hw[0]
        self.slope = sensor.slopes()
        azimuth = sensor.azimuths(np.arange(-circle, 2 * circle) % circle)
        self.origin, self.cos, self.sin = circle, np.cos(azimuth), np.sin(azimuth)  # column c is at [origin + c]
        white = np.random.default_rng(7).standard_normal((height + 64, circle)).astype(np.float32)
        rough = gaussian_filter(white, 0.9, mode="wrap") * 2.2 + gaussian_filter(white, 2.5, mode="wrap") * 4
        rank = np.clip(0.5 + 0.3 * rough, 0, 0.999).astype(np.float32)
        self.leaves = np.concatenate([np.roll(rank, -(circle - sensor.image_hw[1]) // 2, 1)] * 3, 1)
        with np.errstate(divide="ignore"):
            ground = np.where(self.slope < 0, -sensor.height_m / self.slope, np.inf)
        self.ground = np.where(np.hypot(1, self.slope) * ground < sensor.max_range_m, ground, NOTHING).astype(np.float32)
        self.horizon = int(np.searchsorted(-self.ground, -HILLS, side="right"))  # the first row that can show ground

    def cast(self, scene: Scene) -> Hits:
        """The nearest hit of every ray, exactly; objects are visited from near to far and skipped where all is nearer."""
        height, width = self.sensor.image_hw
        depth = np.repeat(self.ground[:, None], width, 1)
        face = np.full((height, width), SKY, np.int32)
        self._far_(depth, face, scene)
        shapes = self._place(scene)
        parts = []
        for thing, first, last in self._order(scene, shapes):
            chosen = first + np.flatnonzero(shapes.seen[first:last])
            row, end_row, column, end_column = _union(shapes.window[chosen])
            spans = self._spans(row, end_row, column, end_column)
            if all(depth[at].max() < shapes.gap[chosen].min() for at, _ in spans):
                continue
            near, face_of = self._object(shapes, first, chosen, (row, end_row, column, end_column))
            for at, own in spans:
                closer = near[:, own] < depth[at]
                np.copyto(depth[at], near[:, own], where=closer)
                np.copyto(face[at], face_of[:, own], where=closer)
                if scene.label[thing]:
                    parts.append((thing, at, int(np.count_nonzero(near[:, own] < NOTHING))))
        return Hits(depth, face, parts)

    def _spans(self, row: int, end_row: int, column: int, end_column: int) -> list[tuple[tuple[slice, slice], slice]]:
        """Where a window of unwrapped columns lies in the image, and which of its columns those are: two places if it crosses the seam."""
        spans, width = [], self.sensor.image_hw[1]
        for shift in (0, width, -width) if self.sensor.panorama else (0,):
            low, high = max(column + shift, 0), min(end_column + shift, width)
            if low < high:
                spans.append(((slice(row, end_row), slice(low, high)), slice(low - column - shift, high - column - shift)))
        return spans

    def _far_(self, depth: np.ndarray, face: np.ndarray, scene: Scene) -> None:
        """Puts the wooded hills behind everything, a ring at HILLS whose height differs with the direction."""
        turn = np.mod(self.sensor.azimuths(np.arange(depth.shape[1])) + scene.heading, 2 * np.pi) / (2 * np.pi)
        skyline = scene.street.skyline[(turn * len(scene.street.skyline)).astype(int)]
        top, end = int(np.searchsorted(-self.slope, -skyline.max() / HILLS)), self.horizon
        leaves = self.leaves[top:end, self.origin:self.origin + depth.shape[1]]
        hit = self.slope[top:end, None] * HILLS < skyline * (0.75 + 0.4 * leaves)
        np.copyto(depth[top:end], HILLS * (0.9 + 0.2 * leaves), where=hit)
        np.copyto(face[top:end], BACKDROP + (leaves * 4).astype(np.int32), where=hit)
        face[end:] = GROUND

    def _place(self, scene: Scene) -> "Placed":
        """Every shape's axes, the centre along them, and the window of the image that it may cover."""
        x, y, z, half_x, half_y, half_z, yaw = scene.shapes.T[1:8]
        cos, sin = np.cos(yaw), np.sin(yaw)
        along, across = x * cos + y * sin, y * cos - x * sin
        corner_x = along[:, None] + half_x[:, None] * [-1, -1, 1, 1]  # (P, 4)
        corner_y = across[:, None] + half_y[:, None] * [-1, 1, -1, 1]
        reach = np.hypot(corner_x, corner_y).max(1)
        gap = np.hypot(np.maximum(np.abs(along) - half_x, 0), np.maximum(np.abs(across) - half_y, 0))
        middle = np.arctan2(scene.xy[:, 1], scene.xy[:, 0])[scene.owner][:, None]
        turn = np.mod(np.arctan2(corner_y, corner_x) + yaw[:, None] - middle + np.pi, 2 * np.pi) - np.pi + middle
        width = self.sensor.image_hw[1]
        columns = width / 2 - turn * (self.sensor.circle / (2 * np.pi))
        low, high = z - half_z - self.sensor.height_m, z + half_z - self.sensor.height_m
        safe = np.maximum(gap, 0.1)
        top = np.searchsorted(-self.slope, -high / np.where(high > 0, safe, reach))  # -slope rises with the row
        bottom = np.searchsorted(-self.slope, -low / np.where(low < 0, safe, reach))
        window = np.stack([top, bottom, np.floor(columns.min(1)), np.ceil(columns.max(1))], 1).astype(int)
        if not self.sensor.panorama:
            window[:, 2:] = window[:, 2:].clip(0, width)
        large = 2 * np.maximum(half_x, np.maximum(half_y, half_z)) > TINY * gap * (2 * np.pi / self.sensor.circle)
        seen = large & (gap > 0.3) & (gap < self.sensor.max_range_m) & (window[:, 0] < window[:, 1]) & (window[:, 2] < window[:, 3])
        table = np.stack([cos, sin, along, across, half_x, half_y, low, high, scene.shapes[:, 10]], 1)
        return Placed(scene.shapes[:, 0].astype(int), table, gap, seen, window)

    @staticmethod
    def _order(scene: Scene, shapes: "Placed") -> Iterator[tuple[int, int, int]]:
        """(thing, first shape, last + 1) of the things that have a shape in view, nearest first."""
        first, last = scene.first, np.append(scene.first[1:], len(scene.owner))
        near = np.minimum.reduceat(np.where(shapes.seen, shapes.gap, np.inf), first)
        for thing in np.argsort(near, kind="stable")[:int(np.isfinite(near).sum())]:
            yield int(thing), int(first[thing]), int(last[thing])

    def _object(self, shapes: "Placed", first: int, chosen: np.ndarray, window: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """One thing alone: range and face number, (h, w).

        The nearest of its shapes is found as the least of whole numbers: the bits of a positive float32 grow with its value, and
        its last seven give way to shape and face (a range keeps 16 bits, 1 mm in 60 m).
        """
        row, end_row, column, end_column = window
        best = np.full((end_row - row, end_column - column), NOTHING.view(np.int32), np.int32)
        kinds = shapes.kind[chosen]
        if best.size * len(chosen) < BATCH:
            groups = [(chosen[kinds == kind], window) for kind in sorted(set(kinds.tolist()))]
        else:
            groups = [(chosen[i:i + 1], shapes.window[chosen[i]].tolist()) for i in range(len(chosen))]
        for group, (r0, r1, c0, c1) in groups:
            near, code = self._nearest(shapes, group, slice(r0, r1), slice(self.origin + c0, self.origin + c1))
            number = near.view(np.int32)
            number &= ~127
            number |= code
            number |= (4 * (group - first)).astype(np.int32)[:, None, None]
            at = best[r0 - row:r1 - row, c0 - column:c1 - column]
            np.minimum(at, number.min(0) if len(group) > 1 else number[0], out=at)
        return (best & ~127).view(np.float32), (best & 127) + np.int32(FACES + 4 * first)

    def _nearest(self, shapes: "Placed", group: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """Ranges, float32, and face codes 0..3 of n shapes of one kind, (n, h, w)."""
        cos, sin, along, across, half_x, half_y, low, high, extra = shapes.table[group].T[..., None]
        u = self.cos[columns] * cos + self.sin[columns] * sin  # the rays' directions along the shapes' axes, (n, w)
        v = self.sin[columns] * cos - self.cos[columns] * sin
        slope, kind = self.slope[rows], shapes.kind[group[0]]
        if kind == RING:
            return _ring(u, v, slope, along, across, half_x, low, high, extra)
        if kind == BALL:
            return _ball(u, v, slope, along, across, half_x, half_y, low, high)
        if kind == LEAF:
            shift = int(extra[0, 0])
            return _ball(u, v, slope, along, across, half_x, half_y, low, high, self.leaves[rows.start + shift:rows.stop + shift, columns])
        near, code = _box(u, v, slope, along, across, half_x, half_y, low, high)
        return near, _panes(near, code, u, v, slope, along, across, extra, low) if kind == HOUSE else code


def _union(windows: np.ndarray) -> tuple[int, int, int, int]:
    """The window around several, (n, 4) -> rows from, to, columns from, to."""
    (row, _, column, _), (_, end_row, _, end_column) = windows.min(0).tolist(), windows.max(0).tolist()
    return row, end_row, column, end_column


def _box(u, v, slope, along, across, half_x, half_y, low, high):
    """Upright boxes: three slabs, of which two depend on the column alone and one on the row alone; (P, h, w)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse_u, inverse_v = 1 / u, 1 / v
        near_x, near_y = along * inverse_u - half_x * np.abs(inverse_u), across * inverse_v - half_y * np.abs(inverse_v)
        far = np.minimum(along * inverse_u + half_x * np.abs(inverse_u), across * inverse_v + half_y * np.abs(inverse_v))
        near = np.maximum(np.maximum(near_x, near_y), 0)
        a, b = low / slope, high / slope
    near, far = near.astype(np.float32)[:, None], far.astype(np.float32)[:, None]
    enter, leave = np.minimum(a, b).astype(np.float32)[..., None], np.maximum(a, b).astype(np.float32)[..., None]
    hit = np.maximum(near, enter)
    code = np.where(enter > near, np.uint8(2), (near_y > near_x).astype(np.uint8)[:, None])
    return np.where(hit < np.minimum(far, leave), hit, NOTHING), code


def _panes(near, code, u, v, slope, along, across, period, low):
    """Windows in a building's walls: face 3 where both the place along the wall and the height above ground say so."""
    with np.errstate(invalid="ignore"):
        side, which = near.min(1), code.min(1)  # (1, w): a wall's range depends on the column alone
        place = np.where(which == 1, side * u - along, side * v - across) / period
        column = np.abs(place - np.floor(place) - 0.5) < 0.24
        storey = (near[0] * slope[:, None].astype(np.float32) - np.float32(low[0, 0])) * np.float32(1 / 3.1)
        pane = np.abs(storey - np.floor(storey) - np.float32(0.55)) < 0.25
    code[0][pane & column & (code[0] < 2)] = 3
    return code


def _ball(u, v, slope, along, across, half_x, half_y, low, high, leaves=None):
    """Ellipsoids: a s^2 - 2 b s + c = 0, where a and b are a row's term plus a column's; leaves fray the outline."""
    half_z, z = (high - low) / 2, (high + low) / 2
    row, tilt = slope / half_z, z / half_z
    a = ((u / half_x) ** 2 + (v / half_y) ** 2).astype(np.float32)[:, None] + (row ** 2).astype(np.float32)[..., None]
    b = (u * along / half_x ** 2 + v * across / half_y ** 2).astype(np.float32)[:, None] + (row * tilt).astype(np.float32)[..., None]
    c = ((along / half_x) ** 2 + (across / half_y) ** 2 + tilt ** 2 - 1).astype(np.float32)[..., None]
    root = b * b - a * c
    inside = root > (0 if leaves is None else a * (leaves * leaves))
    near = (b - np.sqrt(np.maximum(root, 0))) / a
    if leaves is not None:
        near *= 1 + 0.06 * leaves
    near = np.where(inside & (near > 0), near, NOTHING)
    if leaves is not None:
        return near, (leaves * 4).astype(np.uint8)
    return near, np.where(slope * np.hypot(along, across) > z, np.uint8(2), np.uint8(0))[..., None]


def _ring(u, v, slope, along, across, half_x, low, high, inner):
    """Upright flat rings (wheels) along the shape's first axis; `inner` is the hole's share of the radius."""
    with np.errstate(divide="ignore", invalid="ignore"):
        near = across / v
    near = np.where((near > 0) & (near < NOTHING), near, NOTHING)
    place = (near * u - along).astype(np.float32)[:, None]
    near = near.astype(np.float32)[:, None]
    rise = near * slope.astype(np.float32)[:, None] - ((low + high) / 2).astype(np.float32)[..., None]
    radius = rise * rise + place * place
    hit = (radius < (half_x ** 2)[..., None]) & (radius >= ((half_x * inner) ** 2)[..., None])
    return np.where(hit, near, NOTHING), np.zeros((1, 1, 1), np.uint8)
