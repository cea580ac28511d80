"""Breakdowns: curves whose area is AP, confusions and calibration by hand and against hotcoco, shares found with their intervals, figures."""
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from conftest import coco, write_dataset
from PIL import Image
from test_errors import found, opened, scene

from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.data.lidar import Sensor, simulate
from detlib.evaluate.breakdown import (
    CURVES,
    Property,
    confusion,
    found_by,
    miss_reasons,
    precision_curves,
    properties,
    range_from_channel,
    reliability,
)
from detlib.evaluate.coco import Detections, evaluate, match_detections
from detlib.evaluate.intervals import clip_weights, interval
from detlib.evaluate.outcomes import outcome
from detlib.experiments import rung
from detlib.plots import errors as plots
from detlib.runs import Run, run_folder


@pytest.fixture
def street(tmp_path):
    """Two clips: a car and a person side by side, a crowd of cars; then a car and a person far apart."""
    content = coco([("images/a_0.png", 256, 128), ("images/b_0.png", 256, 128)],
                   [(0, 1, [10, 10, 40, 40]), (0, 2, [20, 10, 40, 40]), (0, 1, [120, 10, 100, 100]),
                    (1, 1, [10, 10, 40, 40]), (1, 2, [200, 10, 8, 8])])
    content["annotations"][2]["iscrowd"] = 1
    for a, (distance, visible) in zip(content["annotations"], ((4, 1), (12, 0.3), (9, 1), (40, 0.2), (12, 0.6)), strict=True):
        a |= {"distance": distance, "visible": visible}
    return opened(tmp_path / "street", content)


def finished(data, name, results, seed=0):
    """A finished run that found these, in COCO's results form."""
    experiment = rung(name, "smoke", seed)
    run = Run(run_folder(experiment, data), experiment)
    run.folder.mkdir(parents=True)
    about = {"name": data.name, "val": data["val"].fingerprint}
    (run.folder / "config.json").write_text(json.dumps({
        "experiment": asdict(experiment), "profile": asdict(experiment.sizes), "optimizer": experiment.optimizer_settings, "data": about}))
    (run.folder / "detections.json").write_text(json.dumps(results))
    (run.folder / "metrics.json").write_text("{}")
    return run


def test_the_area_under_a_curve_is_ap(tmp_path):
    content, results = scene(1, ties=True, crowds=True)
    data = opened(tmp_path / "d", content)
    detections = Detections.from_coco(results, data["val"])
    curves = precision_curves(match_detections(detections, data["val"], {}), data.categories)
    metrics = evaluate(detections, data["val"], data)
    for name in data.categories:
        if metrics["per_class"][name] is None:
            assert curves[name] is None
        else:
            assert curves[name].mean().tolist()[::2] == pytest.approx([metrics["per_class_AP50"][name], metrics["per_class"][name]])
            assert (curves[name].diff().dropna() <= 0).all(axis=None) and list(curves[name].columns) == list(CURVES)
    assert curves["rider"] is None and np.mean([c["IoU 0.75"].mean() for c in curves.values() if c is not None]) == pytest.approx(metrics["AP75"])


def test_confusion_by_hand(street):
    """The best score takes the object it fits best, whatever its class; what it leaves goes to the next."""
    seen = outcome(found([(0, 2, 0.9, [10, 10, 40, 40]),  # exactly on the car, called a person
                          (0, 1, 0.8, [12, 10, 40, 40]),  # on the car too, which is taken: the person has IoU 0.67
                          (0, 1, 0.7, [130, 20, 50, 50]),  # on the crowd: left out
                          (1, 1, 0.6, [10, 10, 40, 40]),  # right
                          (1, 1, 0.5, [12, 10, 40, 40]),  # again: a false alarm
                          (1, 2, 0.1, [200, 10, 8, 8])]), street["val"], 0.2)
    table = confusion(seen)
    assert table.to_numpy().tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 0]]
    assert table.index.tolist() == ["car", "person", "false alarm"] and table.columns.tolist() == ["car", "person", "missed"]
    assert table.to_numpy()[:2].sum() == len(seen.objects)


@pytest.mark.parametrize("seed", range(6))
def test_confusion_and_calibration_agree_with_an_independent_implementation(tmp_path, seed):
    hotcoco = pytest.importorskip("hotcoco", reason="hotcoco is not there (pip install hotcoco==1.3.0): two tables were compared with nothing")
    content, results = scene(seed)
    split = opened(tmp_path / "d", content)["val"]
    truth = hotcoco.COCO(content)
    judge = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
    judge.evaluate()
    detections, number = Detections.from_coco(results, split), len(split.categories) + 1
    expected = np.reshape(judge.confusion_matrix(iou_thr=0.5, max_det=10_000, min_score=0.3)["matrix"], (number, number))
    assert np.array_equal(confusion(outcome(detections, split, 0.3)).to_numpy(), expected)
    expected, table = judge.calibration(n_bins=10, iou_threshold=0.5), reliability(match_detections(detections, split, {}))
    assert table.attrs["error"] == pytest.approx(expected["ece"])
    assert table["detections"].tolist() == [b["count"] for b in expected["bins"]]
    assert table["share right"].fillna(0).tolist() == pytest.approx([b["avg_accuracy"] for b in expected["bins"]])


def test_calibration_by_hand(street):
    """Scores 0.3 (a bin's lower edge), 0.35 and 1: shares right 1/2 and 1; a detection on the crowd does not count."""
    detections = found([(0, 1, 0.3, [10, 10, 40, 40]), (0, 2, 0.35, [200, 90, 20, 20]), (1, 1, 1.0, [10, 10, 40, 40]),
                        (0, 1, 0.5, [130, 20, 50, 50])])
    table = reliability(match_detections(detections, street["val"], {}))
    assert table["detections"].tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    assert table.loc[3, "mean score"] == pytest.approx(0.325) and table.loc[3, "share right"] == 0.5 and table.loc[9, "share right"] == 1
    assert table.attrs["error"] == pytest.approx((2 * 0.175 + 0) / 3)
    assert np.isnan(reliability([]).attrs["error"]) and reliability([])["detections"].sum() == 0
    with pytest.raises(ValueError, match="to 7: calibration is about probabilities"):
        reliability(match_detections(found([(0, 1, 7.0, [10, 10, 40, 40])]), street["val"], {}))


def test_shares_found_by_hand(street):
    seen = outcome(found([(0, 1, 0.9, [10, 10, 40, 40]), (1, 2, 0.8, [200, 10, 8, 8])]), street["val"], 0.0)
    size, distance, visible = properties(street)
    by_distance = found_by([seen], distance)
    assert by_distance["objects"].tolist() == [1, 0, 2, 0, 0, 1], "the crowd at 9 m does not count"
    assert by_distance["found"].tolist() == pytest.approx([1, np.nan, 0.5, np.nan, np.nan, 0], nan_ok=True)
    assert list(by_distance.index) == ["< 5", "5-10", "10-15", "15-20", "20-25", "≥ 25"] and by_distance.index.name == "distance (m)"
    assert found_by([seen], visible)["found"].tolist() == pytest.approx([0, 0, 1, np.nan, 1], nan_ok=True)
    assert found_by([seen], visible, label=2)["objects"].tolist() == [0, 1, 1, 0, 0]
    assert found_by([seen], size)["objects"].tolist() == [1, 0, 3] and size.bins == ("< 16", "16-32", "≥ 32")
    reasons = miss_reasons(seen, [size, distance, visible])
    assert reasons.loc["visible part (%) < 50"].tolist() == [2, 0.5, 1, 0]
    assert reasons.loc["distance (m) ≥ 25"].tolist() == [1, 0.25, 0.5, 0] and reasons.loc["size (√area, px) < 16", "share of them found"] == 1
    assert reasons.loc["none of these"].tolist() == [1, 0.25, 0, 1]


def test_reasons_without_objects_or_misses(tmp_path, street):
    nothing = coco([("images/a_0.png", 64, 64)], [])
    data = opened(tmp_path / "d", nothing)
    reasons = miss_reasons(outcome(found([]), data["val"], 0.0), properties(data))
    assert reasons["objects"].tolist() == [0, 0] and reasons.iloc[:, 1:].isna().all(axis=None)
    every = street["val"].boxes
    seen = outcome(found([(r.frame, r.label, 0.9, [r.x1, r.y1, r.width, r.height]) for r in every.itertuples()]), street["val"], 0.0)
    assert miss_reasons(seen, properties(street))["share of the missed"].isna().all()


def test_intervals_resample_clips_and_trainings(tmp_path):
    """Ten clips of two cars each: of some clips both are found, of others none, so that clips are what is sure or unsure."""
    content = coco([(f"images/a_Video{c:05d}_0.png", 64, 64) for c in range(10)],
                   [(c, 1, [x, 5.0, 20.0, 20.0]) for c in range(10) for x in (5.0, 35.0)])
    split = opened(tmp_path / "d", content)["val"]
    seen = [outcome(found([(c, 1, 0.9, [x, 5, 20, 20]) for c in clips for x in (5, 35)]), split, 0.0) for clips in (range(4), range(6))]
    what = Property("all", np.zeros(20), (), ("all",), 1)
    alone, both = found_by(seen[:1], what).iloc[0], found_by(seen, what).iloc[0]
    drawn = clip_weights(split)
    shares = [drawn @ (np.arange(10) < clips) / drawn.sum(axis=1) for clips in (4, 6)]
    assert alone[["found", "low", "high"]].tolist() == pytest.approx(interval(np.array([0.4]), shares[0], 10))
    expected = interval(np.array([0.4, 0.6]), np.mean(shares, axis=0), 10)
    assert both[["found", "low", "high"]].tolist() == pytest.approx(np.clip(expected, 0, 1)) and 0.25 < alone["high"] - alone["low"] < 0.9
    one = found_by([outcome(found([]), split.subset([0]), 0.0)], Property("all", np.zeros(2), (), ("all",), 1)).iloc[0]
    assert one[["found", "low", "high"]].tolist() == [0, 0, 0]
    assert found_by([outcome(found([]), split.subset([]), 0.0)], Property("all", np.zeros(0), (), ("all",), 1)).iloc[0]["objects"] == 0


def test_range_from_a_channel_by_hand(tmp_path):
    """In each box the object is 40 on half of the pixels, 200 behind it, and 0 where nothing came back; one box has no echo at all."""
    content = coco([("images/a_0.png", 64, 32)], [(0, 1, [4, 4, 8, 8]), (0, 1, [40, 4, 8, 8])])
    data = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[4:12, 4:12, 2], pixels[4:8, 4:12, 2], pixels[8, 4:12, 2] = 200, 40, 0
    Image.fromarray(pixels).save(data.root / "images/a_0.png")
    assert range_from_channel(data["val"], 2).tolist() == pytest.approx([40, np.nan], nan_ok=True)
    names = [p.name for p in properties(data, range_channel="blue")]
    assert names == ["size (√area, px)", "blue, grey value of 255"] and len(properties(data)) == 1
    with pytest.raises(ValueError, match="no channel 'depth': this data has red, green, blue"):
        properties(data, range_channel="depth")
    (data.root / "images/a_0.png").unlink()
    with pytest.raises(DataError, match=r"a_0\.png"):
        properties(data, range_channel="blue")


def test_range_from_a_channel_orders_simulated_objects_by_distance(tmp_path):
    """Among objects that the channel's range holds, ranks of grey values and of true distances agree."""
    simulate(tmp_path / "d", splits=("val",), sensor=Sensor(), clips={"val": 2}, images=True)
    split = open_dataset(tmp_path / "d")["val"]
    ranks = pd.Series(range_from_channel(split, 2)).corr(split.boxes["distance"], method="spearman")
    assert ranks > 0.85 and len(split.boxes) > 100


def as_results(content, shift=2.0):
    """Every object found, a little beside; every third called the first class, every fourth twice; with a false alarm on each frame."""
    rows = [{"image_id": a["image_id"], "category_id": 1 if i % 3 == 0 else a["category_id"], "score": 0.9 - i % 7 / 10,
             "bbox": [a["bbox"][0] + shift, *a["bbox"][1:]]} for i, a in enumerate(content["annotations"])]
    return rows + rows[::4] + [{"image_id": image["id"], "category_id": 1, "bbox": [1, 1, 9, 9], "score": 0.15} for image in content["images"]]


FIGURES = {"costs": plots.error_costs, "curves": plots.precision_recall, "calibration": plots.calibration,
           "confusions": lambda runs, data: plots.confusions(next(iter(runs.values())), data),
           "found": lambda runs, data: plots.found_shares({name: [run] for name, run in runs.items()}, data, data.channels[2])}


def texts(figure):
    """Everything that is written in a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("classes", [1, 20])
@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_photographs(tmp_path, name, classes):
    """Small photographs without distances, one class or twenty, odd names, a class without objects; a rung that found nothing beside one that did."""
    categories = ("<b>$car", *(f"_class number {k} with a long name" for k in range(2, classes + 1)))[:classes]
    content = coco([(f"images/a_{i}.png", 200, 150) for i in range(3)],
                   [(i, 1 + (2 * i + k) % max(1, classes - 1), [10 + 60 * k, 20, 40, 30]) for i in range(3) for k in range(2)], categories)
    data = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))
    runs = {"adam": finished(data, "adam", as_results(content)), "fpn": finished(data, "fpn", [])}
    figure = FIGURES[name](runs, data)
    assert figure.png()[:4] == b"\x89PNG"
    written = texts(figure)
    assert "seed 0" in written and "n = 6 boxes, 3 frames, 1 clips" in written
    assert ("no objects" in written) == (classes == 20 and name in ("costs", "curves"))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_without_objects_or_runs(tmp_path, name):
    content = coco([("images/a_0.png", 64, 64), ("images/b_0.png", 64, 64)], [])
    data = open_dataset(write_dataset(tmp_path / "d", {"train": content, "val": content}))
    assert FIGURES[name]({"adam": finished(data, "adam", as_results(content))}, data).png()[:4] == b"\x89PNG"
    if name != "confusions":
        with pytest.raises(ValueError, match="detlib train RUNG"):
            FIGURES[name]({}, data)


def test_bars_are_the_costs(small):
    """What is drawn is what the table says: bars of each rung, cells of the class by class panel."""
    data = open_dataset(small)
    content = json.loads((data.root / "val_annotations.json").read_text())
    runs = {"adam": finished(data, "adam", as_results(content)), "fpn": finished(data, "fpn", as_results(content, 14.0))}
    figure = plots.error_costs(runs, data)
    table = plots.error_types(plots.kept_detections(runs["fpn"], data), data["val"])
    bars = [bar.get_height() for bar in figure.axes[0].containers[1]]
    assert bars == pytest.approx(table.iloc[:, 1].tolist()) and max(bars) > 0.1
    assert "fpn class by class" in texts(figure) and f"AP50 {table.attrs['AP50'][0]:.3f}" in texts(figure)


def test_real_frames_have_their_range_in_the_third_channel(real):
    """On the real frames that are there, large objects are nearer than small ones of the same class."""
    data = open_dataset(real)
    places = [i for i, f in enumerate(data["val"].frames) if (real / f.file_name).is_file()][:6]
    split = data["val"].subset(places)
    grey = pd.Series(range_from_channel(split, 2))
    people = split.boxes["category"].to_numpy() == "person"
    assert grey[people].corr(split.boxes["height"][people], method="spearman") < -0.5
