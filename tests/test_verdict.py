"""Everything on one page: the numbers are those of the parts, and noise is called noise."""
import pandas as pd
import pytest
from trained import make_run

from detlib.data.folder import open_dataset
from detlib.evaluate import verdict as module
from detlib.evaluate.changes import run_outcome
from detlib.evaluate.coco import kept_detections
from detlib.evaluate.compare import Difference
from detlib.evaluate.errors import MEAN, TYPES, error_types
from detlib.evaluate.ladder import compared
from detlib.evaluate.verdict import verdict


def test_each_trained_row_has_its_line(small):
    data = open_dataset(small)
    runs = {name: make_run(data, name) for name in ("adam", "fpn")}
    rows = compared([run.experiment for run in runs.values()], data, 1)
    outcomes = {name: run_outcome(run, data) for name, run in runs.items()}
    table = verdict(rows, outcomes, pd.DataFrame({"p50": {"adam": 12.4}}), data)
    assert table.index.tolist() == ["adam", "fpn"] and table.loc["adam", "ms (p50)"] == "12" and table.loc["fpn", "ms (p50)"] == "-"
    best, other = sorted(rows, key=lambda row: -row.value[0])
    assert table.loc[best.name, "to the best"] == "the highest"
    assert table.loc[other.name, "to the best"] == "nothing can be said"  # one clip
    assert table.loc["fpn", "mAP, 95% interval"] == f"{runs['fpn'].metrics['mAP']:.3f}"
    costs = error_types(kept_detections(runs["fpn"], data), data["val"]).loc[list(TYPES), MEAN]
    assert table.loc["fpn", "costliest error"] == f"{costs.idxmax()}, {costs.max():.2f} AP50"
    seen = outcomes["fpn"]
    assert table.loc["fpn", "objects found"] == f"{seen.found.sum() / len(seen.objects):.0%}"
    assert table.loc["fpn", "false alarms a frame"] == f"{len(seen.false_alarms) / len(data['val']):.1f}"


@pytest.mark.parametrize(("low", "high", "said"), [(-0.3, -0.1, "-0.200"), (-0.3, 0.1, "in the noise")])
def test_noise_is_called_noise(small, monkeypatch, low, high, said):
    data = open_dataset(small)
    runs = {name: make_run(data, name) for name in ("adam", "fpn")}
    rows = compared([run.experiment for run in runs.values()], data, 1)
    monkeypatch.setattr(module, "difference", lambda a, b, _: Difference("a", "b", -0.2, low, high, ((0, 0),), 5))
    table = verdict(rows, {name: run_outcome(run, data) for name, run in runs.items()}, pd.DataFrame({"p50": {}}), data)
    assert sorted(table["to the best"]) == sorted(["the highest", said])


def test_without_a_trained_row_it_says_how_to_get_one(small):
    with pytest.raises(ValueError, match="detlib train LADDER"):
        verdict([], {}, pd.DataFrame(), open_dataset(small))
