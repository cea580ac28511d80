"""Training seen live in a notebook: a bar and the curves so far, redrawn every few seconds."""
import html
import time
from typing import Any

from IPython.display import HTML, display

from ..plots.training import progress
from ..runs import Run

EVERY = 6.0  # seconds between two redraws: a picture costs a fraction of a second


class LiveTraining:
    """Give it to `fit` as `on_log`; when training ends, the bar becomes one line that says what it took."""

    def __init__(self):
        self.bar: Any = None
        self.picture: Any = None
        self.drawn = self.started = 0.0
        self.steps = self.first = 0

    def __call__(self, row: dict, run: Run) -> None:
        """Take one step's log row."""
        now, steps = time.monotonic(), run.config["profile"]["steps"] if self.bar is None else self.steps
        if self.bar is None:
            self.steps, self.first, self.started = steps, row["step"], now
            self.bar = display(HTML(""), display_id=True)
            self.picture = display(HTML(""), display_id=True)
        last = row["step"] == steps
        if not (last or "val" in row or now - self.drawn > EVERY):
            return
        self.drawn = now
        done, passed = row["step"] - self.first, now - self.started
        name = html.escape(f"{run.experiment.rung}, seed {run.experiment.seed}")
        if last:
            self.bar.update(HTML(f"{name}: trained {done + 1} steps in {passed / 60:.1f} minutes, validations included."))
            self.picture.update(HTML(""))
            return
        left = f", about {passed / done * (steps - row['step']) / 60:.1f} minutes left" if done else ""
        self.bar.update(HTML(f'{name}: <progress value="{row["step"]}" max="{steps}"></progress> step {row["step"]} of {steps}{left}. '
                             "Stop with the ■ button: the steps done are kept."))
        self.picture.update(progress(run))
