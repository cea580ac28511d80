"""Comparisons: pairs of clips and seeds, intervals, and the ladder as it was climbed."""
import json
from dataclasses import asdict

import numpy as np
import pytest
from conftest import coco, write_dataset
from scipy import stats

from detlib import plots
from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.evaluate.compare import LINE, difference, paired_resamples, pairs
from detlib.evaluate.intervals import clip_weights, interval, map_interval, resampled_classes
from detlib.evaluate.ladder import LONGER, at_lengths, at_rates, at_their_best, climb, compared, ladder_table, null_difference, seed_spread
from detlib.experiments import LADDER, NULL, REPEATED, repeats, rung
from detlib.runs import Run, find_run, run_folder

CLIPS = 8


@pytest.fixture
def data(tmp_path):
    """Eight clips of one frame, a car on each; the first has a person besides."""
    images = [(f"images/a_Video{c:05d}_0.png", 64, 64) for c in range(CLIPS)]
    content = coco(images, [(i, 1, [5.0, 5.0, 20.0, 20.0]) for i in range(CLIPS)] + [(0, 2, [30.0, 10.0, 8.0, 20.0])])
    return open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}, pictures=False))


def finished(data, name, frames, seed=0, labels=(1, 2), **changes):
    """A finished run that found all objects of these frames and classes, and nothing else."""
    split, experiment = data["val"], rung(name, "smoke", seed, **changes)
    rows = split.boxes[split.boxes["frame"].isin(frames) & split.boxes["label"].isin(labels)]
    found = [{"image_id": r.image_id, "category_id": r.label, "bbox": [r.x1, r.y1, r.width, r.height], "score": 0.9} for r in rows.itertuples()]
    run = Run(run_folder(experiment, data), experiment)
    run.folder.mkdir(parents=True)
    about = {"name": data.name, "val": data["val"].fingerprint}
    (run.folder / "config.json").write_text(json.dumps({
        "experiment": asdict(experiment), "profile": asdict(experiment.sizes), "optimizer": experiment.optimizer_settings, "data": about}))
    (run.folder / "detections.json").write_text(json.dumps(found))
    metrics = {"mAP": float(resampled_classes(run, data)[0][0].mean()), "classes": 2, "classes_with_objects": 2}
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    (run.folder / "log.jsonl").write_text(json.dumps({"step": experiment.sizes.steps, "loss": 1.0, "val": metrics}))
    return run


def test_a_run_from_when_its_row_was_another_is_not_taken_for_it(data):
    """A row put into the ladder changes those below it, and not their names; a field that came later stands at its default."""
    run = finished(data, "flip", [0])
    path, config = run.folder / "config.json", run.config
    for changed, found in (({}, True), ({"optimizer": "sgd"}, False)):
        kept = {key: value for key, value in config["experiment"].items() if key not in ("loss", "weights")}
        path.write_text(json.dumps(config | {"experiment": kept | changed}))
        assert (find_run(run.experiment, data) is not None) == found


def test_pairs_share_their_clips(data):
    """Both miss the same clips entirely and differ nowhere: each alone is unsure, the difference is exactly zero; and a better run is called so."""
    a, b = (finished(data, name, range(4)) for name in ("adam", "flip"))
    first, second, clips = paired_resamples([a], [b], data)
    assert first[0, 1:].std() > 0.1 and np.array_equal(first, second) and clips == CLIPS
    d = difference([a], [b], data)
    assert (d.value, d.low, d.high, d.verdict) == (0, 0, 0, "no measurable difference") and "One seed each" in d.sentence
    lines = str(d).splitlines()
    assert " ".join(line.removeprefix("  ") for line in lines) == d.sentence and len(lines) > 1 and max(map(len, lines)) <= LINE
    better, worse = finished(data, "resnet", range(CLIPS)), finished(data, "fpn", [])
    assert difference([worse], [better], data).verdict == difference([better], [worse], data).verdict == "this training of resnet is better"


def test_pairs_share_their_seeds(data):
    """Trainings differ much, but each of b is its partner in a: no seed noise is left; partners exchanged, it is back."""
    frames = [range(4), range(2, 7), range(CLIPS)]
    a, b = ([finished(data, name, f, seed) for seed, f in enumerate(frames)] for name in ("adam", "flip"))
    d = difference(a, b, data)
    assert (d.low, d.high, d.seeds, d.clips) == (0, 0, ((0, 0), (1, 1), (2, 2)), CLIPS) and "3 pairs of seeds" in d.sentence
    crossed = [finished(data, "resnet", f, seed) for seed, f in enumerate(frames[1:] + frames[:1])]
    assert difference(a, crossed, data).low < 0 < difference(a, crossed, data).high
    alone, together = map_interval(a[:1], data), map_interval(a, data)
    assert together[0] == pytest.approx(np.mean([run.metrics["mAP"] for run in a])) and alone[0] == pytest.approx(a[0].metrics["mAP"])
    assert plots.paired(a, crossed, data).png()[:4] == b"\x89PNG"


def test_partners_are_of_the_same_seed_or_in_order(data):
    a, b = ([finished(data, name, [0], seed) for seed in seeds] for name, seeds in (("adam", (0, 1, 2)), ("flip", (2, 1, 5))))
    assert [(x.experiment.seed, y.experiment.seed) for x, y in pairs(a, b)] == [(1, 1), (2, 2)]
    later = [finished(data, "resnet", [0], seed) for seed in (3, 4)]
    assert [(x.experiment.seed, y.experiment.seed) for x, y in pairs(a, later)] == [(0, 3), (1, 4)]
    with pytest.raises(ValueError, match="without a finished run"):
        pairs(a, [])


def test_a_class_that_a_resample_lacks_is_left_out_on_both_sides(data):
    """a finds everything, b all cars and no person: without clip 0 they are equal, with it they differ by half."""
    a, b = finished(data, "adam", range(CLIPS)), finished(data, "flip", range(CLIPS), labels=(1,))
    first, second, _ = paired_resamples([a], [b], data)
    without = clip_weights(data["val"])[:, 0] == 0
    assert without.any() and not without.all() and np.allclose(first[0, 1:], 1)
    assert np.allclose(second[0, 1:][without], 1) and np.allclose(second[0, 1:][~without], 0.5)


def test_the_interval_by_hand():
    """One source alone is a plain t interval, three seeds with t of 2, 30 clips with t of 29; two sources add their variances."""
    still = np.zeros(1000)
    half = 4.302652730 * (7 / 3) ** 0.5
    assert interval(np.array([1.0, 2.0, 6.0]), still, 30) == pytest.approx((3, 3 - half, 3 + half))
    clips = np.tile([-1.0, 1.0], 500)
    assert interval(np.array([5.0]), clips, 30) == pytest.approx((5, 5 - 2.045229642, 5 + 2.045229642))
    freedom = (7 / 3 + 1) ** 2 / ((7 / 3) ** 2 / 2 + 1 / 29)
    half = stats.t.ppf(0.975, freedom) * (7 / 3 + 1) ** 0.5
    assert interval(np.array([1.0, 2.0, 6.0]), clips, 30) == pytest.approx((3, 3 - half, 3 + half))
    assert interval(np.array([5.0]), clips, 1) == (5, 5, 5)


@pytest.mark.parametrize(("seeds", "clips", "seed_to_clip"), [(3, 30, 0.0), (3, 30, 1.0), (3, 30, 3.0), (2, 30, 1.0), (1, 3, 0.0), (3, 3, 1.0)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds, clips, seed_to_clip):
    """Differences that are noise alone, of trainings, of streets or of both: zero lies in about 95 of 100 intervals, however few they are."""
    rng, held, trials = np.random.default_rng(0), 0, 600
    for _ in range(trials):
        of_seed, of_clip = rng.normal(0, seed_to_clip, seeds), rng.normal(0, clips**0.5, clips)
        picks = rng.integers(clips, size=(300, max(1, clips - 1)))
        _, low, high = interval(of_seed + of_clip.mean(), of_seed.mean() + of_clip[picks].mean(axis=1), clips)
        held += low <= 0 <= high
    assert 0.91 < held / trials < 0.995


def test_resamples_are_kept_with_the_run(data):
    run = finished(data, "adam", range(3))
    before, clips = resampled_classes(run, data)
    (run.folder / "detections.json").unlink()
    again = resampled_classes(run, None)
    assert np.array_equal(again[0], before, equal_nan=True) and before.shape == (1001, 2) and clips == again[1] == CLIPS


def test_one_clip_gives_no_interval(small):
    data = open_dataset(small)
    a, b = finished(data, "adam", [0]), finished(data, "flip", [0, 1, 2])
    d = difference([a], [b], data)
    assert d.low == d.high == pytest.approx(d.value) and d.value > 0 and d.verdict == "nothing can be said" and "nothing can be said" in d.sentence


def test_the_climb_says_why_a_row_was_not_run(data):
    for seed in range(2):
        for name in ("baseline", "adam", "fpn"):
            finished(data, name, [] if name == "baseline" else range(CLIPS), seed)
    rows = {row.name: row for row in climb(data, "smoke", 2)}
    assert list(rows) == [name for name, _ in LADDER]
    assert rows["adam"].gain.low > 0 and rows["adam"].gain.verdict == "adam is better"
    assert rows["fpn"].value[0] == pytest.approx(1) and rows["fpn"].gain is None, "the row above was not run: there is nothing to compare with"
    table = ladder_table(list(rows.values()))
    assert table.loc["resnet", "so"] == f"not run yet: detlib train resnet --profile smoke --data {data.root}"
    assert table.loc["adam", "seeds"] == "0, 1"
    assert table.loc["extended", "so"] == "not run: no train_extended in this data"
    assert seed_spread(list(rows.values())).loc["adam", "standard deviation"] == "0.0000"
    assert null_difference(data, "smoke", 2) is None
    for seed in range(4):
        finished(data, NULL, range(CLIPS - seed // 2), seed)
    null = null_difference(data, "smoke", 2)
    assert null.seeds == ((0, 2), (1, 3)) and null.first == null.second == NULL and null.value < 0
    assert plots.ladder(climb(data, "smoke", 2), data, null).png()[:4] == b"\x89PNG"


def test_neighbours_are_compared_at_equal_rates(data):
    """Each at as many times its own optimiser's rate; the figure has a line for each row that has a run, with a dot for each of its seeds."""
    for seed in range(2):
        finished(data, "fpn", [], seed)
        finished(data, "fpn", [1], seed, lr=1.5e-3)
        finished(data, "focal", range(CLIPS), seed, lr=1.5e-3)
    rows = {row.name: row for row in at_rates(data, "smoke", 2)}
    assert list(rows) == [f"{name}{rate}" for names, rates in (
        (("baseline", "adam"), (("+lr=0.0015", "+lr=0.00015"), ("", ""), ("+lr=0.015", "+lr=0.0015"))),
        (("fpn", "focal", "deep_heads"), (["+lr=0.00015"] * 3, [""] * 3, ["+lr=0.0015"] * 3))) for tried in rates
        for name, rate in zip(names, tried, strict=True)]
    assert rows["focal+lr=0.0015"].gain.verdict == "focal+lr=0.0015 is better" and rows["focal+lr=0.0015"].gain.first == "fpn+lr=0.0015"
    assert rows["focal"].why == f"not run yet: detlib train focal --profile smoke --data {data.root}" and not rows["fpn"].gain
    (axis,) = plots.rates(list(rows.values()), data).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines if line.get_marker() == "o"}
    assert list(lines) == ["fpn", "focal"] and [len(line) for line in lines.values()] == [2, 1]
    assert [x for x, _ in lines["fpn"]] == pytest.approx([1, 3], rel=0.05) and lines["fpn"][1][1] > lines["fpn"][0][1] == 0
    assert sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() == ".") == 6
    assert ladder_table(list(rows.values()))["changes"][["fpn+lr=0.0015", "focal+lr=0.0015"]].tolist() == ["rate x 3", "loss: focal"]
    best = at_their_best(list(rows.values()), data, 2)
    assert [row.name for row in best] == ["fpn+lr=0.0015", "focal+lr=0.0015"] and best[1].gain == rows["focal+lr=0.0015"].gain
    finished(data, "deep_heads", [0], steps=32)
    finished(data, "fpn", [2], loss="focal_paper")
    assert compared([rung("fpn", "smoke", lr=1e-4), rung("focal", "smoke")], data)[1].change == "loss: focal, lr: 0.0005"
    longer = at_lengths(data, "smoke", 2)
    assert [row.name for row in longer] == [*LONGER, *(f"{name}+steps=32" for name in LONGER)]
    lines = {line.get_label(): line.get_xdata()[0] for line in plots.lengths(longer, data).axes[0].lines if line.get_marker() == "o"}
    assert lines == {"fpn": pytest.approx(8, rel=0.05), "fpn+loss=focal_paper": pytest.approx(8, rel=0.05), "deep_heads": pytest.approx(32, rel=0.05)}
    assert "nothing is trained yet" in plots.rates([row for row in rows.values() if not row.runs], data).get_supxlabel()


@pytest.mark.parametrize(("part", "name"), [("profile", "steps"), ("optimizer", "lr")])
def test_runs_of_other_sizes_and_rates_are_not_compared(data, part, name):
    run = finished(data, "adam", range(CLIPS))
    assert climb(data, "smoke", 1)[1].runs == (run,)
    config = run.config
    config[part][name] *= 2
    (run.folder / "config.json").write_text(json.dumps(config))
    assert climb(data, "smoke", 1)[1].runs == ()


def test_repeats():
    names = [(e.rung, e.seed) for e in repeats("smoke", 3)]
    assert names == [(name, seed) for seed in (1, 2) for name in REPEATED] + [(NULL, seed) for seed in (3, 4, 5)]
    assert REPEATED[0] == "baseline" and REPEATED[-1] == NULL and repeats("smoke", 1) == []
    with pytest.raises(ValueError, match="'two' seeds"):
        repeats("smoke", "two")


def test_the_command_compares_two_runs(data, monkeypatch, capsys):
    a, b = finished(data, "adam", [0]), finished(data, "flip", range(CLIPS))
    monkeypatch.setenv("DETLIB_DATA", str(data.root))
    assert main(["compare", str(a.folder), str(b.folder), "--json"]) == 0
    found, expected = json.loads(capsys.readouterr().out), difference([a], [b], data)
    assert (found["difference"], found["low"], found["verdict"]) == (pytest.approx(expected.value), pytest.approx(expected.low), expected.verdict)
    assert main(["compare", str(a.folder), str(b.folder)]) == 0 and capsys.readouterr().out.strip() == expected.sentence
    config = json.loads((b.folder / "config.json").read_text())
    config["data"]["val"] = "other"
    (b.folder / "config.json").write_text(json.dumps(config))
    assert main(["compare", str(a.folder), str(b.folder)]) == 2 and "judged on different boxes" in capsys.readouterr().err
