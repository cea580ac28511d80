"""Seeded street scenes for the LiDAR simulator: what stands where, and how it moves.

A street runs along x (m) and repeats itself after PERIOD. Objects keep to strips along it (lanes, parking, kerb, pavement, fronts), and all
that move in one strip move at one speed, so that nothing runs into anything. The sensor drives along, and the street bends with it.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import objects
from .objects import BUILDERS, LENGTH, Shapes, moved

__all__ = ["BACKDROP", "CELL", "CLASSES", "GROUND", "HILLS", "MATERIALS", "PERIOD", "SKY", "Scene", "Street"]

CLASSES = ("car", "truck", "bus", "motorcycle", "bicycle", "scooter", "person", "rider")
PERIOD, CELL, ACROSS = 204.8, 0.1, 1024  # m, m, cells: the ground plan is 2048 x 1024 cells
SIDE = 80.0  # m, the same for what moves across the street
VIEW = 85.0  # m: scenery further along the street is left out
REACH = (36, 38, 46, 20, 20, 12, 20, 20)  # m, objects by class: about where the real frames' annotations end
LANE, BAY = 3.3, 2.5  # m, width of a lane and of a row of parked cars
HILLS = 90.0  # m, range of the wooded hills round everything
GROUND, SKY, BACKDROP = 0, 16, 20  # face numbers; 1..15 are the ground's materials, 20..23 four shades of far trees
ASPHALT, PAINT, KERB, PAVING, GRASS, MEADOW, GRAVEL, LID, LANE_RED, PATCH = range(1, 11)
MATERIALS = {ASPHALT: (0.2, 0.2), PAINT: (0.95, 0.85), KERB: (0.5, 0.6), PAVING: (0.34, 0.36), GRASS: (0.85, 0.7), MEADOW: (0.72, 0.55),
             GRAVEL: (0.45, 0.5), LID: (0.1, 0.1), LANE_RED: (0.28, 0.26), PATCH: (0.16, 0.16)}  # laser, light
# What kinds of street there are. How often; the sensor's speed (m/s); lanes a side; chance of parked rows a side; of a cycle lane;
# width of the verge and of the pavement (m); means of the gaps (m) between cars driving, riders, walkers in a track, groups that stand
# about, house fronts.
KINDS = {
    "residential": (0.30, (2, 7), 1, 0.38, 0.25, (1, 1.8), (2, 3), 72, 62, 56, 100, 4),
    "avenue": (0.28, (0, 9), 1, 0.2, 0.7, (1.5, 5), (2.5, 4), 41, 47, 50, 100, 8),
    "boulevard": (0.14, (0, 9), 2, 0.15, 0.7, (2, 4), (3, 4.5), 54, 47, 50, 100, 6),
    "square": (0.14, (0, 1.2), 0, 0.3, 0.0, (1, 2), (8, 13), 60, 60, 32, 30, 5),
    "outskirts": (0.14, (3, 9), 1, 0.15, 0.3, (2, 7), (1.5, 2.5), 80, 110, 150, 150, 20),
}


@dataclass
class Scene:
    """One moment of a street as the sensor sees it: x forward, y left, z up from the ground, m; N things of P shapes in all."""

    shapes: np.ndarray  # (P, 11) rows of objects.py
    owner: np.ndarray  # (P,) which thing a shape belongs to; the shapes of a thing follow one another
    first: np.ndarray  # (N,) a thing's first shape
    xy: np.ndarray  # (N, 2)
    label: np.ndarray  # (N,) 1..8 as in CLASSES, 0 = not an object
    track: np.ndarray  # (N,) the object's number inside its clip
    street: "Street"
    pose: tuple[float, float, float]  # the sensor's place along the street and across it, and its turn from the street's direction
    heading: float = 0.0  # the sensor's direction in the world, rad


class Street:
    """A street drawn from (seed, number); `at(time)` gives the scene at a moment."""

    def __init__(self, seed: int, number: int) -> None:
        """Draws the street; the ground is painted when first asked for."""
        self.seed = seed, number
        self.rng = rng = np.random.default_rng([seed, number])
        names = list(KINDS)
        self.kind = names[rng.choice(len(names), p=[KINDS[name][0] for name in names])]
        (_, speeds, self.lanes, self.parked, cycle, verge, pavement, *gaps, self.front_gap) = KINDS[self.kind]
        self.drive_gap, self.ride_gap, self.walk_gap, self.stand_gap = (gap * rng.lognormal(0, 0.45) for gap in gaps)
        self.speed = float(max(0, rng.uniform(*speeds) - 2)) if speeds[0] == 0 else float(rng.uniform(*speeds))
        self.cycle, self.verge, self.pavement = rng.random() < cycle, rng.uniform(*verge), rng.uniform(*pavement)
        self.edge = (1.7 if self.cycle else 1.1) if self.lanes else 0.0  # m, where bicycles ride
        self.back: dict[int, float] = {}  # m, where the pavement of a side ends
        self.rare = {name: rng.random() < 0.6 for name in ("truck", "bus", "motorcycle", "scooter")}
        self.bend = float(rng.choice([0, rng.uniform(-1, 1) / 130]))
        self.mount = float(rng.normal(0, 0.15))
        self.sun, self.bright_panes, self.clouds = rng.uniform(0, 2 * np.pi), rng.random() < 0.4, rng.uniform(0, 6, 3)
        turn = np.linspace(0, 2 * np.pi, 1024, endpoint=False)
        waves = sum(rng.normal(0, 1) / (k ** 0.7) * np.sin(k * turn + rng.uniform(0, 6)) for k in range(1, 60))
        self.skyline = np.maximum(rng.uniform(9, 22) + 4 * waves, 2.0)
        self.y0 = -LANE / 2 if self.lanes else 0.0
        self.things: list[tuple[int, Shapes, float, float, float, float, float]] = []
        self.junction = float(rng.uniform(11, 45)) if self.lanes and rng.random() < 0.6 else None
        self.waiting = self.speed < 0.5
        self.paint: list[tuple[float, float, float, float, int]] = []  # x0, x1, y0, y1, material
        self._lanes()
        for side in (-1, 1):
            self._side(side)
        if self.junction:
            self._junction(self.junction)
        self._finish()

    # Filling the strips

    def _row(self, gap: float, draw: Callable[[], tuple[float, Any]], close: float = 0.5,
             through: bool = False) -> Iterator[tuple[float, Any]]:
        """Places along the street for what `draw` gives (length, thing): gaps are exponential; a junction stays free unless `through`."""
        x = -PERIOD / 2 + self.rng.exponential(gap)
        while True:
            length, what = draw()
            if x + length + close > PERIOD / 2:
                return
            middle = x + length / 2
            if through or self.junction is None or abs(middle - self.junction) > 8.5 + length / 2:
                yield middle, what
            x += length + close + self.rng.exponential(gap)

    def _add(self, name: str, shapes: Shapes, x: float, y: float, yaw: float = 0, vx: float = 0, vy: float = 0) -> None:
        self.things.append((CLASSES.index(name) + 1 if name in CLASSES else 0, shapes, x, y, yaw, vx, vy))

    def _vehicle(self, name: str, x: float, y: float, yaw: float = 0, vx: float = 0, vy: float = 0) -> None:
        self._add(name, BUILDERS[name](self.rng), x, y, yaw, vx, vy)

    def _ride(self, name: str, x: float, y: float, yaw: float = 0, vx: float = 0, vy: float = 0) -> None:
        """A two-wheeler and whoever rides it: two objects with one motion."""
        self._vehicle(name, x, y, yaw, vx, vy)
        self._add("rider", objects.rider(self.rng, name), x, y, yaw, vx, vy)

    def _motor(self) -> tuple[float, str]:
        """What drives next in a lane, and how long it is."""
        weights = {"car": 1.0, "bus": 0.4 * self.rare["bus"], "truck": 0.35 * self.rare["truck"],
                   "motorcycle": 0.25 * self.rare["motorcycle"]}
        total = sum(weights.values())
        name = str(self.rng.choice(list(weights), p=[weight / total for weight in weights.values()]))
        return LENGTH[name], name

    def _cycle(self) -> tuple[float, str]:
        return 2.0, str(self.rng.choice(["bicycle", "scooter"], p=[0.8, 0.2] if self.rare["scooter"] else [1, 0]))

    def _lanes(self) -> None:
        """Traffic: the lane of the sensor moves as it does; the sensor's own place and, where traffic waits, the junction stay free."""
        rng = self.rng
        for lane in range(self.lanes):
            for side in (-1, 1):
                speed = self.speed if (side, lane) == (-1, 0) or self.waiting else rng.uniform(4, 11)
                for x, name in self._row(self.drive_gap, self._motor, 2.5 if self.waiting else 6, through=not self.waiting):
                    if side == -1 and lane == 0 and abs(x) < 6 + LENGTH[name] / 2:
                        continue
                    put = self._ride if name == "motorcycle" else self._vehicle
                    put(name, x, side * (lane + 0.5) * LANE + rng.normal(0, 0.15), 0 if side < 0 else np.pi, -side * speed)
        edge = self.lanes * LANE
        if not edge:
            return
        for side in (-1, 1):
            speed, y = 0.0 if self.waiting else rng.uniform(3, 6), side * (edge + self.edge / 2)
            for x, name in self._row(self.ride_gap, self._cycle, 1.5, through=not self.waiting):
                self._ride(name, x, y + rng.normal(0, 0.08), (0 if side < 0 else np.pi) + rng.normal(0, 0.04), -side * speed)

    def _side(self, side: int) -> None:
        """One side of the street, from the lanes outwards; y counts away from the middle."""
        rng, y = self.rng, self.lanes * LANE if self.lanes else 2.2
        self.paint.append((-PERIOD, PERIOD, 0, side * (y + self.edge), ASPHALT if self.lanes else PAVING))
        if self.cycle:
            self.paint += [(-PERIOD, PERIOD, side * y, side * (y + self.edge), LANE_RED),
                           (-PERIOD, PERIOD, side * (y - 0.06), side * (y + 0.06), PAINT)]
        y += self.edge
        if rng.random() < self.parked:
            y = self._parking(side, y)
        self.paint += [(-PERIOD, PERIOD, side * y, side * (y + 0.2), KERB),
                       (-PERIOD, PERIOD, side * (y + 0.2), side * 60, PAVING)]
        if self.verge > 2:
            self.paint.append((-PERIOD, PERIOD, side * (y + 0.2), side * (y + self.verge), GRASS))
        self._furniture(side, y, y + self.verge)
        y += self.verge
        self._walkers(side, y, y + self.pavement)
        y += self.pavement
        self._fronts(side, y)

    def _parking(self, side: int, y: float) -> float:
        """A row of parked vehicles, along the kerb or square to it; returns where it ends."""
        rng = self.rng
        square = rng.random() < (0.8 if self.lanes else 0.9)
        deep, gap, breaks = 5.0 if square else BAY, 0.15 if square else 0.3, rng.uniform(0.05, 0.35)
        self.paint.append((-PERIOD, PERIOD, side * y, side * (y + deep), ASPHALT))

        def draw() -> tuple[float, Any]:
            if rng.random() < breaks:
                return rng.uniform(4, 20), None
            if self.rare["motorcycle"] and rng.random() < 0.03:
                return 2.6, "motorcycle"
            if self.rare["truck"] and not square and rng.random() < 0.1:
                return LENGTH["truck"], "truck"
            return (2.1 if square else LENGTH["car"]), "car"

        for x, name in self._row(gap, draw, 0.25):
            if name is None:
                continue
            if name == "motorcycle":
                for k in range(rng.integers(1, 3)):
                    self._vehicle("motorcycle", x - 0.9 + 0.9 * k, side * (y + 1.2), side * (np.pi / 2 + 0.3) + rng.normal(0, 0.08))
            elif square:
                self._vehicle(name, x, side * (y + deep / 2) + rng.normal(0, 0.15), rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.03))
            else:
                self._vehicle(name, x, side * (y + deep / 2) + rng.normal(0, 0.08), (0 if side < 0 else np.pi) + rng.normal(0, 0.02))
            if square:
                self.paint.append((x - 1.3, x - 1.2, side * y, side * (y + deep), PAINT))
        return y + deep

    def _furniture(self, side: int, y0: float, y1: float) -> None:
        """Between kerb and pavement: trees, lamps and signs, stands of bicycles, scooters and motorcycles, bus stops, people who wait."""
        rng, middle, leafy = self.rng, (y0 + y1) / 2, self.rng.random()
        kinds = {"tree": 3.5 * leafy, "post": 2.2, "bush": 0.8 * leafy * (self.verge > 2), "people": 16 / self.stand_gap, "bicycles": 0.03,
                 "scooters": 0.3 * self.rare["scooter"], "motorcycles": 0.15 * self.rare["motorcycle"],
                 "shelter": 0.2 * (self.lanes > 0 and self.verge > 1.6)}
        lengths = {"tree": 3, "post": 0.8, "bush": 2.5, "people": 2.4, "bicycles": 5, "scooters": 3.4, "motorcycles": 3.2, "shelter": 4.5}
        chance = np.array(list(kinds.values())) / sum(kinds.values())

        def draw() -> tuple[float, Any]:
            name = str(rng.choice(list(kinds), p=chance))
            return lengths[name], name

        for x, name in self._row(5.0, draw):
            y = side * middle
            if name in ("tree", "post", "bush"):
                yaw = rng.choice([0, np.pi]) if name == "post" else rng.uniform(0, 6.3)
                self._add(name, getattr(objects, name)(rng), x, y + rng.normal(0, 0.1), yaw)
            elif name == "people":
                self._group(x, y, 0.0)
            elif name == "shelter":
                self._add(name, objects.shelter(rng), x, y, 0 if side > 0 else np.pi)
                for dx in rng.permutation([-1.5, -0.5, 0.5, 1.5])[:rng.integers(0, 5)]:
                    self._add("person", objects.person(rng), x + dx, y + side * rng.uniform(0, 0.3), rng.uniform(0, 6.3))
            else:
                single, space = name[:-1], {"bicycles": 0.6, "scooters": 0.6, "motorcycles": 1.0}[name]
                lean = side * (rng.uniform(1.2, 1.8) if self.verge > 2 else 0.6)  # rad; as much as there is room for
                for k in range(rng.integers(1, int(lengths[name] / space) - 1 if name != "motorcycles" else 4)):
                    self._vehicle(single, x - lengths[name] / 2 + space * (k + 1), y, lean + rng.normal(0, 0.05))

    def _group(self, x: float, y: float, speed: float) -> None:
        """One to three people side by side."""
        rng = self.rng
        for k in range(rng.choice([1, 2, 3], p=[0.62, 0.28, 0.1])):
            yaw = (0 if speed > 0 else np.pi) + rng.normal(0, 0.1) if speed else rng.uniform(0, 6.3)
            shapes = objects.person(rng, 0.6 if speed else 0.0)
            self._add("person", shapes, x + 0.7 * k + rng.normal(0, 0.05), y + rng.normal(0, 0.1), yaw, speed)

    def _walkers(self, side: int, y0: float, y1: float) -> None:
        """The pavement, in tracks 1.1 m wide of one speed each."""
        rng, tracks = self.rng, max(int((y1 - y0) / 1.1), 1)
        for k in range(tracks):
            y, speed = side * (y0 + 0.55 + 1.1 * k), float(rng.choice([-1, 1]) * rng.uniform(0.9, 1.6))
            gap = self.walk_gap * max(tracks / 2, 1)
            if tracks > 4 and k % 4 == 1:  # a square: every fourth track is for those who ride, the next for those who stand
                for x, name in self._row(3 * self.walk_gap, self._cycle, through=True):
                    self._ride(name, x, y, 0 if speed > 0 else np.pi, 2 * speed)
                continue
            speed = 0.0 if tracks > 4 and k % 4 == 2 else speed
            for x, _ in self._row(gap, lambda: (2.4, None), through=True):
                self._group(x, y, speed)

    def _fronts(self, side: int, y: float) -> None:
        """Fences and gardens, houses and the trees behind and between them."""
        rng = self.rng
        self.back[side] = y
        set_back = rng.choice([0.2, rng.uniform(2, 7)])
        if set_back > 1:
            self.paint.append((-PERIOD, PERIOD, side * y, side * (y + set_back), rng.choice([GRASS, MEADOW, GRAVEL])))
            for x, _ in self._row(5.0, lambda: (9.0, None), 0.2):
                self._add("fence", objects.fence(rng, 8.8), x, side * (y + 0.3))
            for x, _ in self._row(9.0, lambda: (3.0, None)):
                self._add("bush", (objects.tree if rng.random() < 0.4 else objects.bush)(rng), x, side * (y + set_back * 0.65))
        y += set_back
        for x, length in self._row(self.front_gap, lambda: ((size := rng.uniform(8, 26)), size), 0.3):
            shapes = objects.building(rng, float(length), rng.uniform(7, 11))
            self._add("building", moved(shapes, 0, 0, 0 if side > 0 else np.pi), x, side * (y + rng.choice([0, 0, 0.5])))
        for x, _ in self._row(5.0, lambda: (4.0, None)):
            self._add("tree", objects.tree(rng)[1:3], x, side * (y + rng.uniform(15, 22)))
        self.paint.append((-PERIOD, PERIOD, side * (y + 0.2), side * 60, rng.choice([GRASS, MEADOW, PAVING])))

    def _junction(self, x: float) -> None:
        """A side street with waiting traffic and a crossing; where the traffic waits, people cross."""
        rng, edge = self.rng, self.lanes * LANE
        for side in (-1, 1):
            start, y = side * (edge + self.edge + 0.2), self.back[side] + 0.5
            self.paint += [(x - 8, x + 8, start, side * 60, PAVING), (x - 4.2, x + 4.2, start, side * 60, KERB),
                           (x - 4, x + 4, 0, side * 60, ASPHALT), (x - 0.07, x + 0.07, start, side * 60, PAINT)]
            while rng.random() < 0.6 and y < 40:
                length, name = self._motor()
                put = self._ride if name == "motorcycle" else self._vehicle
                put(name, x - side * 1.9, side * (y + length / 2), -side * np.pi / 2)
                y += length + rng.uniform(1.5, 6)
        for k in range(int(2 * edge)):
            self.paint.append((x - 7.4, x - 4.6, -edge + k, -edge + k + 0.5, PAINT))
        for k in range(3):
            speed = float(rng.choice([-1, 1]) * rng.uniform(1, 1.5))
            for y in np.arange(-SIDE / 2, SIDE / 2, 4) if self.waiting else ():
                if rng.random() < 0.35:
                    where = x - 7 + k + rng.normal(0, 0.05), y + rng.normal(0, 0.4), np.sign(speed) * np.pi / 2
                    self._add("person", objects.person(rng, 0.6), *where, 0, speed)

    # From the list of things to arrays, and to a moment

    def _finish(self) -> None:
        count = np.array([len(thing[1]) for thing in self.things])
        self.shapes = np.array([row for thing in self.things for row in thing[1]])  # (P, 11), in each thing's own frame
        self.owner = np.repeat(np.arange(len(count)), count)
        leafy = self.shapes[:, 0] == objects.LEAF
        self.shapes[leafy, 10] = self.owner[leafy] * 37 % 64  # so that trees differ, and stay the same from frame to frame
        self.label, self.state = np.array([thing[0] for thing in self.things]), np.array([thing[2:] for thing in self.things])
        self.reach = np.array([VIEW, *REACH])[self.label] * self.rng.uniform(0.75, 1, len(count))
        riders = np.flatnonzero(self.label == CLASSES.index("rider") + 1)
        self.reach[riders] = self.reach[riders - 1]  # a rider follows what is ridden in the list
        self.phase = self.rng.uniform(0, 2 * np.pi, len(count))
        self._plan: np.ndarray | None = None

    @property
    def plan(self) -> np.ndarray:
        """The ground's materials, (2048, ACROSS) uint8 cells along and across the street; painted when first asked for."""
        if self._plan is None:
            rng = np.random.default_rng([*self.seed, 0, 1])
            plan = np.full((round(PERIOD / CELL), ACROSS), PAVING, np.uint8)
            for x0, x1, ya, yb, material in self.paint:
                i = np.clip(np.round((np.array([x0, x1]) + PERIOD / 2) / CELL), 0, len(plan)).astype(int)
                j = np.clip(np.round(np.array(sorted([ya, yb])) / CELL + ACROSS / 2), 0, ACROSS).astype(int)
                plan[i[0]:i[1], j[0]:j[1]] = material
            middle = ACROSS // 2
            for k in range(-self.lanes + 1, self.lanes):
                line = plan[:, middle + round(k * LANE / CELL) - 1:middle + round(k * LANE / CELL) + 1]
                line[(np.arange(len(plan)) % 64 < 26)[:, None] & (line == ASPHALT)] = PAINT
            for _ in range(60):
                at, across, di, dj = rng.integers(0, len(plan)), middle + rng.integers(-60, 60), *rng.integers(4, 40, 2)
                patch = plan[at:at + di, across:across + dj]
                patch[patch == ASPHALT] = PATCH if di > 8 else LID
            grass = plan == GRASS
            plan[grass] = np.where(rng.random(int(grass.sum())) < 0.6, GRASS, MEADOW)
            self._plan = plan
        return self._plan

    def at(self, time: float) -> Scene:
        """The scene `time` seconds after the clip's start."""
        x, y, yaw, vx, vy = self.state.T
        ego_x, ego_y = self.speed * time, self.y0 + 0.12 * np.sin(0.5 * time)
        x, y = x + vx * time, y + vy * time
        ahead = np.mod(x - ego_x + PERIOD / 2, PERIOD) - PERIOD / 2
        across = np.where(vy != 0, np.mod(y + SIDE / 2, SIDE) - SIDE / 2, y)
        lap, cross = np.round((ahead + ego_x - x) / PERIOD).astype(int), np.round((across - y) / SIDE).astype(int)
        lap, cross = np.where(lap >= 0, 2 * lap, -2 * lap - 1), np.where(cross >= 0, 2 * cross, -2 * cross - 1)
        track = np.arange(len(x)) + len(x) * (lap + 1000 * cross)
        kept = np.abs(ahead) < self.reach
        keep = np.flatnonzero(kept)
        ahead, aside, track = ahead[keep], across[keep] - ego_y + self.bend / 2 * ahead[keep] ** 2, track[keep]
        turn = self.mount + 0.03 * np.sin(0.5 * time)
        c, s = np.cos(turn), np.sin(turn)
        xy = np.stack([ahead * c + aside * s, aside * c - ahead * s], 1)
        direction = yaw[keep] + np.arctan(self.bend * ahead) - turn
        chosen = np.flatnonzero(kept[self.owner])
        owner = np.searchsorted(keep, self.owner[chosen])
        shapes, d = self.shapes[chosen].copy(), direction[owner]
        pace = np.hypot(vx, vy)[keep] * 2 * np.pi / 1.5 * time + self.phase[keep]  # a double step is 1.5 m
        swing = np.where(shapes[:, 0] == objects.BALL, shapes[:, 10] * np.sin(pace)[owner], 0)
        local_x, local_y = shapes[:, 1] + swing, shapes[:, 2].copy()
        shapes[:, 1] = local_x * np.cos(d) - local_y * np.sin(d) + xy[owner, 0]
        shapes[:, 2] = local_x * np.sin(d) + local_y * np.cos(d) + xy[owner, 1]
        shapes[:, 7] += d
        first = np.searchsorted(owner, np.arange(len(keep)))
        heading = turn + self.bend * ego_x
        return Scene(shapes, owner, first, xy, self.label[keep], track, self, (ego_x, ego_y, turn), heading)
