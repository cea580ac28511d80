"""Anchor sets as experiments and the command line take them: named, fitted, saved; and a checkpoint that knows its own."""
import json
from dataclasses import replace

import pytest
import torch
from conftest import coco
from matplotlib.colors import to_hex

from detlib import plots, runs
from detlib.anchors import BASELINE, REPORT, AnchorSpec
from detlib.boxes import iou
from detlib.cli import main
from detlib.coverage import coverage
from detlib.data.coco import DataError
from detlib.data.folder import open_annotations, open_dataset
from detlib.evaluate.coco import Detections
from detlib.experiments import Experiment, rung
from detlib.fitting import from_json, to_json
from detlib.matching import objects_by_match
from detlib.plots.coverage import nearest_anchor
from detlib.plots.style import class_colours
from detlib.predict import predict
from detlib.train import fit, load_model


def test_fitted_anchors_are_fitted_once_on_train_and_kept(small, home):
    data = open_dataset(small)
    first = runs.anchor_set(rung("fitted_anchors", "smoke"), data)
    assert first.per_cell == BASELINE.per_cell and first.strides == BASELINE.strides and first.shapes != BASELINE.shapes
    path = home / "outputs" / "runs" / data.key / "smoke" / "fitted_anchors.json"
    assert from_json(path)[0] == first and from_json(path)[1]["split"] == "train"
    assert runs.anchor_set(rung("extended", "smoke"), data) == first, "the extended row has the same"
    path.write_text(path.read_text().replace("fitted", "kept"))
    assert runs.anchor_set(rung("fitted_anchors", "smoke"), data).name == "kept"


def test_a_checkpoint_knows_its_anchors(small, home):
    """Trained on a fitted set, it predicts the same after the set is gone."""
    data = open_dataset(small)
    run = fit(rung("fitted_anchors", "smoke"), data, progress=False)
    spec = runs.anchor_set(run.experiment, data)
    assert load_model(run, data).anchors.shapes == spec.shapes
    (home / "outputs" / "runs" / data.key / "smoke" / "fitted_anchors.json").unlink()
    found, _ = predict(load_model(run, data), data["val"], "float32")
    kept = Detections.from_coco(run.detections(), data["val"])
    assert len(found.score) == len(kept.score) and found.score.sum() == pytest.approx(kept.score.sum(), rel=1e-5)
    other = replace(data, categories=("car", "tram"))
    with pytest.raises(ValueError, match=r"trained on the classes car, person, and this data has car, tram"):
        load_model(run, other)


def test_a_saved_set_is_named_by_an_experiment(small, home):
    data = open_dataset(small)
    mine = AnchorSpec(BASELINE.strides, (((10.0, 20.0),),) * 6, "mine")
    to_json(mine, home / "outputs" / "anchors" / "thin.json")
    experiment = rung("bias_init", "smoke", anchors="thin")
    assert experiment.rung == "bias_init+anchors=thin" and runs.anchor_set(experiment, data) == mine
    assert fit(experiment, data, progress=False).config["anchors"] == [[[10.0, 20.0]]] * 6
    with pytest.raises(ValueError, match="there are baseline, report, fitted, thin"):
        runs.anchor_set(rung("bias_init", "smoke", anchors="thick"), data)
    with pytest.raises(ValueError, match="known are 'baseline'"):
        Experiment(anchors="../thin")


def test_a_changed_set_starts_a_run_of_its_own(small, home, capsys):
    """The anchors stand in a run's configuration: another set under the same name never continues it."""
    data, path = open_dataset(small), home / "outputs" / "anchors" / "mine.json"
    experiment = rung("baseline", "smoke", anchors="mine")
    to_json(BASELINE, path)
    fit(experiment, data, progress=False, stop_after=2)
    to_json(REPORT, path)
    run = fit(experiment, data, progress=False, stop_after=2)
    assert "anchors is" in capsys.readouterr().out and run.config["anchors"] == json.loads(json.dumps(REPORT.shapes))
    assert run.folder.with_name("seed0.before1").is_dir()


def test_coverage_on_the_command_line(tmp_path, capsys):
    """One box that is an anchor, one that is half of one: IoU 1 and 1/2."""
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(coco([("a_1.png", 1024, 128)], [(0, 1, [2.0 + 256 - 8, 62.0 - 8, 16, 16]), (0, 2, [514.0 - 8, 62.0 - 8, 8, 16])])))
    assert main(["anchors", "coverage", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"recall@0.5", "mean_iou", "anchors", "seconds"} and found["anchors"] == 65_440
    assert found["recall@0.5"] == 1 and found["mean_iou"] == pytest.approx(0.75)
    assert main(["anchors", "fit", str(path), "--out", str(tmp_path / "saved.json"), "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["anchors"] == 65_440 and fitted["mean_iou"] > 0.9
    assert main(["anchors", "coverage", str(path), "--anchors", str(tmp_path / "saved.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_iou"] == pytest.approx(fitted["mean_iou"])
    assert main(["anchors", "coverage", str(path), "--anchors", "fitted"]) == 2 and "--fit-on" in capsys.readouterr().err
    assert main(["anchors", "coverage", str(tmp_path / "none.json")]) == 2 and "no such file" in capsys.readouterr().err
    assert main(["anchors", "coverage", str(path), "--anchors", "basline"]) == 2 and "no such file" in capsys.readouterr().err


def test_a_file_is_named_in_its_errors(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(coco([("a_1.png", 64, 64)], [(0, 1, [5, 5, -3, 4])])))
    with pytest.raises(DataError, match=r"mine\.json: annotation 100 .*box width is -3"):
        open_annotations(path)
    assert len(open_annotations(path, "drop").boxes) == 0


@pytest.mark.parametrize(("anchors", "recall", "mean"), [("baseline", 0.705, 0.545), ("report", 0.502, 0.513)])
def test_known_coverage_of_the_real_boxes(real, capsys, anchors, recall, mean):
    assert main(["anchors", "coverage", str(real / "full_val_annotations.json"), "--anchors", anchors, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recall@0.5"], found["mean_iou"]) == (pytest.approx(recall, abs=5e-4), pytest.approx(mean, abs=5e-4))


def test_fitted_to_the_real_train_boxes_they_hold_on_val(real, capsys, tmp_path):
    saved = str(tmp_path / "saved.json")
    train = str(real / "full_train_annotations.json")
    assert main(["anchors", "fit", train, "--budget", "65440", "--objective", "mean_iou", "--out", saved, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["anchors"] <= 65_440
    assert main(["anchors", "coverage", str(real / "full_val_annotations.json"), "--anchors", saved, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recall@0.5"] >= 0.92 and found["mean_iou"] >= 0.66


def test_the_nearest_anchor_is_the_best_of_its_shape():
    """What the figure draws has the IoU that coverage says, on a grid of which the image is no multiple."""
    torch.manual_seed(0)
    xy, wh = torch.rand(60, 2) * torch.tensor([190.0, 140.0]), 3 + 50 * torch.rand(60, 2)
    boxes = torch.cat([xy, xy + wh], 1)
    found = coverage(REPORT, boxes, (150, 200))
    for box, value, level, shape in zip(boxes, found.iou, found.level.tolist(), found.shape.tolist(), strict=True):
        anchor = torch.tensor(nearest_anchor(REPORT, box.tolist(), level, shape, (150, 200)))
        assert iou(anchor[None], box[None]).item() == pytest.approx(value.item(), abs=1e-4)


def test_figures_and_tables_of_sets(small):
    data = open_dataset(small)
    sets = {"baseline": BASELINE, "report": REPORT, "mine": AnchorSpec(BASELINE.strides, (((10.0, 20.0),),) * 6, "mine")}
    for figure in (plots.shape_cloud(sets, data["train"]), plots.recall_curves(sets, {"val": data["val"]}), plots.class_recall(sets, data),
                   plots.covered_frame(sets, data["val"], 0)):
        assert figure.png()[:4] == b"\x89PNG"
    table = plots.matched(sets, data["train"])
    assert table.loc["objects"].tolist() == ["6"] * 3 and list(table.columns) == list(sets)
    above, every = torch.cat([objects_by_match(BASELINE.grid_xyxy((128, 256)), data["train"].targets(i)[0]) for i in range(6)]).unbind(-1)
    assert table.loc["with an anchor above IoU 0.5", "baseline"].startswith(f"{int((above > 0).sum())} (")
    assert table.loc["anchors an object, mean", "baseline"] == f"{every.double().mean():.1f}"


def test_the_closest_shapes_stand_beside_an_object(small):
    """Right the three anchors of highest IoU with the object of median size, with the numbers; a frame without objects has none."""
    split = open_dataset(small)["val"]
    index = next(i for i in range(len(split)) if len(split.targets(i)[1]))
    boxes = split.targets(index)[0]
    chosen = boxes[((boxes[:, 2:] - boxes[:, :2]).prod(1)).argsort()[len(boxes) // 2]]
    left, right = plots.shapes_on_frame(BASELINE, split, index).axes
    centre, drawn = (chosen[:2] + chosen[2:]) / 2, []
    for stride, shapes in zip(BASELINE.strides, BASELINE.shapes, strict=True):
        middle = (centre // stride + 0.5) * stride
        wh = torch.tensor(shapes).minimum(torch.tensor(split.image_hw[::-1]))
        drawn.append(iou(torch.cat([middle - wh / 2, middle + wh / 2], 1).float(), chosen[None])[:, 0])
    best = torch.cat(drawn).sort(descending=True).values[:3]
    assert [line[-4:] for line in right.get_xlabel().splitlines()[1:]] == [f"{value:.2f}" for value in best.tolist()]
    assert len(left.patches) == len(boxes) + sum(BASELINE.per_cell)
    empty = replace(split, boxes=split.boxes.iloc[:0])
    assert len(plots.shapes_on_frame(REPORT, empty, 0, levels=3).axes) == 1
    assert plots.covered_frame({"report": REPORT}, empty, 0).png()[:4] == b"\x89PNG"


def test_the_toy_has_the_colours_of_the_data():
    toy, boxes = AnchorSpec((8,), (((10.0, 10.0),),), "toy"), torch.tensor([[8.0, 8, 25, 16], [53, 6, 57, 24]])
    figure = plots.toy_matching(toy, (32, 64), boxes, ["person", "car"], ["car", "truck", "person"])
    colours = class_colours(["car", "truck", "person"])
    assert [to_hex(patch.get_facecolor()) for patch in figure.axes[0].patches[:2]] == [colours["person"], colours["car"]]


def test_gain_against_coverage(small):
    data = open_dataset(small)
    both = (("adam", "baseline"), ("flip", "report"))
    runs_of = {name: [fit(rung(name, "smoke", anchors=anchors), data, progress=False)] for name, anchors in both}
    figure = plots.gain_against_coverage(data, (BASELINE, runs_of["adam"]), (REPORT, runs_of["flip"]))
    assert {t.get_text() for t in figure.axes[0].texts} <= {"car", "person"} and figure.axes[0].texts
