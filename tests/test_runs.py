"""Tables that take a while are kept: what is computed is read back while it would come out the same, what is measured is made anew."""
import json

import numpy as np
import pandas as pd
import pytest

from detlib import runs
from detlib.audit.findings import findings
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
    first, second = (runs.kept("table", ["data", 1], make) for _ in range(2))
    assert len(calls) == 1 and runs.kept("table", ["data", 2], make) is not first and len(calls) == 2
    pd.testing.assert_frame_equal(first, TABLE)
    pd.testing.assert_frame_equal(second, TABLE)


def test_other_code_a_damaged_file_and_a_measurement_make_it_anew(made, monkeypatch):
    calls, make = made
    for _ in range(2):
        runs.kept("measured", [], make, measured=True)
    assert len(calls) == 2
    runs.kept("table", [], make)
    code = runs._code()
    monkeypatch.setattr(runs, "_code", lambda: code + "x")
    runs.kept("table", [], make)
    assert len(calls) == 4
    (path,) = (runs.outputs() / "measured").glob("table-*.json")
    for content in ("{", "[]", json.dumps({"code": code + "x"})):
        path.write_text(content)
        pd.testing.assert_frame_equal(runs.kept("table", [], make), TABLE)
    assert len(calls) == 7


def test_tables_of_the_notebooks_come_back(small):
    """With their types, also where a column is empty."""
    data = open_dataset(small)
    for make in (lambda: findings(data["train"], data), lambda: leave_clips_out(data["train"], folds=2, counts=(1, 1), strides=(8, 16))):
        pd.testing.assert_frame_equal(make(), make(), check_index_type=False)  # an empty one has no type
    assert len(list((runs.outputs() / "measured").glob("*.json"))) == 2
