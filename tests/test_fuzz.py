"""Broken data sets of all forms are loaded or refused with a sentence; the long version tries more (tests/long)."""
import json
import tempfile
from pathlib import Path

from fuzz import fuzzed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from detlib.data.checks import check
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset

SCALARS = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8)
JSON = some.recursive(SCALARS, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=4), inner, max_size=3),
                      max_leaves=6)
ENTRY = {  # mostly what belongs there, so that more than the first check is reached
    "images": {"id": some.integers(0, 3), "file_name": some.text(max_size=8), "width": some.just(64), "height": some.just(64)},
    "annotations": {"id": some.integers(0, 9), "image_id": some.integers(0, 3), "category_id": some.integers(0, 2),
                    "bbox": some.lists(some.floats(-9, 70), min_size=4, max_size=4), "area": JSON, "iscrowd": JSON, "distance": JSON},
    "categories": {"id": some.integers(0, 2), "name": some.text(max_size=8)}}
CONTENT = some.fixed_dictionaries({part: some.lists(some.fixed_dictionaries({k: v | JSON for k, v in keys.items()}) | JSON, max_size=4)
                                   for part, keys in ENTRY.items()})


def test_broken_data_sets_are_loaded_or_refused(tmp_path):
    counts, wrong = fuzzed(tmp_path, 300)
    assert counts["crashed"] == counts["hung"] == 0, wrong
    assert counts["loaded"] > 30 and counts["refused"] > 30, counts


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(CONTENT, some.sampled_from(["raise", "drop", "clip"]))
def test_any_json_is_loaded_or_refused(content, invalid):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "train_annotations.json").write_text(json.dumps(content))
        for read in (lambda: open_dataset(folder, invalid), lambda: check(folder)):
            try:
                read()
            except DataError as error:
                assert "train_annotations.json" in str(error)
