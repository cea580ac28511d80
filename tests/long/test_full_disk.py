"""A disk with from none to some hundred kilobytes left, in the middle of a training: nothing is lost, and it goes on when there is room."""
from record import record
from test_disk import FREE, data, lost_on_a_full_disk, threads  # noqa: F401


def test_nothing_is_lost_on_a_full_disk(data, tmp_path, monkeypatch):  # noqa: F811
    wrong = lost_on_a_full_disk(data, tmp_path, monkeypatch, FREE)
    record("disk_full", {"tried": len(FREE), "lost": len({line.partition(" ")[0] for line in wrong})})
    assert not wrong
