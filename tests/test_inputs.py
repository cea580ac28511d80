"""Pictures of any size brought to the network's: what is chosen, where boxes end, and the way back."""
import numpy as np
import pytest
import torch
from conftest import coco, write_dataset

from detlib import runs
from detlib.data.coco import cut
from detlib.data.folder import open_dataset
from detlib.data.inputs import Plan, choose, merged, plan_from, prepared
from detlib.experiments import rung
from detlib.predict import coco_results, detect_each, load_trained, on_pictures, read_picture, run_detections
from detlib.train import fit

PIXELS = 128 * 1024


def photographs(tmp_path, hw, boxes, pictures=True, **about):
    """Two frames of train and one of val, each with these boxes of class 1."""
    height, width = hw
    splits = {name: coco([(f"images/{name}_{k}.png", width, height) for k in range(n)], [(k, 1, box) for k in range(n) for box in boxes])
              for name, n in (("train", 2), ("val", 1))}
    return open_dataset(write_dataset(tmp_path / "d", splits, pictures, **about))


def test_what_fits_stays_as_it_is(tmp_path):
    data = photographs(tmp_path, (100, 1000), [[10, 10, 50, 50]], pictures=False)
    assert choose(data, PIXELS) is None and prepared(data, None) is data


def test_photographs_are_scaled_to_the_canvas_that_keeps_most(tmp_path):
    """640 x 480 into 8 squares of 128 px: 3 x 2 of them keep 256 / 480; wider ones keep no more and cost more."""
    data = photographs(tmp_path, (480, 640), [[100, 50, 90, 100]], pictures=False)
    plan = choose(data, PIXELS)
    assert (plan.kind, plan.canvas_hw) == ("letterbox", (256, 384)) and plan.scale == pytest.approx(256 / 480)
    assert "scaled to fit 384 x 256 px (0.53 of their size" in plan.reason and "larger than 51² px" in plan.reason
    seen = prepared(data, plan)
    row = seen["train"].boxes.iloc[0]
    assert seen["train"].frames[0].image_hw == (256, 341) and seen.size_limits == (32, 64)
    assert row[["x1", "y1", "x2", "y2"]].tolist() == pytest.approx([100 * 341 / 640, 50 * 256 / 480, 190 * 341 / 640, 150 * 256 / 480])
    assert row["area"] == pytest.approx(9000 * 341 / 640 * 256 / 480) and not row["crowd"]
    assert seen["train"].fingerprint != data["train"].fingerprint and seen.key != data.key and plan_from(seen.plan) == plan


def test_small_objects_ask_for_tiles(tmp_path):
    data = photographs(tmp_path, (1500, 2000), [[k * 100, 700, 12, 12] for k in range(19)] + [[1000, 900, 60, 40]], pictures=False)
    plan = choose(data, PIXELS)
    assert plan.kind == "tiles" and plan.canvas_hw == (256, 512) and plan.scale == pytest.approx(8 / 12) and plan.overlap == 9
    seen = prepared(data, plan)
    assert seen["train"].boxes["size"].min() >= 4 and len(seen["train"]) == 2 * len(plan.parts(None, (1500, 2000)))


def test_tiles_cover_a_picture_and_overlap():
    plan = Plan("tiles", (128, 256), 1.0, 30, "")
    parts = plan.parts("id", (300, 500))
    assert [(part.left, part.top, hw) for part, hw in parts] == [(x, y, (128, 256)) for y in (0, 86, 172) for x in (0, 122, 244)]
    covered = np.zeros((300, 500), int)
    for part, (height, width) in parts:
        covered[part.top:part.top + height, part.left:part.left + width] += 1
    assert covered.min() == 1 and {part.left + hw[1] for part, hw in parts} >= {500} and {part.top + hw[0] for part, hw in parts} >= {300}
    lefts, tops = sorted({part.left for part, _ in parts}), sorted({part.top for part, _ in parts})
    assert np.diff(lefts).max() <= 256 - 30 and np.diff(tops).max() <= 128 - 30
    assert [hw for _, hw in plan.parts("id", (50, 60))] == [(50, 60)]


def test_paint_and_boxes_stay_together(tmp_path):
    """A white box in a picture of 1200 x 800, scaled and cut: where the frame's box says, to a pixel; and back on the picture."""
    data = photographs(tmp_path, (800, 1200), [[600, 300, 200, 160], [100, 40, 120, 100]])
    for plan in (choose(data, PIXELS), Plan("tiles", (256, 384), 0.5, 120, "")):
        split = prepared(data, plan)["train"]
        whole = 0
        for index, frame in enumerate(split.frames):
            image = split.image(index).float().mean(0)
            assert tuple(image.shape) == frame.image_hw
            boxes, _ = split.targets(index)
            for x1, y1, x2, y2 in boxes.round().int().tolist():
                assert image[y1 + 2:y2 - 2, x1 + 2:x2 - 2].min() > 240
            if len(boxes):
                found, *_ = merged([(boxes, torch.ones(len(boxes)), torch.ones(len(boxes)))], [frame.part])
                area = (found[:, 2:] - found[:, :2]).prod(1)
                full = ((area - 32_000).abs() < 10) | ((area - 12_000).abs() < 10)
                for box in found[full].tolist():
                    assert min(abs(np.array(box) - truth).max() for truth in ([600, 300, 800, 460], [100, 40, 220, 140])) < 0.01
                whole += int(full.sum())
        assert whole >= 4  # each object whole on at least one frame of each picture


def test_a_sliver_at_a_tiles_edge_is_neither_learned_nor_judged(tmp_path):
    data = photographs(tmp_path, (256, 512), [[90, 20, 100, 40]], pictures=False)
    split = prepared(data, Plan("tiles", (256, 128), 1.0, 0, ""))["val"]
    assert split.boxes[["frame", "x1", "x2", "crowd"]].values.tolist() == [[0, 90, 128, True], [1, 0, 62, False]]  # 38 % and 62 % of it
    assert len(split.targets(0)[0]) == 0 and len(split.targets(1)[0]) == 1


def test_one_object_on_two_tiles_is_one_detection():
    parts = [part for part, _ in Plan("tiles", (128, 128), 1.0, 64, "").parts("id", (128, 192))]
    left, right = torch.tensor([[70.0, 10, 120, 60]]), torch.tensor([[6.0, 10, 56, 60]])
    boxes, _, scores = merged([(left, torch.tensor([1]), torch.tensor([0.6])), (right, torch.tensor([1]), torch.tensor([0.9]))], parts)
    assert boxes.tolist() == [[70, 10, 120, 60]] and scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("plan", [None, Plan("tiles", (128, 256), 0.5, 60, "by hand")], ids=["letterbox", "tiles"])
def test_a_run_on_large_pictures_finds_the_same_on_the_split_and_on_the_file(tmp_path, plan):
    data = photographs(tmp_path, (500, 700), [[100, 100, 200, 150], [400, 250, 150, 200]])
    seen = prepared(data, plan or choose(data, PIXELS))
    run = fit(rung("adam", "smoke", steps=3), seen, progress=False)
    assert plan_from(run.config["input"]) == plan_from(seen.plan) and runs.find_run(rung("adam", "smoke", steps=3), seen)
    results = coco_results(run_detections(run, seen), seen["val"])
    assert {entry["image_id"] for entry in results} <= {10}
    trained = load_trained(run)
    (boxes, *_), = detect_each(trained, [read_picture(data.root / "images/val_0.png")])
    assert boxes[:, 0::2].max() <= 700.01 and boxes[:, 1::2].max() <= 500.01 and len(boxes) == len(results) > 0
    xywh = np.array(sorted((entry["bbox"] for entry in results), key=lambda b: tuple(np.round(b, 1))))
    mine = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).double().numpy()
    assert np.abs(np.sort(mine, 0) - np.sort(xywh, 0)).max() < 0.05
    found, pictures = on_pictures(run_detections(run, seen), seen["val"])
    assert pictures.frames[0].image_hw == (500, 700) and len(found.score) == len(results)


def test_open_data_says_what_it_does(tmp_path, capsys):
    photographs(tmp_path, (480, 640), [[100, 50, 90, 100]])
    data = runs.open_data(tmp_path / "d", "laptop")
    assert "scaled to fit 384 x 256 px" in capsys.readouterr().out and data["train"].image(0).shape == (3, 256, 341)
    picture = data["train"].frames[0]
    assert torch.equal(cut(torch.zeros(3, 480, 640, dtype=torch.uint8), picture.part, picture.image_hw), torch.zeros(3, 256, 341, dtype=torch.uint8))
    assert runs.open_data(tmp_path / "d", "report")["train"].image(0).shape == (3, 480, 640)
