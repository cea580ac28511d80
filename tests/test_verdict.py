"""Everything on one page: the numbers are those of the parts, and noise is called noise."""
import pandas as pd
import pytest
from trained import make_run

from detlib.data.coco import open_dataset
from detlib.evaluate.changes import run_outcome
from detlib.evaluate.ladder import compared
from detlib.evaluate.verdict import verdict


def test_each_trained_row_has_its_line(small):
    data = open_dataset(small)
    runs = {name: make_run(data, name) for name in ("adam", "fpn")}
    rows = compared([run.experiment for run in runs.values()], data, 1)
    outcomes = {name: run_outcome(run, data) for name, run in runs.items()}
    table = verdict(rows, outcomes, pd.DataFrame({"p50": {"adam": 12.4}}), data)
    assert table.index.tolist() == ["adam", "fpn"] and table.loc["adam", "ms (p50)"] == "12" and table.loc["fpn", "ms (p50)"] == "-"
    best = max(rows, key=lambda row: row.value[0]).name
    assert table.loc[best, "to the best"] == "the highest"
    seen = outcomes["fpn"]
    assert table.loc["fpn", "objects found"] == f"{seen.found.sum() / len(seen.objects):.0%}"
    assert table.loc["fpn", "false alarms a frame"] == f"{len(seen.false_alarms) / len(data['val']):.1f}"


def test_without_a_trained_row_it_says_how_to_get_one(small):
    with pytest.raises(ValueError, match="detlib train LADDER"):
        verdict([], {}, pd.DataFrame(), open_dataset(small))
