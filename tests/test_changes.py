"""Gained and lost between two models: counts by hand, nets with intervals that are those of the totals, and frames chosen by rule."""
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import coco, write_dataset

from detlib.data.folder import open_dataset
from detlib.evaluate.changes import KINDS, amount, called, changes, changes_table, chosen_frames, headline, paired_changes, tallies
from detlib.evaluate.coco import Detections
from detlib.evaluate.intervals import clip_weights
from detlib.evaluate.outcomes import outcome
from detlib.experiments import rung
from detlib.plots.changes import _picked, crops, gains
from detlib.runs import Run, run_folder


def found(rows):
    """Detections from (frame, label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 7)
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3:])


def exact(split, frame, places=None, score=0.9):
    """Rows that find objects of a frame exactly, all of them or those of these places."""
    boxes, labels = split.targets(frame)
    return [(frame, labels[i], score, *boxes[i].tolist()) for i in (range(len(labels)) if places is None else places)]


@pytest.fixture
def data(tmp_path):
    """Three clips of two frames; on each frame two cars (10 and 20 px) and a person of 40 x 40 px; a crowd on the first."""
    images = [(f"images/v_{clip}_{i}.png", 256, 128) for clip in "abc" for i in range(2)]
    boxes = [(i, *entry) for i in range(6) for entry in ((1, [10, 10, 10, 10]), (1, [60, 10, 20, 20]), (2, [100, 10, 40, 40]))]
    content = coco(images, [*boxes, (0, 2, [180, 10, 50, 50])], ("car", "person", "tram"))
    content["annotations"][-1]["iscrowd"] = 1
    return open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}, size_limits=[16, 32]))


@pytest.fixture
def step(data):
    """Before: on the first frame a car and the person, and two false alarms. After: both cars, and three false alarms, one of them the same."""
    split = data["val"]
    before = [*exact(split, 0, [0, 2]), (0, 1, 0.8, 150, 60, 170, 80), (0, 1, 0.7, 200, 80, 210, 120), (0, 2, 0.6, 181, 11, 229, 59)]
    after = [*exact(split, 0, [0, 1]), (0, 1, 0.8, 150, 60, 170, 85), (0, 2, 0.7, 200, 80, 210, 120), (2, 1, 0.6, 200, 80, 210, 120),
             (0, 1, 0.5, 10, 10, 20, 20)]
    return changes(outcome(found(before), split, 0.0), outcome(found(after), split, 0.0), ("flip", "fpn"), (0, 0))


def test_gained_and_lost_are_what_one_would_count(step):
    rows = step.split.boxes
    assert step.both.tolist() == [0] and step.gained.tolist() == [1] and step.lost.tolist() == [2]
    assert sorted(np.concatenate([step.both, step.gained, step.lost, step.neither]).tolist()) == np.flatnonzero(~rows["crowd"]).tolist()
    place = step.after.detections
    # the same box as another class, or on another frame, is new; a second box on a found car is too; one of IoU 0.8 is not; one on a crowd is none
    assert [(place.frame[i], place.label[i], place.score[i]) for i in step.new] == [(0, 2, 0.7), (0, 1, 0.5), (2, 1, 0.6)]
    assert step.before.detections.score[step.gone].tolist() == [0.7]


def test_back_and_forth_mirror_each_other(step):
    back = changes(step.after, step.before)
    assert back.gained.tolist() == step.lost.tolist() and back.lost.tolist() == step.gained.tolist()
    assert back.new.tolist() == step.gone.tolist() and back.gone.tolist() == step.new.tolist()
    none = changes(step.after, step.after)
    assert not any(map(len, (none.gained, none.lost, none.new, none.gone)))


def test_an_alike_false_alarm_has_an_iou_of_at_least_a_half(data):
    split = data["val"]
    first = outcome(found([(0, 3, 0.9, 100, 60, 120, 80)]), split, 0.0)
    for width, new in ((10, []), (9.9, [0])):  # IoU 0.5, and less
        assert changes(first, outcome(found([(0, 3, 0.9, 100, 60, 100 + width, 80)]), split, 0.0)).new.tolist() == new


def test_counts_by_class_and_size(step, data):
    counted = {tally.name: tally for tally in tallies([step], data)}
    assert list(counted) == ["all", "car", "person", "tram", "small (< 16² px)", "medium (16²-32² px)", "large (≥ 32² px)"]
    by_hand = {"all": (1, 1, 1, 15, 3, 1), "car": (1, 1, 0, 10, 2, 1), "person": (0, 0, 1, 5, 1, 0), "tram": (0,) * 6,
               "small (< 16² px)": (1, 0, 0, 5, 1, 0), "medium (16²-32² px)": (0, 1, 0, 5, 2, 1), "large (≥ 32² px)": (0, 0, 1, 5, 0, 0)}
    assert {name: tuple(tally.counts[kind] for kind in KINDS) for name, tally in counted.items()} == by_hand
    assert counted["all"].net[0] == 0 and counted["all"].net_false[0] == 2 and counted["car"].objects == 12


def test_a_size_on_the_limit_counts_once(data):
    frames = data["val"]
    frames.boxes["area"] = 256.0  # 16 x 16 px: medium, not small
    nothing = outcome(found([]), frames)
    counted = {tally.kind + tally.name: tally.objects for tally in tallies([changes(nothing, nothing)], data)}
    assert counted["sizesmall (< 16² px)"] == 0 and counted["sizemedium (16²-32² px)"] == 18


def test_the_interval_is_that_of_a_total_over_clips(data):
    """Net gains of 3, 1 and 0 in three clips: the bootstrap's variance of the total is n times the sample variance, as for any mean."""
    split = data["val"]
    after = exact(split, 0) + exact(split, 2, [0])
    seen = changes(outcome(found([]), split), outcome(found(after), split, 0.0))
    weights = clip_weights(split)
    assert (weights @ np.bincount(split.boxes["frame"][seen.gained], minlength=6)).std() * 1.5 == pytest.approx((3 * 7 / 3) ** 0.5, rel=0.05)
    value, low, high = tallies([seen], data)[0].net
    assert value == 4 and high - 4 == pytest.approx(4.303 * (3 * 7 / 3) ** 0.5, rel=0.05) and low + high == pytest.approx(8)  # t, 2 degrees


def test_several_seeds_are_averaged_and_their_spread_is_in_the_interval(data):
    split = data["val"]
    nothing = outcome(found([]), split)
    even = [row for frame in (0, 2, 4) for row in exact(split, frame, [0, 1])]  # two in each clip: clips add no doubt
    fewer = [row for frame in (0, 2, 4) for row in exact(split, frame, [0])]
    one, other = (changes(nothing, outcome(found(rows), split, 0.0), ("flip", "fpn"), (seed, seed)) for seed, rows in enumerate((even, fewer)))
    assert tallies([one], data)[0].net == (6, 6, 6)
    value, low, high = tallies([one, other], data)[0].net
    assert value == 4.5 and high - 4.5 == pytest.approx(12.706 * 1.5, rel=1e-4) and high + low == pytest.approx(9)  # t, 1 degree of freedom
    table = changes_table([one, other], data)
    assert table.loc["all", "gained"] == "4.5" and table.loc["all", "gained - lost"] == "+4.5 [-15, +24]: no measurable difference"
    assert table.index.name == "flip (score at least 0.00) to fpn (0.00), seeds 0, 1"


def test_the_table_ranks_nothing_within_noise(step, data):
    table = changes_table([step], data)
    assert table.loc["car", "gained - lost"].endswith("]: no measurable difference") and table.loc["tram", "gained - lost"] == "no objects"
    split = data["val"]
    every = [row for frame in range(6) for row in exact(split, frame, [0])]
    sure = changes(outcome(found([]), split), outcome(found(every), split, 0.0))
    assert changes_table([sure], data).loc["car", "gained - lost"] == "+6 [+6, +6]: more found by this training"
    assert changes_table([sure, sure], data).loc["car", "gained - lost"] == "+6 [+6, +6]: more found"
    assert changes_table([changes(sure.after, sure.before)], data).loc["all", "gained - lost"] == "-6 [-6, -6]: fewer found by this training"


def test_numbers_are_short():
    assert [amount(v) for v in (12.4, -3.26, 4.0, -0.0, 9.97, 1234.5)] == ["+12", "-3.3", "+4", "+0", "+10", "+1,234"]
    assert amount(2.5, sign=False) == "2.5"


def test_one_clip_or_none_is_said(data):
    split = data["val"].subset([0, 1])
    one = changes(outcome(found([]), split), outcome(found(exact(split, 0)), split, 0.0))
    assert changes_table([one], data).loc["all", "gained - lost"] == "+3: one clip gives no interval"
    empty = data["val"].subset([])
    nothing = changes(outcome(found([]), empty), outcome(found([]), empty))
    assert set(changes_table([nothing], data)["gained - lost"]) == {"no objects"}
    for figure in (gains([one], data), gains([nothing], data), crops(nothing)):
        assert figure.png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="at least one pair"):
        tallies([], data)


def test_other_frames_are_refused(data):
    split = data["val"]
    with pytest.raises(ValueError, match="different frames"):
        changes(outcome(found([]), split), outcome(found([]), split.subset([0, 1])))


def test_runs_are_compared_in_pairs_of_their_seeds(data):
    runs = {}
    for name, places in (("flip", [0]), ("fpn", [0, 1])):
        for seed in (0, 1):
            run = Run(run_folder(rung(name), data), replace(rung(name), seed=seed))
            run = Run(run.folder.with_name(f"seed{seed}"), run.experiment)
            run.folder.mkdir(parents=True)
            detections = found(exact(data["val"], seed, places))  # seed k sees frame k only
            (run.folder / "detections.json").write_text(json.dumps(detections.to_coco(data["val"])))
            (run.folder / "config.json").write_text(json.dumps({"data": {"val": data["val"].fingerprint}}))
            runs.setdefault(name, []).append(run)
    seen = paired_changes(runs["flip"], runs["fpn"][::-1], data)
    assert [pair.seeds for pair in seen] == [(0, 0), (1, 1)] and [pair.gained.tolist() for pair in seen] == [[1], [5]]
    assert headline(seen) == "flip (score at least 0.90) to fpn (0.90), seeds 0, 1"
    assert headline(paired_changes(runs["flip"][:1], runs["fpn"][1:], data)).endswith("seeds 0 and 1")
    assert called(seen) == ("flip", "fpn") and called(paired_changes(runs["fpn"][:1], runs["fpn"][1:], data)) == ("fpn (seed 0)", "fpn (seed 1)")
    with pytest.raises(ValueError, match="detlib train"):
        paired_changes([], runs["fpn"], data)


def test_frames_are_chosen_by_rule(tmp_path):
    """F1 by hand: the last model finds 0, 1, 2, 3, 4 of four objects on frames 0 to 4, each in its own clip; frame 5 has one object."""
    boxes = [(i, 1, [10 + 30 * k, 10, 20, 20]) for i in range(5) for k in range(4)] + [(5, 1, [10, 10, 20, 20])]
    content = coco([(f"images/c{i}_0.png", 256, 128) for i in range(6)], boxes)
    split = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}, pictures=False))["val"]
    last = outcome(found([row for i in range(5) for row in exact(split, i, range(i))] + exact(split, 5)), split, 0.0)
    first = outcome(found(exact(split, 1, [0]) + exact(split, 3)), split, 0.0)
    assert chosen_frames({"flip": first, "fpn": last}) == {  # frame 4 changed most and is taken, and then frame 2 is
        "Median frame of the other clips by F1 of fpn: 0.40": 1, "Best frame by F1 of fpn: 1.00": 4, "Worst frame by F1 of fpn: 0.00": 0,
        "Largest change of the other clips: F1 0.00 with flip, 0.67 with fpn": 2}
    assert chosen_frames({"fpn": last}) == {
        "Median frame by F1 of fpn: 0.67": 2, "Best frame by F1 of fpn: 1.00": 4, "Worst frame by F1 of fpn: 0.00": 0}
    assert "Best frame by F1 of fpn: 1.00" in chosen_frames({"fpn": last}, least=9)  # no frame has so many: all are candidates
    one = split.subset([0])
    assert list(chosen_frames({"fpn": outcome(found([]), one)}).values()) == [0]
    assert chosen_frames({"fpn": outcome(found([]), split.subset([]))}) == {}
    with pytest.raises(ValueError, match="at least one model"):
        chosen_frames({})


def test_a_clip_gives_one_frame_while_others_are_left(data):
    split = data["val"]
    rows = [row for frame, places in enumerate(([0, 1, 2], [0, 1, 2], [0], [], [0, 1], [0, 1])) for row in exact(split, frame, places)]
    last, none = outcome(found(rows), split, 0.0), outcome(found([]), split)
    # F1 is 1, 1, .5, 0, .8, .8: the best, the worst of another clip, the change of the third; then no clip is left for the median
    assert list(chosen_frames({"none": none, "all": last}, least=3).items()) == [
        ("Median frame of the other frames by F1 of all: 0.50", 2), ("Best frame by F1 of all: 1.00", 0), ("Worst frame by F1 of all: 0.00", 3),
        ("Largest change of the other clips: F1 0.00 with none, 0.80 with all", 4)]
    equal = outcome(found([]), split)  # all are 0: the first of another clip is as good as the first of all, and nothing is passed over
    assert list(chosen_frames({"none": equal}, least=3))[1:] == ["Best frame by F1 of none: 0.00", "Worst frame by F1 of none: 0.00"]


def test_crops_show_the_largest_of_each_clip_first(data):
    split, rng = data["val"], np.random.default_rng(0)
    sides = np.array([9, 8, 7, 6, 5, 4])
    boxes = np.column_stack([np.zeros((6, 2)), sides, sides])
    frames, labels = np.array([0, 0, 1, 2, 3, 4]), np.ones(6, int)  # clips a a a b b c
    assert sides[_picked(frames, labels, boxes, split, 3)].tolist() == [9, 6, 4]
    assert sides[_picked(frames, labels, boxes, split, 5)].tolist() == [9, 8, 6, 5, 4]
    assert sides[_picked(frames, np.array([1, 2, 1, 1, 1, 1]), boxes, split, 4)].tolist() == [9, 8, 6, 4]
    mixed = rng.permutation(6)
    assert sides[mixed][_picked(frames[mixed], labels, boxes[mixed], split, 3)].tolist() == [9, 6, 4]


def texts(figure):
    return "\n".join(text.get_text() for text in figure.texts)


def test_crops_tell_what_they_show(step):
    figure = crops(step)
    told = texts(figure)
    assert "Newly found by fpn: all 1" in told and "car 0.90, IoU 1.00\nbefore: nothing there\nv_a_0.png" in told
    assert "what flip had found: all 1" in told and "person 0.90, IoU 1.00\nafter: nothing there" in told
    assert "New false alarms of fpn: all 3" in told
    assert "car 0.50\nIoU 1.00, a second box\nv_a_0.png" in told and "car 0.60\non no object\nv_b_0.png" in told
    assert len(figure.axes) == 5
    axes = figure.axes[0]  # the car of 20 px at (60, 10): a window of 36 px height around it
    assert sum(axes.get_xlim()) / 2 == pytest.approx(69.5) and axes.get_ylim() == (37.5, 1.5)


def test_ticks_of_the_gains_do_not_touch(data):
    """Left and right of zero, whatever the largest gain or number of false alarms is."""
    split = data["val"]
    for frames, alarms in ((1, 1), (1, 4), (3, 9), (6, 89), (6, 200)):
        rows = [row for frame in range(frames) for row in exact(split, frame)]
        more = [(frame, 1, 0.9, 40, k, 50, k + 10) for frame in range(6) for k in range(alarms)]
        figure = gains([changes(outcome(found([]), split), outcome(found(rows + more), split, 0.0))], data)
        figure.canvas.draw()
        for axis in figure.axes[1:3]:
            spans = [label.get_window_extent() for label in axis.get_xticklabels()]
            assert len(spans) == 3 and all(a.x1 + 10 < b.x0 for a, b in pairwise(spans))


def test_the_rest_of_the_crops_is_counted(data):
    split = data["val"]
    rows = [(frame, 1, 0.9, 10 * k, 60 + 2 * k, 10 * k + 8, 70 + 2 * k) for frame in range(6) for k in range(10)]
    assert "New false alarms of after: 12 of 60 shown" in texts(crops(changes(outcome(found([]), split), outcome(found(rows), split, 0.0))))


@pytest.mark.parametrize("names", [("<b>", "$x$"), tuple(f"class {k}" for k in range(20)), ("_",)])
def test_figures_of_photographs_with_any_class_names(tmp_path, names):
    content = coco([("images/a_0.png", 200, 150), ("images/b_0.png", 200, 150)], [(0, len(names), [10, 10, 180, 120]), (1, 1, [150, 100, 9, 9])],
                   names)
    data = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))
    (tmp_path / "d" / "images" / "b_0.png").unlink()  # a picture that is missing: grey
    split = data["val"]
    seen = changes(outcome(found([]), split), outcome(found(exact(split, 0) + exact(split, 1)), split, 0.0), ("$a$", "<i>"))
    assert crops(seen).png().startswith(b"\x89PNG") and gains([seen], data).png().startswith(b"\x89PNG")
