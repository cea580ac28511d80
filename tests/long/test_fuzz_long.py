"""Ten thousand broken data sets of all forms: loaded or refused with a sentence, within bounds of memory and time; and a json of 200 MB."""
import time

import pytest
from fuzz import fuzzed
from record import record

from detlib.data.coco import DataError
from detlib.data.folder import open_dataset

COUNT = 10_000


def test_broken_data_sets(tmp_path):
    counts, wrong = fuzzed(tmp_path, COUNT, first=100_000)
    record("inputs", counts)
    assert counts["tried"] == COUNT and counts["crashed"] == counts["hung"] == 0, wrong


def test_200_megabytes_of_nesting(tmp_path):
    for opening in (b"[", b'{"images":[', b'{"a":'):
        (tmp_path / "train_annotations.json").write_bytes(opening * (200_000_000 // len(opening)))
        start = time.monotonic()
        with pytest.raises(DataError, match=r"train_annotations\.json: not readable as json"):
            open_dataset(tmp_path)
        print(f"{opening}: {time.monotonic() - start:.1f} s")
