"""The reference run: what is kept of it, that it comes back, and that the README says what it holds."""
import json
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detlib import reference, runs
from detlib.data import lidar
from detlib.data.coco import Dataset, Split
from detlib.data.lidar import FIRST_CLIP, PANORAMA, SECONDS, VERSION, render, simulate
from detlib.data.second_city import second_city
from detlib.data.streets import Street
from detlib.evaluate.changes import paired_changes
from detlib.evaluate.coco import kept_detections
from detlib.evaluate.compare import difference, signed
from detlib.evaluate.intervals import SCHEME, map_interval, resampled_classes
from detlib.evaluate.ladder import LONGER, at_lengths, at_rates, at_their_best, climb, ladder_table
from detlib.experiments import LADDER, markdown_table, rung
from detlib.plots import classes as class_curves
from detlib.plots import found_shares, losses, validation
from detlib.plots import ladder as ladder_figure
from detlib.train import fit, load_model

RESAMPLES = f"resamples{SCHEME}.npz"


def near(a, b):
    """Two records alike but for the sixth digit of their numbers."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(near(a[name], b[name]) for name in a)
    return a == b or a == pytest.approx(b, rel=1e-5)


@pytest.fixture
def kept(small, tmp_path, monkeypatch):
    """Two rows and two seeds trained on the small data set, and packed; then a home of its own, in which nothing is trained."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    data = runs.open_data(small, "smoke")
    trained = {(name, seed): fit(rung(name, "smoke", seed), data, progress=False) for name in ("adam", "flip") for seed in (0, 1)}
    difference([trained["adam", 0], trained["adam", 1]], [trained["flip", 0], trained["flip", 1]], data)
    reference.pack(runs.outputs(), [data], "smoke", "a machine", RESAMPLES, 2)
    monkeypatch.setenv("DETLIB_HOME", str(tmp_path / "elsewhere"))
    return small, trained


def test_a_run_comes_back_as_it_was_but_for_rounding(kept, monkeypatch):
    small, trained = kept
    monkeypatch.setenv("DETLIB_RUNS", "reference")
    data = runs.open_data(small, "smoke")
    for (name, seed), run in trained.items():
        back = runs.find_run(rung(name, "smoke", seed), data)
        assert back.config == run.config and near(back.metrics, run.metrics)
        assert back.log_rows()[-1]["val"]["mAP"] == pytest.approx(run.metrics["mAP"], rel=1e-5)
        ap, clips = resampled_classes(run, None)
        if seed == 0:
            mine, found = kept_detections(back, data), kept_detections(run, data)
            for label, objects in data["val"].boxes["label"].value_counts().items():
                best = np.sort(found.score[found.label == label])[::-1][:reference.PER_OBJECT * objects]
                assert np.allclose(np.sort(mine.score[mine.label == label])[::-1], best, atol=1e-4)
            assert np.allclose(resampled_classes(back, None)[0], ap, atol=1e-4, equal_nan=True) and resampled_classes(back, None)[1] == clips
        else:
            assert not (back.folder / "detections.json").exists() and resampled_classes(back, None)[0].shape == (len(ap), 1)
    for name in ("adam", "flip"):
        pair = [runs.find_runs(rung(name, "smoke"), data, (0, 1)), [trained[name, 0], trained[name, 1]]]
        assert map_interval(pair[0], None) == pytest.approx(map_interval(pair[1], None), abs=1e-3)


def test_read_in_place_of_ones_own_nothing_is_trained_and_weights_are_refused(kept, monkeypatch):
    small, _ = kept
    monkeypatch.setenv("DETLIB_RUNS", "reference")
    data = runs.open_data(small, "smoke")
    run = fit(rung("adam", "smoke"), data, on_log=lambda row, run: pytest.fail("it trains"), progress=False)
    assert run.folder.is_relative_to(runs.home() / "outputs" / "reference")
    with pytest.raises(runs.NoWeights, match="weights of adam, and the reference keeps none"):
        load_model(run, data)
    assert runs.start_run(rung("flip", "smoke", weights=runs.weights_name(run.folder))).weights_hash() == run.weights_hash()
    monkeypatch.setenv("DETLIB_RUNS", "theirs")
    with pytest.raises(ValueError, match="known are 'own' and 'reference'"):
        runs.outputs()


def test_beside_ones_own_it_is_shown_and_says_so(kept):
    small, _ = kept
    data = runs.open_data(small, "smoke")
    assert runs.find_run(rung("adam", "smoke"), data) is None, "it is not taken for one's own"
    run = fit(rung("adam", "smoke"), data, progress=False)
    there = runs.reference_of(run)
    assert near(there.metrics, run.metrics), "the same machine and seed"
    assert runs.reference_of(there) is None and runs.reference_of(replace(run, folder=run.folder.with_name("seed7"))) is None
    rows = climb(data, "smoke", 1)
    assert ladder_table(rows).loc["adam", "reference"] == f"{run.metrics['mAP']:.3f}" and ladder_table(rows).loc["fpn", "reference"] == ""
    for figure in (losses({"adam": run}), validation({"adam": run}), ladder_figure(rows, data)):
        assert any("reference run" in text.get_text() for text in figure.texts)
        assert any(line.get_markerfacecolor() in ("white", "none") for axis in figure.axes for line in axis.lines)
    assert not any("reference run" in text.get_text() for text in class_curves({"adam": run}).texts), "said only where it is drawn"


def test_what_takes_detections_is_of_the_seed_that_has_them(kept, monkeypatch):
    small, _ = kept
    monkeypatch.setenv("DETLIB_RUNS", "reference")
    data = runs.open_data(small, "smoke")
    rows = {name: runs.find_runs(rung(name, "smoke"), data, range(2)) for name in ("adam", "flip")}
    assert [len(found) for found in rows.values()] == [2, 2]
    assert [one.seeds for one in paired_changes(*rows.values(), data)] == [(0, 0)]
    assert found_shares(rows, data).texts


def test_seeds_with_other_settings_are_not_packed(kept, monkeypatch):
    small, trained = kept
    monkeypatch.setenv("DETLIB_HOME", str(trained["adam", 1].folder.parents[5]))
    config = trained["adam", 1].folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"anchors": [[[8, 8]]]}))
    with pytest.raises(ValueError, match="seed1: it was trained with other settings than the seed before it"):
        reference.pack(runs.outputs(), [runs.open_data(small, "smoke")], "smoke", "a machine", RESAMPLES, 2)


def test_what_it_held_on_these_data_stays(kept):
    """Also a run on some of the frames, as long as the split that they are of is what it was; one on other frames goes."""
    small, _ = kept
    there = json.loads((reference.FOLDER / "small" / "adam" / "seed0.json").read_text())
    for name, changes in (("some", {"train_frames": 3}), ("gone", {})):
        one = deepcopy(there)
        one["config"]["experiment"] |= changes
        one["config"]["data"]["train"] = "0" * 12
        (reference.FOLDER / "small" / name).mkdir()
        (reference.FOLDER / "small" / name / "seed0.json").write_text(json.dumps(one))
    reference.pack(runs.outputs(), [runs.open_data(small, "smoke")], "smoke", "a machine", RESAMPLES, 2)  # from a home without runs
    assert {path.parent.name for path in reference.files("small")} == {"adam", "flip", "some"}
    about = reference.about()
    about["data"]["small"]["splits"]["train"] = "1" * 12  # as if train had been another one then
    (reference.FOLDER / "about.json").write_text(json.dumps(about))
    reference.pack(runs.outputs(), [runs.open_data(small, "smoke")], "smoke", "a machine", RESAMPLES, 2)
    assert {path.parent.name for path in reference.files("small")} == {"adam", "flip"}


def test_other_data_and_other_numbers_of_the_same_data(kept, tmp_path, monkeypatch):
    """Simulated data are known by how they were made: where another processor rounds otherwise, their fingerprint is another one."""
    small, _ = kept
    about = json.loads((reference.FOLDER / "about.json").read_text())
    about["data"]["small"]["made"] = {"simulator": 1}
    (reference.FOLDER / "about.json").write_text(json.dumps(about))
    content = json.loads((small / "val_annotations.json").read_text())
    content["annotations"][0]["bbox"][0] += 0.25
    (small / "val_annotations.json").write_text(json.dumps(content))
    changed = runs.open_data(small, "smoke")
    assert changed.key != about["data"]["small"]["key"]
    assert reference.known_name(changed) is None
    with pytest.raises(ValueError, match="no runs on small in the profile laptop; it has: small, profile smoke"):
        reference.seeds_of(changed, "laptop")
    monkeypatch.setattr(reference, "how_made", lambda dataset: {"simulator": 1})
    monkeypatch.setenv("DETLIB_RUNS", "reference")
    changed = runs.open_data(small, "smoke")
    run = fit(rung("adam", "smoke"), changed, on_log=lambda row, run: pytest.fail("it trains"), progress=False)
    assert run.config["data"]["val"] == changed["val"].fingerprint and len(kept_detections(run, changed).score)


def came_with(name):
    """A data set of the reference as far as its runs tell: no frames, and the fingerprints that they were trained on."""
    facts = reference.about()["data"][name]
    categories = tuple(json.loads(next(reference.files(name)).read_text())["config"]["categories"])
    splits = {split: Split(split, Path(), (), categories, pd.DataFrame(), {}, there) for split, there in facts["splits"].items()}
    return Dataset(name, Path(), True, (), (16, 32), categories, splits)


def test_what_comes_with_detlib_is_small_whole_and_of_today():
    """Every row with its seeds on simulated streets and at least one on real frames, with the settings that the code has now; no pictures."""
    about = reference.about()
    files = sorted(path for path in reference.FOLDER.rglob("*.*") if path.is_file() and path.suffix != ".pyc")
    assert {path.suffix for path in files} == {".json", ".py"} and sum(path.stat().st_size for path in files) <= 5e6
    assert about["machine"] and about["date"] and about["data"]["simulated"]["made"]["simulator"] == VERSION
    for name in about["data"].keys() & {"simulated", "tdt4265_2022"}:
        there = [json.loads(path.read_text()) for path in reference.files(name)]
        kept = {(one["row"], one["config"]["experiment"]["seed"]): one for one in there}
        for row in [row for row, _ in LADDER if name == "simulated" or rung(row).split == "train"]:
            for seed in range(about["data"][name]["seeds"]):
                experiment = rung(row, "laptop", seed)
                assert (row, seed) in kept, (name, row, seed, "train the reference run again")
                now = json.loads(json.dumps({"experiment": asdict(experiment), "profile": asdict(experiment.sizes),
                                             "optimizer": experiment.optimizer_settings}))
                assert not runs.config_differences(kept[row, seed]["config"], now), (name, row, seed, "train the reference run again")
                assert ("detections" in kept[row, seed]) == (seed == 0)


def test_readme_shows_what_the_reference_holds(monkeypatch):
    """Its tables of results are those that `detlib table ladder` and `lengths` print of the reference run, and it names the machine."""
    text = (Path(reference.__file__).parents[2] / "README.md").read_text()
    monkeypatch.setenv("DETLIB_RUNS", "reference")
    for name in reference.about()["data"].keys() & {"simulated", "tdt4265_2022"}:
        data = came_with(name)
        assert reference.unpack(data, runs.outputs()), "known by its fingerprints"
        assert markdown_table(ladder_table(climb(data, "laptop", 3))) in text, f"detlib table ladder, on {name}"
        if name == "simulated":
            tried = at_rates(data, "laptop", 3)
            signs = {row.name: row.gain.measurable * np.sign(row.gain.value) for row in tried if row.gain}
            assert {signs[f"adam{rate}"] for rate in ("", "+lr=0.00015", "+lr=0.0015")} == {1}, "AdamW still wins"
            assert {signs[f"focal{rate}"] for rate in ("", "+lr=0.00015", "+lr=0.0015")} == {-1}, "focal loss still costs"
            best = {row.name.partition("+")[0]: row.gain for row in at_their_best(tried, data, 3) if row.gain}
            assert best["adam"].low > 0 and not best["focal"].measurable and len(best["focal"].seeds) == 2
            rows = at_lengths(data, "laptop", 3)
            longer = rows[len(LONGER):]
            assert markdown_table(ladder_table(longer)) in text, "detlib table lengths"
            gains = {row.name.partition("+steps")[0]: row.gain for row in longer if row.gain}
            assert [gain.measurable * np.sign(gain.value) for gain in gains.values()] == [0, -1, 0, 0, -1, 1], "what is said below it"
            before = {row.name: row.gain for row in rows[:len(LONGER)] if row.gain}
            assert before["deep_heads"].value < gains["deep_heads"].low, "no room for the cost that deep heads had"
            paper, report = (before[name] for name in ("fpn+loss=focal_paper", "focal"))
            assert f"the gain on `fpn` is {signed(paper.value)} [{signed(paper.low)}, {signed(paper.high)}] after 1,000 steps" in text
            assert len(paper.seeds) == 3 and paper.high < 0 and report.high < 0 and gains["focal"].high < 0, "some of it is the alphas"
            assert gains["fpn+loss=focal_paper"].low < paper.value, "does not exclude that cost"
            focal = difference(longer[0].runs, longer[2].runs, data)
            assert focal.high < 0 and f"still costs: {signed(focal.value)} [{signed(focal.low)}, {signed(focal.high)}] mAP beside `fpn`" in text
            gain = difference(longer[-3].runs, longer[-1].runs, data)
            assert not gain.measurable and f"{signed(gain.value)} [{signed(gain.low)}, {signed(gain.high)}] mAP beside `bias_init`" in text
    assert reference.about()["machine"].split(",")[0] in text and reference.about()["date"] in text


def test_a_second_city_of_another_size_is_another(tmp_path):
    small_city = runs.open_data(second_city(tmp_path / "second-city-laptop", "smoke"), "smoke", invalid="drop")
    assert reference.how_made(small_city)["pictures"] == {"train": 16, "val": 8}
    assert reference.known_name(small_city) is None


def test_the_extended_streets_are_those_that_the_simulator_makes_today(tmp_path, monkeypatch):
    """The first and the last clip in full; and what is known is not counted again, and makes the same file."""
    settings = reference.about()["data"]["simulated"]["made"]
    found, frames = reference.street_annotations(settings), settings["frames_per_clip"]
    clips = settings["clips"]["extension"]
    assert settings["sensor"] == json.loads(json.dumps(asdict(PANORAMA)))
    assert len(found) == clips * frames and reference.street_annotations({**settings, "seed": 1}) == []
    for clip in (0, clips - 1):
        street = Street(0, FIRST_CLIP["extension"] + clip)
        there = [render(street.at(k * SECONDS), PANORAMA)[1] for k in range(frames)]
        assert found[clip * frames:(clip + 1) * frames] == there, "other streets: raise VERSION (data/streets.py), train the reference again"
    small = dict(splits=("train_extended",), clips={"train": 1, "val": 1, "extension": 2}, frames_per_clip=2, images=False)
    counted = simulate(tmp_path / "counted", **small) / "train_extended_annotations.json"
    street = [[render(Street(0, FIRST_CLIP["extension"] + clip).at(k * SECONDS), PANORAMA)[1] for k in range(2)] for clip in range(2)]
    monkeypatch.setattr(lidar, "_run", lambda tasks, *rest: [lidar._clip(*task) for task in tasks if task[1] == "train"])
    lent = simulate(tmp_path / "lent", **small, known=lambda settings: street[0] + street[1]) / "train_extended_annotations.json"
    assert lent.read_bytes() == counted.read_bytes()
