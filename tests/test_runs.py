"""Tables that take a while are kept: what is computed is read back while it would come out the same, what is measured is made anew."""
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from detlib import runs
from detlib.audit.findings import findings
from detlib.audit.proof import planted_outcomes
from detlib.data.folder import open_dataset
from detlib.evaluate.held_out import leave_clips_out

TABLE = pd.DataFrame({"kind": ["shape", "side"], "score": [np.nan, 1 / 3], "frame": [3, 14], "right": [True, False]}, index=["b", "a"])
TABLE.index.name = "name"


@pytest.fixture
def made():
    calls = []

    def make():
        calls.append(1)
        return TABLE.copy()
    return calls, make


def test_what_is_computed_is_read_back_as_it_was(made):
    calls, make = made
    first, second = (runs.kept("table", ["data", 1], make, "state") for _ in range(2))
    assert len(calls) == 1
    pd.testing.assert_frame_equal(first, TABLE)
    pd.testing.assert_frame_equal(second, TABLE)
    runs.kept("table", ["data", 2], make, "state")
    assert len(calls) == 2


def test_another_state_a_damaged_file_and_a_measurement_make_it_anew(made):
    calls, make = made
    for _ in range(2):
        runs.kept("measured", [], make)
    assert len(calls) == 2
    for state in ("one", "other", "other"):
        runs.kept("table", [], make, state)
    assert len(calls) == 4
    (path,) = (runs.outputs() / "measured").glob("table-*.json")
    for content in ("{", "[]", json.dumps({"state": "other"})):
        path.write_text(content)
        pd.testing.assert_frame_equal(runs.kept("table", [], make, "other"), TABLE)
    assert len(calls) == 7


def test_the_state_is_of_all_that_a_table_hangs_on(small, monkeypatch):
    split = open_dataset(small)["train"]
    first, picture = runs.state_of(split), small / split.frames[0].file_name
    other = [runs.state_of(replace(split, boxes=split.boxes.iloc[1:])),
             runs.state_of(replace(split, boxes=split.boxes.assign(x1=split.boxes["x1"] - 1))),
             runs.state_of(replace(split, frames=tuple(replace(frame, clip="one") for frame in split.frames)))]
    Image.new("RGB", (256, 128)).save(picture)
    other.append(runs.state_of(split))
    monkeypatch.setattr(runs, "CODE", "other")
    other.append(runs.state_of(split))
    assert len({first, *other}) == 1 + len(other)
    monkeypatch.undo()
    picture.unlink()
    assert runs.state_of(split) != first


@pytest.mark.parametrize("within, table", [
    ("audit.findings.suspects", findings), ("audit.proof.plant", lambda split, data: planted_outcomes(split, data, share=1.0, seeds=[0])),
    ("evaluate.held_out._left_out", lambda split, _: leave_clips_out(split, folds=2, counts=(1, 1), strides=(8, 16)))])
def test_tables_of_the_notebooks_come_back(small, monkeypatch, within, table):
    """With their types, also where a column is empty."""
    data, (module, name) = open_dataset(small), within.rsplit(".", 1)
    first = table(data["train"], data)
    monkeypatch.setattr(sys.modules[f"detlib.{module}"], name, lambda *_: pytest.fail("made anew"))
    pd.testing.assert_frame_equal(table(data["train"], data), first, check_index_type=False)  # an empty index has no type
    with pytest.raises(pytest.fail.Exception, match="made anew"):
        table(replace(data["train"], boxes=data["train"].boxes.iloc[1:]), data)
