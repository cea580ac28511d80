"""`kill -9` at random moments of training, evaluation, simulation, report export and conversion: what is called again ends bit by bit the same."""
import pytest
from kills import finished_run, kill_and_compare, other_tasks, page, tiny, training_tasks
from record import record


def test_trainings(tmp_path):
    counts, wrong = kill_and_compare(tmp_path, training_tasks(tiny(tmp_path / "tiny")), 50)
    record("kills_training", counts)
    assert counts == {"tried": 50, "identical": 50}, wrong


@pytest.fixture(scope="module")
def others():
    return {"tried": 0, "identical": 0}


@pytest.mark.parametrize("kind", ["evaluation", "simulation", "report", "conversion"])
def test_other_verbs(tmp_path, others, kind):
    data = tiny(tmp_path / "tiny")
    run = finished_run(data, tmp_path / "trained") if kind == "evaluation" else None
    counts, wrong = kill_and_compare(tmp_path, other_tasks(data, run, page(tmp_path / "n.ipynb"))[kind], 20)
    print(kind, counts)
    for key in others:
        others[key] += counts[key]
    record("kills_other", others)
    assert counts == {"tried": 20, "identical": 20}, wrong
