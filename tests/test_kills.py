"""What is killed goes on, and ends as if nothing had happened; the long version kills more often (tests/long)."""
import pytest
from kills import finished_run, kill_and_compare, other_tasks, page, tiny, training_tasks


def test_killed_trainings_end_bit_identical(tmp_path):
    counts, wrong = kill_and_compare(tmp_path, [training_tasks(tiny(tmp_path / "tiny"))[k] for k in (0, 3)], 3)
    assert counts == {"tried": 3, "identical": 3}, wrong


@pytest.mark.parametrize("kind", ["evaluation", "simulation", "report", "conversion"])
def test_other_verbs_go_on_after_a_kill(tmp_path, kind):
    data = tiny(tmp_path / "tiny")
    run = finished_run(data, tmp_path / "trained") if kind == "evaluation" else None
    counts, wrong = kill_and_compare(tmp_path, other_tasks(data, run, page(tmp_path / "n.ipynb"))[kind], 2)
    assert counts == {"tried": 2, "identical": 2}, wrong
