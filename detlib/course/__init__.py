"""Exercises of the notebooks: `check` tries an answer and says what differs, `hint` helps in steps. For notebooks alone; nothing imports it."""
from collections import Counter
from difflib import get_close_matches

from ..evaluate.compare import wrapped
from . import anchors, costs, data, judging, network, splits
from .exercise import DONE, Exercise, verdict

__all__ = ["EXERCISES", "check", "hint"]

EXERCISES: dict[str, Exercise] = {one.name: one for module in (data, anchors, network, splits, costs, judging) for one in module.EXERCISES}
_given: Counter[str] = Counter()  # hints, by exercise


def check(name: str, answer: object, insight: bool = True) -> None:
    """Print how far an answer has come: not done yet, what differs and on which input, or well done.

    `answer` is what the exercise asks for: a function (itself, without calling it), a pair of them, letters or a number. Whatever it is and does,
    nothing is raised. Without `insight` a right answer is not followed by what it teaches, which a solution that runs with its notebook would tell
    too early.
    """
    said = verdict(EXERCISES[name], answer, name) if name in EXERCISES else _unknown(name)
    print(wrapped(said if insight or not said.startswith(DONE) else f"{DONE}: this is right."))


def hint(name: str) -> None:
    """Print the next hint of an exercise; the last one nearly tells."""
    if name not in EXERCISES:
        print(wrapped(_unknown(name)))
        return
    hints = EXERCISES[name].hints
    _given[name] = min(_given[name] + 1, len(hints))
    print(wrapped(f"Hint {_given[name]} of {len(hints)}: {hints[_given[name] - 1]}"))


def _unknown(name: str) -> str:
    near = get_close_matches(str(name), EXERCISES, 1)
    return f"No exercise is called {name!r}" + (f"; did you mean {near[0]!r}?" if near else ".")
