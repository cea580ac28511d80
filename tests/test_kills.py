"""What is killed goes on, and ends as if nothing had happened; the long version kills more often (tests/long)."""
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from kills import finished_run, kill_and_compare, other_tasks, page, tiny, training_tasks

from detlib import runs
from detlib.data.folder import open_dataset
from detlib.experiments import rung
from detlib.train import fit


def test_killed_trainings_end_bit_identical(tmp_path):
    counts, wrong = kill_and_compare(tmp_path, [training_tasks(tiny(tmp_path / "tiny"))[k] for k in (0, 3)], 3)
    assert counts == {"tried": 3, "identical": 3}, wrong


@pytest.mark.parametrize("kind", ["evaluation", "simulation", "report", "conversion"])
def test_other_verbs_go_on_after_a_kill(tmp_path, kind):
    data = tiny(tmp_path / "tiny")
    run = finished_run(data, tmp_path / "trained") if kind == "evaluation" else None
    counts, wrong = kill_and_compare(tmp_path, other_tasks(data, run, page(tmp_path / "n.ipynb"))[kind], 2)
    assert counts == {"tried": 2, "identical": 2}, wrong


STEPS = """
import time
from detlib import experiments, runs, train
def say(row, run):
    print("step", row["step"], flush=True)
    time.sleep(0.2)
train.fit(experiments.rung("adam", "smoke", steps=40), runs.open_data({!r}), on_log=say, progress=False)
"""


def test_the_stop_button_of_a_notebook_leaves_a_run_that_goes_on_and_says_so(tmp_path, home, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(runs.__file__).parents[1]))
    data, experiment = tiny(tmp_path / "tiny"), rung("adam", "smoke", steps=40)
    manager = KernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        client.execute(STEPS.format(str(data)))
        said, asked = "", False
        while True:
            message = client.get_iopub_msg(timeout=60)
            said += message["content"].get("text", "")
            if "step 3" in said and not asked:
                asked = True
                manager.interrupt_kernel()
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle" and asked:
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "of 40, which is kept; call it again to go on from there." in said, said
    steps = []
    run = fit(experiment, open_dataset(data), on_log=lambda row, _: steps.append(row["step"]), progress=False)
    assert run.finished and steps[0] > 3
