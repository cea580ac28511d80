"""Broken data sets of all four forms are loaded or refused with a sentence; the long version tries more (tests/long)."""
from fuzz import fuzzed


def test_broken_data_sets_are_loaded_or_refused(tmp_path):
    counts, wrong = fuzzed(tmp_path, 300)
    assert counts["crashed"] == counts["hung"] == 0, wrong
    assert counts["loaded"] > 30 and counts["refused"] > 30, counts
