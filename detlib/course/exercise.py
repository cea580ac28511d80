"""An exercise as data, and the one way in which every answer is tried and compared."""
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

SECONDS = 5.0  # that a function has for one input
LONGEST = 160  # letters of an error that are shown
POINTED = 5e-3  # relative: how near a number is to one of which something is said
NUMBERS = 16  # of an array that is shown; a larger one is its shape
NOT_DONE, NOT_YET, DONE = "Not done yet", "Not yet", "Well done"


@dataclass(frozen=True)
class Case:
    """One input: how it is called in a sentence ("on ..."), the arguments, which function of a pair it is for, and the reference's arguments."""

    what: str
    args: tuple
    part: int = 0
    known: tuple | None = None  # where the reference takes others, such as boxes in place of their overlaps


@dataclass(frozen=True)
class Exercise:
    """What a reader is asked for.

    `reference` is a function (or a pair of them) to agree with on every case, the right letters, or the right number; `pointers` say what is wrong
    with a letter, or with a number that people typically arrive at. `form` brings results into one order where several are right.

    What a reference returns says how an answer is corrected. Floats are too large or too small, so counts are floats, too; whole numbers are labels
    and indices, which are only right or wrong.
    """

    name: str
    reference: Any
    hints: tuple[str, ...]
    insight: str
    cases: Callable[[], Sequence[Case]] = tuple
    pointers: Mapping[Any, str] = field(default_factory=dict)
    tolerance: float = 1e-4  # relative; of functions also absolute, a tenth of it
    form: Callable[[np.ndarray], np.ndarray] = lambda values: values


def verdict(exercise: Exercise, answer: object, name: str = "") -> str:
    """What is said about an answer; never raises. With the name to `check` also, in a line each, on which input it failed and that there are hints.
    """
    case: list[Case] = []
    try:
        if isinstance(exercise.reference, str):
            state, sentence = _letters(exercise, answer)
        elif isinstance(exercise.reference, float):
            state, sentence = _number(exercise, answer)
        else:
            state, sentence, *case = _functions(exercise, answer)
    except BaseException as error:  # an answer may be an object that raises whatever one asks of it
        state, sentence = NOT_YET, f"the answer cannot be compared ({type(error).__name__})."
    lines = [f"{state}: {sentence}"]
    if name and state == NOT_YET and case:
        lines.append(f"Its input: {', '.join(map(_shown, case[0].args))}")
    if name and state != DONE:
        lines.append(f'hint("{name}") helps, one step at a time.')
    return "\n".join(lines)


def _letters(exercise: Exercise, answer: object) -> tuple[str, str]:
    if answer is None or answer is Ellipsis or answer == "":
        return NOT_DONE, "no letter is given so far."
    known = sorted({*exercise.reference, *exercise.pointers})
    if isinstance(answer, list | tuple | set | frozenset):
        answer = "".join(map(str, answer))
    said = sorted(set(re.sub(r"[\s,;.()+&]", "", answer.lower()))) if isinstance(answer, str) else []
    if not said or not set(said) <= set(known):
        return NOT_YET, f'answer with letters from {known[0]} to {known[-1]}, such as "{known[0]}"' + (
            "" if len(exercise.reference) == 1 else f' or "{known[0]}{known[1]}"') + "."
    for letter in said:
        if letter not in exercise.reference:
            return NOT_YET, f"{letter} is not among the right ones: {exercise.pointers[letter]}"
    if set(said) != set(exercise.reference):
        return NOT_YET, "what you name is right, but it is not all."
    return DONE, exercise.insight


def _number(exercise: Exercise, answer: object) -> tuple[str, str]:
    if answer is None or answer is Ellipsis:
        return NOT_DONE, "no number is given so far."
    got = None if isinstance(answer, bool) or callable(answer) else _array(answer)
    if got is None or got.size != 1:
        return NOT_YET, f"got {_kind(answer)}, wanted one number without quotes or unit, such as 1234.5."
    value = float(got.reshape(()))
    if np.isclose(value, exercise.reference, rtol=exercise.tolerance, atol=0):
        return DONE, exercise.insight
    for known, pointer in exercise.pointers.items():
        if np.isclose(value, known, rtol=min(exercise.tolerance, POINTED), atol=0):
            return NOT_YET, f"{value:,.10g} is {pointer}"
    return NOT_YET, f"got {value:,.10g}, {_correction(value, exercise.reference)}."


def _functions(exercise: Exercise, answer: object) -> tuple[str, str] | tuple[str, str, Case]:
    references = exercise.reference if isinstance(exercise.reference, tuple) else (exercise.reference,)
    answers = answer if isinstance(answer, tuple | list) else (answer,)
    if any(one is None or one is Ellipsis for one in answers):
        return NOT_DONE, "there is no function so far."
    if len(answers) != len(references) or not all(map(callable, answers)):
        wanted, form = (("the function itself, without calling it", "function") if len(references) == 1 else
                        ("two functions in brackets, without calling them", "(function, other)"))
        return NOT_YET, f'got {_kind(answer)}, wanted {wanted}: check("{exercise.name}", {form}).'
    tried = set()
    for case in exercise.cases():
        which = "" if len(references) == 1 else f"the {('first', 'second')[case.part]} function, "
        try:
            with _bounded(SECONDS):
                got = answers[case.part](*deepcopy(case.args))
        except NotImplementedError:
            return NOT_DONE, f"{which}it raises NotImplementedError."
        except _TooLong:
            return NOT_YET, f"{which}on {case.what}, it does not come to an end within {SECONDS:g} s.", case
        except BaseException as error:  # SystemExit, too: the notebook goes on
            return NOT_YET, f"{which}on {case.what}, it raised {_said(error)}.", case
        if got is None or got is Ellipsis:
            return NOT_YET if case.part in tried else NOT_DONE, f"{which}on {case.what}, it returns nothing.", case
        tried.add(case.part)
        if differs := _difference(got, references[case.part](*(case.args if case.known is None else case.known)), exercise):
            return NOT_YET, f"{which}on {case.what}, {differs}.", case
    return DONE, exercise.insight


def _difference(got: object, wanted: object, exercise: Exercise) -> str | None:
    """In which number, text or shape a result is not the one that is wanted; None where it is."""
    if isinstance(wanted, str):
        if not isinstance(got, str):
            return f"got {_kind(got)}, wanted text"
        return None if got == wanted else f"got {got[:60]!r}, another text is right"
    if isinstance(wanted, list):
        if not isinstance(got, list | tuple) or len(got) != len(wanted):
            return f"got {_kind(got)}, wanted a list of {len(wanted)}"
        found = ((k, _difference(a, b, exercise)) for k, (a, b) in enumerate(zip(got, wanted, strict=True)))
        return next((f"in entry {k}, {text}" for k, text in found if text), None)
    have, want, kind = _array(got), _array(wanted), np.asarray(wanted).dtype.kind
    if have is None or want is None:
        return f"got {_kind(got)}, wanted " + ("one number, such as 0.5" if want is None or not want.ndim else
                                               f"{'True and False' if kind == 'b' else 'numbers'} in the shape {want.shape}")
    if have.shape != want.shape and not (have.size == want.size and (have.size == 0 or want.ndim == 0)):
        return f"got the shape {have.shape}, wanted {want.shape}"
    have, want = exercise.form(have.reshape(want.shape)), exercise.form(want)
    wrong = ~np.isclose(have, want, rtol=exercise.tolerance, atol=exercise.tolerance / 10, equal_nan=True)
    if not wrong.any():
        return None
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    where = f" at [{', '.join(map(str, place))}] ({wrong.sum()} of {wrong.size} differ)" if want.ndim else ""
    value = float(have[place])
    if kind != "b" and want.ndim and _same_rows(have, want):
        return f"got {value:.6g}{where}: these are the right values, another order is wanted"
    return f"got {bool(value) if kind == 'b' and value in (0, 1) else f'{value:.6g}'}{where}, {_correction(value, float(want[place]), kind)}"


def _correction(got: float, wanted: float, kind: str = "f") -> str:
    """What is right in place of a number; of a label (i) or a boolean (b), which are neither too large nor too small, only that it is another."""
    if kind == "b":
        return "the other is right" if got in (0, 1) else "True or False is wanted"
    if not np.isfinite(wanted):
        return f"{'no number (nan)' if np.isnan(wanted) else 'infinity'} is right"
    if np.isnan(got):
        return "a number is right"
    return f"{'another one' if kind in 'iu' else 'a smaller one' if got > wanted else 'a larger one'} is right"


def _same_rows(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two results (n, ...) differ in the order of their rows alone. Rows that repeat, as labels do, have places and not an order."""
    a, b = (values.reshape(len(values), -1) for values in (one, other))
    return len(np.unique(b, axis=0)) == len(b) and np.allclose(a[np.lexsort(a.T[::-1])], b[np.lexsort(b.T[::-1])])


def _array(value: object) -> np.ndarray | None:
    """Numbers as float64; None for anything else, such as text, mixed lengths or complex numbers."""
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu().resolve_neg()
            return None if value.is_complex() else value.double().numpy()
        if isinstance(value, list | tuple) and any(isinstance(one, Tensor | list | tuple) for one in value):
            value = [_array(one) for one in value]
        array = np.asarray(value)
        return array.astype(np.float64) if array.dtype.kind in "biuf" else None
    except Exception:  # lists of mixed lengths, objects that do not want to be an array
        return None


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value[:30]!r}"
    name = type(value).__name__
    return f"a{'n' * (name[:1] in 'aeiou')} {name}" + (f" of {len(value)}" if isinstance(value, list | tuple) else "")


def _shown(value: object) -> str:
    """An argument in few letters: its numbers, or its shape where they are many or none."""
    if isinstance(value, Tensor | np.ndarray):
        name, numbers = "tensor" if isinstance(value, Tensor) else "array", np.asarray(value)
        if not 0 < numbers.size <= NUMBERS:
            return f"{name} of shape {numbers.shape}"
        return f"{name} {(numbers.astype(np.float64).round(4) if numbers.dtype.kind == 'f' else numbers).tolist()}"
    if isinstance(value, list) and any(isinstance(one, Tensor) for one in value):
        return f"[{', '.join(map(_shown, value))}]"
    text = repr(value)
    return text if len(text) <= LONGEST else _kind(value)


def _said(error: BaseException) -> str:
    try:
        text = next(iter(str(error).strip().splitlines()), "")
    except Exception:  # an error of the answer's own that cannot be printed
        text = ""
    return type(error).__name__ + (f": {text[:LONGEST]}" if text else "")


class _TooLong(BaseException):
    """Not an Exception, so that an answer's `except Exception` lets it pass."""


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Stop what runs for longer, where the platform has an alarm."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
