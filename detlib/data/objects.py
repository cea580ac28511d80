"""What the streets' objects are built of: upright boxes, ellipsoids and flat rings, in m, x forward, y left, z up from the ground.

A shape is a row (kind, x, y, z, half_x, half_y, half_z, yaw, laser, light, extra): its centre, half extents and turn, how much laser and
daylight it returns (about 0..1, a retroreflector more), and one number whose meaning is the kind's: of a BALL how far it swings along x in
walking (m), of a RING the hole's share of the radius, of a HOUSE the spacing of its windows (m), of a LEAF its pattern (0..63).
"""
from collections.abc import Callable

import numpy as np

BOX, BALL, LEAF, RING, HOUSE = range(5)
Row = tuple[float, ...]
Shapes = list[Row]
Rng = np.random.Generator


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, laser: float, light: float,
        kind: int = BOX, extra: float = 0) -> Row:
    """A box by its extents."""
    return kind, (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2, 0, laser, light, extra


def ball(x: float, y: float, z: float, half_x: float, half_y: float, half_z: float, laser: float, light: float, swing: float = 0) -> Row:
    """An ellipsoid by its centre and half axes."""
    return BALL, x, y, z, half_x, half_y, half_z, 0, laser, light, swing


def ring(x: float, y: float, radius: float, laser: float, light: float, hole: float = 0.0, z: float | None = None) -> Row:
    """A wheel in the plane of x and z that stands on the ground, or has its axle at height z."""
    return RING, x, y, radius if z is None else z, radius, 0.02, radius, 0, laser, light, hole


def moved(shapes: Shapes, x: float, y: float, yaw: float = 0, z: float = 0) -> Shapes:
    """The same shapes turned about the vertical, then shifted."""
    c, s = np.cos(yaw), np.sin(yaw)
    return [(r[0], r[1] * c - r[2] * s + x, r[1] * s + r[2] * c + y, r[3] + z, *r[4:7], r[7] + yaw, *r[8:]) for r in shapes]


def _paint(rng: Rng) -> tuple[float, float]:
    """Laser and light of a vehicle's paint: dark cars are dark to a laser too, mostly."""
    laser = rng.choice([rng.uniform(0.06, 0.2), rng.uniform(0.3, 0.9)], p=[0.4, 0.6])
    return float(laser), float(np.clip(laser + rng.normal(0, 0.25), 0.05, 0.9))


def _wheels(front: float, rear: float, half: float, radius: float) -> Shapes:
    """Four wheels, dark tyres and brighter hubs, as seen from either side."""
    places = [(x, side * (half + 0.02)) for x in (front, rear) for side in (-1, 1)]
    return [ring(*at, radius, 0.05, 0.06, 0.6) for at in places] + [ring(*at, radius * 0.6, 0.5, 0.35, 0, radius) for at in places]


def car(rng: Rng) -> Shapes:
    """A hatchback, saloon, estate or van: lower body, glass that narrows upwards, roof, wheels, lamps, plates."""
    length, half, (laser, light) = rng.uniform(3.6, 4.5), rng.uniform(0.82, 0.91), _paint(rng)
    if rng.random() < 0.1:  # a van
        top, nose, tail, belt = rng.uniform(1.85, 2.3), length / 2 - 0.75, -length / 2 + 0.05, 1.15
    else:
        top, nose, belt = rng.uniform(1.44, 1.75), length / 2 - rng.uniform(0.95, 1.2), 0.92
        tail = -length / 2 + rng.choice([0.1, 0.25, 0.75])
    end, slope = length / 2, (top - belt) * 0.75
    glass = 0.05, 0.1
    return [box(-end, end, -half, half, 0.25, belt - 0.1, laser, light),
            box(tail - 0.05, nose + 0.2, -half, half, belt - 0.1, belt, laser, light),
            box(tail, nose, -half + 0.06, half - 0.06, belt, (belt + top) / 2, *glass),
            box(tail + 0.1, nose - slope * 0.6, -half + 0.12, half - 0.12, (belt + top) / 2, top - 0.07, *glass),
            box(tail + 0.15, nose - slope, -half + 0.14, half - 0.14, top - 0.07, top, laser, light),
            *_wheels(end - 0.8, -end + 0.75, half, 0.32),
            *(box(x - 0.02, x + 0.02, y - 0.16, y + 0.16, 0.6, 0.78, 1.3, 0.7) for x in (-end, end) for y in (-0.68, 0.68)),
            *(box(x - 0.025, x + 0.025, -0.25, 0.25, 0.38, 0.5, 3, 0.8) for x in (-end, end))]


def truck(rng: Rng) -> Shapes:
    """A lorry: a cab with a windscreen, a gap, a high body (or a low load) on a dark chassis, large wheels."""
    length, (laser, light), (laser2, light2) = rng.uniform(6, 9.5), _paint(rng), _paint(rng)
    end, high = length / 2, rng.uniform(2.9, 3.6)
    load = [box(-end, end - 2.3, -1.2, 1.2, 1.0, high, laser2, light2)]
    if rng.random() < 0.25:  # a tipper
        load = [box(-end, end - 2.3, -1.2, 1.2, 1.0, 1.9, laser2, light2), ball(-0.8, 0, 1.7, length / 2 - 1.4, 1.0, 0.9, 0.45, 0.5)]
    return [box(end - 1.9, end, -1.12, 1.12, 0.5, 1.6, laser, light), box(end - 1.9, end - 0.1, -1.1, 1.1, 1.6, 2.25, 0.05, 0.1),
            box(end - 1.9, end - 0.2, -1.1, 1.1, 2.25, 2.6, laser, light), box(-end, end - 1, -0.5, 0.5, 0.55, 1.0, 0.08, 0.1), *load,
            *_wheels(end - 0.9, -end + 1.3, 1.13, 0.48), box(-end - 0.03, -end, -1.1, 1.1, 0.9, 1.0, 1.6, 0.6)]


def bus(rng: Rng) -> Shapes:
    """A city bus: one long block near the ground, a band of dark glass all round, a bright destination sign."""
    end, (laser, light) = rng.uniform(5.2, 6.2), _paint(rng)
    laser, light = max(laser, 0.35), max(light, 0.35)
    return [box(-end, end, -1.27, 1.27, 0.28, 1.35, laser, light), box(-end + 0.03, end - 0.03, -1.24, 1.24, 1.35, 2.45, 0.05, 0.08),
            box(-end, end, -1.27, 1.27, 2.45, 2.95, laser, light), box(-end + 0.6, end - 2, -0.9, 0.9, 2.95, 3.2, laser * 0.7, light),
            *(box(x - 0.08, x + 0.08, -1.26, 1.26, 1.35, 2.45, laser * 0.6, light * 0.6) for x in np.linspace(-end + 1.6, end - 1.8, 5)),
            *_wheels(end - 2.4, -end + 3, 1.27, 0.48), box(end, end + 0.03, -0.7, 0.7, 2.5, 2.8, 1.5, 0.9)]


def motorcycle(rng: Rng) -> Shapes:
    """Two thick wheels, engine, tank, seat, fairing, handlebar."""
    laser, light = _paint(rng)
    return [*(ball(x, 0, 0.31, 0.32, 0.08, 0.32, 0.1, 0.1) for x in (-0.7, 0.72)),
            *(ring(x, y, 0.17, 0.4, 0.3, 0, 0.31) for x in (-0.7, 0.72) for y in (-0.085, 0.085)),
            box(0.52, 0.6, -0.1, 0.1, 0.4, 0.95, 0.4, 0.3), box(-0.35, 0.35, -0.2, 0.2, 0.25, 0.65, 0.35, 0.2),
            ball(0.15, 0, 0.85, 0.36, 0.18, 0.18, laser, light), box(-0.95, 0.0, -0.15, 0.15, 0.7, 0.85, 0.15, 0.1),
            box(0.38, 0.46, -0.38, 0.38, 0.98, 1.06, 0.3, 0.3), ball(0.55, 0, 0.95, 0.16, 0.2, 0.26, laser, light),
            box(0.6, 0.64, -0.08, 0.08, 0.85, 1.0, 1.5, 0.8), box(-0.98, -0.95, -0.1, 0.1, 0.6, 0.75, 2.5, 0.6)]


def bicycle(rng: Rng) -> Shapes:
    """Two thin large wheels that can be seen through, a thin frame, saddle and handlebar."""
    laser, light = _paint(rng)
    laser = max(laser, 0.3)
    return [ring(0.52, 0, 0.34, 0.35, 0.15, 0.78), ring(-0.52, 0, 0.34, 0.35, 0.15, 0.78),
            *(box(x - 0.05, x + 0.05, -0.035, 0.035, 0.0, 0.66, 0.35, 0.15) for x in (-0.52, 0.52)),
            box(-0.1, 0.42, -0.03, 0.03, 0.72, 0.8, laser, light), box(-0.08, 0.2, -0.03, 0.03, 0.3, 0.42, laser, light),
            box(0.16, 0.32, -0.03, 0.03, 0.42, 0.6, laser, light), box(-0.2, -0.12, -0.03, 0.03, 0.3, 0.92, laser, light),
            box(-0.34, -0.06, -0.08, 0.08, 0.9, 0.97, 0.15, 0.1), box(0.36, 0.42, -0.03, 0.03, 0.6, 1.02, laser, light),
            box(0.36, 0.44, -0.29, 0.29, 0.99, 1.06, 0.3, 0.3), box(-0.9, -0.84, -0.05, 0.05, 0.5, 0.6, 2, 0.4)]


def scooter(rng: Rng) -> Shapes:
    """An electric scooter: a low deck between small wheels and a tall stem with a handlebar."""
    laser, light = rng.uniform(0.5, 1.1), rng.uniform(0.2, 0.8)
    return [box(-0.5, 0.38, -0.085, 0.085, 0.1, 0.17, laser, light), ring(0.46, 0, 0.11, 0.1, 0.1), ring(-0.48, 0, 0.11, 0.1, 0.1),
            *(box(x - 0.09, x + 0.09, -0.03, 0.03, 0.02, 0.22, 0.15, 0.15) for x in (-0.48, 0.46)),
            box(0.36, 0.44, -0.045, 0.045, 0.15, 1.15, laser, light), box(0.33, 0.39, -0.24, 0.24, 1.12, 1.19, 0.3, 0.2),
            box(0.43, 0.46, -0.07, 0.07, 0.8, 1.05, laser, light)]


def _clothes(rng: Rng) -> tuple[float, float, float, float]:
    """Laser and light of jacket and trousers; many fabrics shine in the near infrared."""
    return tuple(rng.uniform([0.35, 0.1, 0.15, 0.08], [1.1, 0.8, 0.8, 0.6]).tolist())


def person(rng: Rng, stride: float = 0.0) -> Shapes:
    """A pedestrian 1.2 to 1.95 m tall; walking, the legs are `stride` m apart at most and the arms swing against them."""
    k = (rng.normal(1.74, 0.09) if rng.random() > 0.08 else rng.uniform(1.15, 1.5)) / 1.75
    laser, light, laser2, light2 = _clothes(rng)
    wide = rng.uniform(0.9, 1.2) * k
    rows = [ball(side * 0.02, side * 0.1 * wide, 0.24 * k, 0.08, 0.075, 0.28 * k, laser2, light2, side * stride / 2) for side in (-1, 1)]
    rows += [ball(0, side * 0.09 * wide, 0.66 * k, 0.1, 0.095, 0.29 * k, laser2, light2, side * stride / 4) for side in (-1, 1)]
    rows += [ball(0.02, side * 0.06, 0.05, 0.14, 0.05, 0.06, 0.15, 0.1, side * stride * 0.55) for side in (-1, 1)]
    rows += [ball(0, 0, 1.2 * k, 0.13, 0.2 * wide, 0.33 * k, laser, light), ball(0.01, 0, 1.63 * k, 0.1, 0.085, 0.125 * k, 0.6, 0.5)]
    rows += [ball(0, side * 0.24 * wide, 1.13 * k, 0.06, 0.055, 0.32 * k, laser, light, -side * stride / 4) for side in (-1, 1)]
    if (extra := rng.random()) < 0.3:  # a rucksack
        rows.append(box(-0.3, -0.1, -0.15, 0.15, 1.0 * k, 1.42 * k, rng.uniform(0.1, 0.9), 0.2))
    elif extra < 0.45:  # a long coat
        rows.append(ball(0, 0, 0.85 * k, 0.16, 0.2 * wide, 0.4 * k, laser, light))
    return rows


def rider(rng: Rng, on: str) -> Shapes:
    """Somebody on a bicycle or motorcycle (sits, leans forward, arms to the handlebar, one knee up) or on a scooter (stands)."""
    laser, light, laser2, light2 = _clothes(rng)
    if on == "scooter":
        return moved(person(rng), -0.12, 0, 0, 0.16)
    drop, lean = (0.12, 0.1) if on == "motorcycle" else (0, rng.uniform(0.05, 0.16))
    rows = [ball(-0.18, 0, 1.08 - drop, 0.15, 0.19, 0.2, laser2, light2), ball(-0.16 + lean, 0, 1.3 - drop, 0.15, 0.21, 0.25, laser, light),
            ball(-0.1 + 1.4 * lean, 0, 1.45 - drop, 0.14, 0.22, 0.16, laser, light),
            ball(0.0 + 1.6 * lean, 0, 1.72 - drop, 0.12, 0.1, 0.14, 0.7, 0.6)]
    rows += [ball(0.1, side * 0.23, 1.2 - drop, 0.13, 0.06, 0.14, laser, light) for side in (-1, 1)]
    rows += [ball(-0.03, side * 0.13, 0.92 - drop + side * 0.06, 0.16, 0.09, 0.13, laser2, light2) for side in (-1, 1)]
    rows += [ball(0.06, side * 0.13, 0.58 - drop / 2 + side * 0.1, 0.08, 0.07, 0.26, laser2, light2) for side in (-1, 1)]
    return rows


BUILDERS: dict[str, Callable[[Rng], Shapes]] = {"car": car, "truck": truck, "bus": bus, "motorcycle": motorcycle, "bicycle": bicycle,
                                                "scooter": scooter}
LENGTH = {"car": 4.6, "truck": 9.6, "bus": 12.6, "motorcycle": 2.2, "bicycle": 1.9, "scooter": 1.3}  # m, at most


def tree(rng: Rng) -> Shapes:
    """A trunk and a frayed crown of two or three ellipsoids; or a conifer."""
    high, laser, light = rng.uniform(7, 15), rng.uniform(0.55, 1.0), rng.uniform(0.4, 0.8)

    def crown(x: float, y: float, z: float, half_xy: float, half_z: float) -> Row:
        return LEAF, x, y, z, half_xy, half_xy, half_z, 0, laser, light, 0

    if rng.random() < 0.2:
        tiers = [crown(0, 0, 1 + high * z, high * radius, high * 0.2) for z, radius in ((0.15, 0.2), (0.4, 0.15), (0.65, 0.09))]
        return [box(-0.15, 0.15, -0.15, 0.15, 0, 1.5, 0.5, 0.3), *tiers]
    wide, clear = high * rng.uniform(0.22, 0.32), rng.uniform(1.8, 2.8)
    middle, half = (high + clear) / 2, (high - clear) / 2
    lumps = [crown(x * wide, y * wide, middle + rng.uniform(-0.4, 0.2) * half, wide * 0.75, half * 0.6)
             for x, y in (rng.uniform(-0.5, 0.5, 2) for _ in range(2))]
    return [box(-0.16, 0.16, -0.16, 0.16, 0, middle, rng.uniform(0.3, 0.8), 0.3), crown(0, 0, middle, wide, half), *lumps]


def bush(rng: Rng) -> Shapes:
    """A low frayed ellipsoid."""
    size, laser = rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.0)
    return [(LEAF, 0, 0, size * 0.6, size * rng.uniform(1, 1.5), size, size * 0.9, 0, laser, rng.uniform(0.4, 0.8), 0)]


def post(rng: Rng) -> Shapes:
    """A lamp, a traffic sign, a traffic light, a bollard or a litter bin."""
    kind = rng.choice(5, p=[0.35, 0.3, 0.1, 0.1, 0.15])
    if kind == 0:
        return [box(-0.08, 0.08, -0.08, 0.08, 0, 7, 0.25, 0.15), box(-0.1, 1.4, -0.08, 0.08, 6.9, 7.05, 0.3, 0.2)]
    if kind == 1:
        return [box(-0.04, 0.04, -0.04, 0.04, 0, 2.9, 0.4, 0.3), box(-0.03, 0.03, -0.32, 0.32, 2.2, rng.choice([2.8, 3.2]), 3.5, 0.7)]
    if kind == 2:
        return [box(-0.07, 0.07, -0.07, 0.07, 0, 3.1, 0.2, 0.15), box(-0.14, 0.14, -0.16, 0.16, 2.2, 3.1, 0.08, 0.06)]
    if kind == 3:
        return [box(-0.1, 0.1, -0.1, 0.1, 0, 0.95, 0.3, 0.3), box(-0.11, 0.11, -0.11, 0.11, 0.75, 0.88, 2.5, 0.8)]
    return [box(-0.28, 0.28, -0.28, 0.28, 0.15, 1.1, 0.12, 0.15)]


def shelter(rng: Rng) -> Shapes:
    """A bus stop: posts, glass at the back, a roof, a timetable; the street lies at -y."""
    return [box(-2, 2, -0.7, 0.8, 2.4, 2.55, 0.2, 0.12),
            *(box(x - 0.05, x + 0.05, 0.65, 0.75, 0, 2.4, 0.2, 0.12) for x in (-1.9, -0.6, 0.6, 1.9)),
            box(-1.9, 1.9, 0.68, 0.72, 0.1, 0.45, 0.12, 0.1), box(1.85, 1.95, -0.5, 0.7, 0.3, 2.2, rng.uniform(0.3, 1), 0.8)]


def fence(rng: Rng, length: float) -> Shapes:
    """A stretch of railing, wall or hedge along x."""
    kind, half = rng.choice(3), length / 2
    if kind == 0:
        return [*(box(-half, half, -0.025, 0.025, z - 0.03, z + 0.03, 0.3, 0.2) for z in (0.35, 0.75, 1.1)),
                *(box(x - 0.035, x + 0.035, -0.035, 0.035, 0, 1.15, 0.3, 0.2) for x in np.arange(-half, half, 2.0))]
    if kind == 1:
        return [box(-half, half, -0.15, 0.15, 0, rng.uniform(0.6, 1.8), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))]
    high, laser, light = rng.uniform(0.8, 1.6), rng.uniform(0.6, 1), rng.uniform(0.4, 0.7)
    return [(LEAF, x, 0, high / 2, 1.7, 0.6, high * 0.7, 0, laser, light, 0) for x in np.arange(-half + 1, half, 2.0)]


def building(rng: Rng, length: float, deep: float) -> Shapes:
    """A house with rows of dark windows, its street front at y = 0, a plinth, and eaves or a roof."""
    half, high = length / 2, rng.choice([rng.uniform(5, 8), rng.uniform(9, 18)], p=[0.4, 0.6])
    laser, light = rng.uniform(0.35, 1.0), rng.uniform(0.12, 0.8)
    rows = [box(-half, half, 0, deep, 0, high, laser, light, HOUSE, rng.uniform(1.7, 3.4)),
            box(-half - 0.1, half + 0.1, -0.1, deep, 0, 0.6, laser * 0.7, light * 0.6)]
    if high < 9:
        rows.append(box(-half - 0.3, half + 0.3, -0.4, deep, high, high + 0.3, 0.2, 0.12))
        rows += [box(-half, half, deep * f, deep * (1 - f), high + 6 * f - 0.3, high + 6 * f + 0.4, 0.3, 0.25) for f in (0.1, 0.22, 0.34)]
    if rng.random() < 0.7:  # a door, or a shop window
        x, wide, (dark, pale) = rng.uniform(-half + 1.5, half - 1.5), rng.choice([0.5, 1.4]), rng.uniform(0.05, 0.5, 2)
        rows.append(box(x - wide, x + wide, -0.14, 0, 0.1, 2.3, dark, pale))
    return rows
