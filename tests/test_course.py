"""Exercises: each stub is not done, each solution is right, typical wrong answers are refused, and whatever is answered, nothing is raised."""
import ast
import json
import re
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from course_wrong import WRONG

from detlib.cli import main
from detlib.course import EXERCISES, check, exercise, hint
from detlib.course.exercise import Case, Exercise, verdict
from detlib.evaluate.compare import LINE
from detlib.models.heads import Head
from detlib.models.proofs import report_init_
from detlib.offline import export

HERE = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.ipynb"))
CELLS = {path.stem: json.loads(path.read_text())["cells"] for path in NOTEBOOKS}


def source(cell):
    return "".join(cell["source"])


def named(kind):
    """Cells of all notebooks whose id begins with `kind`, by the exercise's name."""
    return {cell["id"].removeprefix(kind): (stem, cell) for stem, cells in CELLS.items() for cell in cells if cell["id"].startswith(kind)}


STUBS, SOLUTIONS, TEXTS = named("stub-"), named("solution-"), named("exercise-")


def imported(stem):
    """The names that a notebook imports."""
    scope = {}
    exec(source(next(c for c in CELLS[stem] if c["id"] == "imports")), scope)
    return scope


def test_every_notebook_has_its_exercises():
    assert set(STUBS) == set(SOLUTIONS) == set(TEXTS) == set(EXERCISES) == set(WRONG)
    for cells in CELLS.values():
        ids = [cell["id"] for cell in cells]
        names = [name.removeprefix("stub-") for name in ids if name.startswith("stub-")]
        assert 3 <= len(names) <= 5
        start = ids.index("exercises")
        assert ids[start + 1:-1] == [f"{kind}-{name}" for name in names for kind in ("exercise", "stub", "solution")], "just before the recap"
        assert source(cells[start]).startswith("## Exercises\n")
        lengths = [sum(bool(line.strip()) for line in source(c).splitlines()) for c in cells if c["cell_type"] == "code"]
        assert statistics.median(lengths) <= 5 and max(lengths) <= 15


@pytest.mark.parametrize("name", EXERCISES)
def test_cells(name):
    """Form of the three cells; an answer or a solution hides no name that another cell of its notebook uses."""
    (stem, stub), (_, solution) = STUBS[name], SOLUTIONS[name]
    assert source(TEXTS[name][1]).startswith("### Exercise: ")
    assert solution["metadata"]["tags"] == ["solution"] and solution["metadata"]["jupyter"]["source_hidden"]
    assert source(solution).startswith("# Solution\n"), "JupyterLab shows the first line of a folded cell"
    last = ast.parse(source(stub)).body[-1].value
    assert last.func.id == "check" and last.args[0].value == name
    made = {node.name for cell in (stub, solution) for node in ast.parse(source(cell)).body if isinstance(node, ast.FunctionDef)}
    others = {node.id for cell in CELLS[stem] if cell["cell_type"] == "code" and cell["id"].split("-", 1)[-1] != name
              for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Name)}
    imported = {alias.asname or alias.name for cell in CELLS[stem] if cell["id"] == "imports" for node in ast.walk(ast.parse(source(cell)))
                if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    assert not made & (others | imported)


def printed(capsys):
    """What was printed, its wrapped lines joined."""
    out = capsys.readouterr().out
    assert all(len(line) <= LINE for line in out.splitlines() if " " in line.strip()), "JupyterLab would break a word"
    return out.replace("\n  ", " ")


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_solution_hints(name, capsys):
    exec(source(STUBS[name][1]), imported(STUBS[name][0]))
    said = printed(capsys)
    assert said.startswith("Not done yet: ") and f'hint("{name}")' in said and len(said.splitlines()) <= 2
    exec(source(SOLUTIONS[name][1]), imported(SOLUTIONS[name][0]))
    assert capsys.readouterr().out == "Well done: this is right.\n", "a solution that runs with its notebook tells nothing to who has not tried"
    exec(source(SOLUTIONS[name][1]).replace(", insight=False", ""), imported(SOLUTIONS[name][0]))
    assert printed(capsys) == f"Well done: {EXERCISES[name].insight}\n"
    hints = EXERCISES[name].hints
    for k in (*range(len(hints)), len(hints) - 1):
        assert hint(name) is None
        assert printed(capsys) == f"Hint {k + 1} of {len(hints)}: {hints[k]}\n"
    assert 2 <= len(hints) <= 3


def kinds(values):
    """The kinds of arrays among arguments, those in lists and tuples too."""
    names = {torch.Tensor: "tensor", np.ndarray: "numpy array"}
    return {kind for value in values for kind in (kinds(value) if isinstance(value, list | tuple) else {names.get(type(value))}) if kind}


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_says_what_it_gets(name):
    """A tensor and an array have other methods, so a reader must know which it is; and its lines fit the page."""
    text = source(STUBS[name][1])
    assert {kind for kind in ("tensor", "numpy array") if kind in text} == kinds([case.args for case in EXERCISES[name].cases()])
    assert max(map(len, text.splitlines())) <= 150


@pytest.mark.parametrize("name, said", [
    ("two-changes", "change more than one thing"), ("match", "an earlier claim too"), ("bias-prior", "$p = 0.99$ of background"),
    ("focal", "alpha = (background, others)"), ("focal", "`gamma` may be 0"), ("speeds", "`np.quantile`'s default"),
    ("paired-interval", "Student's $t$")])
def test_what_a_check_decides_is_asked_for(name, said):
    """Each refuses an answer that is right by another reading; so the reading stands in the task or the stub."""
    assert said in source(TEXTS[name][1]) + source(STUBS[name][1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of answers that divide by nothing
@pytest.mark.parametrize("name", EXERCISES)
def test_typical_wrong_answers(name):
    assert len(WRONG[name]) >= 5
    for k, answer in enumerate(WRONG[name]):
        said = verdict(EXERCISES[name], answer, name)
        assert said.startswith("Not yet: ") and said.endswith(f'\nhint("{name}") helps, one step at a time.'), f"{name}, wrong answer {k}: {said}"
        assert [line[:11] for line in said.splitlines()[1:-1]] == ["Its input: "] * (not isinstance(EXERCISES[name].reference, str | float)), said
    one = EXERCISES[name]
    if isinstance(one.reference, str):
        assert set(one.pointers).isdisjoint(one.reference) and len(one.pointers) + len(one.reference) >= 6
    letters = {"".join(sorted(answer)) for answer in WRONG[name] if isinstance(answer, str)}
    assert "".join(sorted(one.reference)) not in letters if isinstance(one.reference, str) else not letters


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError("no")

    def __array__(self, *_):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


def leaves(*_):
    raise SystemExit(3)


def stops(*_):
    raise KeyboardInterrupt


def recurses(*args):
    return recurses(*args)


def changes_its_input(*args):
    for value in args:
        if isinstance(value, torch.Tensor | np.ndarray):
            value[...] = 7
        if isinstance(value, list):
            value.clear()
    return args[0]


STRANGE = [Hostile(), int, len, 0, -1.5, float("nan"), float("inf"), True, "", "x" * 999, "é", b"b", [], {}, (), ("b", 1), [None], object(), 3j,
           torch.zeros(3), torch.full((2, 2), torch.inf), np.array(["a"]), lambda *_: Hostile(), lambda *_: "text", lambda *_: [[1], [2, 3]],
           lambda *_: {"a": 1}, lambda *_: float("inf"), lambda *_: torch.full((4, 4), torch.nan), lambda *_: (k for k in iter(int, 1)), lambda: 1,
           lambda *_: 1j, lambda *_: torch.zeros(0), lambda *_: print("printed"), leaves, stops, recurses, changes_its_input, lambda *_: [None],
           lambda *_: "7"]


@pytest.mark.parametrize("name", EXERCISES)
def test_nothing_is_raised(name, capsys):
    for answer in [*STRANGE, *[(one, one) for one in STRANGE]]:
        assert check(name, answer) is None
        said = printed(capsys).replace("printed\n", "")
        assert said.startswith(("Not yet: ", "Not done yet: ")) and len(said.splitlines()) <= 3, said


def test_not_done_by_a_hole_a_promise_or_half():
    def later(*_):
        raise NotImplementedError

    for answer in (None, ..., lambda a, b: ..., lambda a, b: None, later):
        assert verdict(EXERCISES["iou"], answer).startswith("Not done yet")
    encode, decode = EXERCISES["encode-decode"].reference
    assert verdict(EXERCISES["encode-decode"], (encode, later)) == "Not done yet: the second function, it raises NotImplementedError."
    assert verdict(EXERCISES["encode-decode"], (encode, decode)).startswith("Well done")
    assert verdict(EXERCISES["two-changes"], None).startswith("Not done yet") and verdict(EXERCISES["flip-cost"], ...).startswith("Not done yet")


def test_the_input_is_shown():
    """As numbers where they are few, so that it can be typed in."""
    said = {name: verdict(EXERCISES[name], WRONG[name][k], name).splitlines()[1] for name, k in (("iou", 0), ("hard-negatives", 0), ("fpn-merge", 0))}
    assert said["iou"] == "Its input: tensor [[10.0, 10.0, 30.0, 20.0]], tensor [[20.0, 10.0, 40.0, 20.0]]"
    assert said["hard-negatives"].endswith("0.2], tensor [False, False, True, False, False, False, False, False]")
    assert said["fpn-merge"].startswith("Its input: [tensor of shape (1, 4, 8), tensor [[[0.0, 0.0, 0.0, 0.0],"), "lists of tensors, too"
    assert verdict(EXERCISES["two-changes"], WRONG["two-changes"][0], "two-changes").count("\n") == 1, "letters have none"


def test_what_differs_is_said():
    said = {k: verdict(EXERCISES["iou"], WRONG["iou"][k]) for k in (0, 1, 7)}
    assert said[0] == "Not yet: on a box that covers the right half, got 0.354839 at [0, 0] (1 of 1 differ), a smaller one is right."
    assert "on boxes apart on both axes, got 1 at" in said[1] and said[7].endswith("got the shape (1,), wanted (1, 1).")
    assert verdict(EXERCISES["iou"], lambda a: a).startswith("Not yet: on two boxes that are the same, it raised TypeError: ")
    assert "without calling it" in verdict(EXERCISES["iou"], torch.ones(1, 1)) and "two functions" in verdict(EXERCISES["focal"], print)
    assert verdict(EXERCISES["oldest-picture"], 4.09).startswith("Not yet: 4.09 is batch time over batch size")
    assert verdict(EXERCISES["flip-cost"], 9) == "Not yet: got 9, a smaller one is right."
    assert verdict(EXERCISES["two-changes"], "bf") == "Not yet: what you name is right, but it is not all."
    assert verdict(EXERCISES["two-changes"], "B, F and G").startswith("Not yet: ") and verdict(EXERCISES["two-changes"], "G, b f").startswith("Well")
    assert verdict(EXERCISES["two-changes"], ["b", "f", "g"]).startswith("Well done") and "c is not among" in verdict(EXERCISES["two-changes"], "bc")
    assert verdict(EXERCISES["fpn-merge"], lambda m: m[0]).endswith("got a Tensor, wanted a list of 1.")
    assert verdict(EXERCISES["fpn-merge"], lambda m: m).startswith("Not yet: on two levels, a lit cell on the coarse one, in entry 0, got 0 at")


def test_only_numbers_are_too_large_or_too_small():
    """Labels and indices are another one, booleans the other, and right rows in the wrong order are said to be just that."""
    said_of = {"match": ("i", "another"), "nms": ("i", "another"), "old-filters": ("i", "another"), "hard-negatives": ("b", "the other is right"),
               "whole-clips": ("b", "the other is right")}
    for name, one in EXERCISES.items():
        references = one.reference if isinstance(one.reference, tuple) else (one.reference,)
        results = [references[case.part](*(case.known or case.args)) for case in one.cases()]
        flat = [value for result in results for value in (result if isinstance(result, list) else [result])]
        kind, words = said_of.get(name, ("fU", ""))
        assert all(np.asarray(value).dtype.kind in kind for value in flat), name
        said = " ".join(verdict(one, answer) for answer in WRONG[name] if words)
        assert words in said and not (words and re.search("larger|smaller", said)), name
    no_claim = verdict(EXERCISES["match"], WRONG["match"][0])
    assert no_claim == "Not yet: on an object thinner than every anchor, got -1 at [2] (1 of 3 differ), another one is right."
    assert "got True at [2] (2 of 8 differ), the other is right." in verdict(EXERCISES["hard-negatives"], WRONG["hard-negatives"][0])
    assert verdict(EXERCISES["hard-negatives"], lambda losses, positive: losses).endswith("got 0.7 at [0] (8 of 8 differ), True or False is wanted.")
    for name, k in (("anchor-grid", 1), ("anchor-grid", 2), ("nms", 3), ("ssd-shapes", 6)):
        assert verdict(EXERCISES[name], WRONG[name][k]).endswith("these are the right values, another order is wanted."), (name, k)


def test_text_is_answered_with_what_is_wanted():
    assert verdict(EXERCISES["extended-frames"], "17,500") == \
        "Not yet: got the text '17,500', wanted one number without quotes or unit, such as 1234.5."
    assert verdict(EXERCISES["iou"], "pair_iou") == \
        "Not yet: got the text 'pair_iou', wanted the function itself, without calling it: check(\"iou\", function)."
    assert verdict(EXERCISES["focal"], "focal").endswith('without calling them: check("focal", (function, other)).')
    assert verdict(EXERCISES["bias-prior"], lambda *_: "6.7").endswith("got the text '6.7', wanted one number, such as 0.5.")
    assert verdict(EXERCISES["mirror"], lambda *_: "7").endswith("got the text '7', wanted numbers in the shape (1, 4).")
    assert verdict(EXERCISES["whole-clips"], lambda *_: "b").endswith("got the text 'b', wanted True and False in the shape (12,).")


def test_the_bias_alone_has_no_effect_but_the_report_changed_more():
    """Pointer d of `no-effect` speaks of the softmax and not of the first loss: the report's initialisation draws other weights, too."""
    def softmax_of(change):
        torch.manual_seed(0)
        head = Head((8, 8), (6, 6), 3, 1, None)
        change(head)
        maps = [torch.rand(2, 8, 4, 8, generator=torch.Generator().manual_seed(k)) for k in (1, 2)]
        with torch.no_grad():
            return head(maps)[0].softmax(-1)

    before = softmax_of(lambda head: None)
    assert torch.allclose(softmax_of(lambda head: torch.nn.init.constant_(head.classify[-1][-1].bias, 5.7)), before, atol=1e-6)
    assert not torch.allclose(softmax_of(lambda head: report_init_(head, 0.01)), before, atol=0.01)
    said = verdict(EXERCISES["no-effect"], "d")
    assert "this bias alone leaves the softmax" in said and "loss" not in said


def test_what_fits_eleven_passes_is_right():
    for frames in (6000 * 32 / 11, 17_500, 16_500, 6000 * 32 / 12):
        assert verdict(EXERCISES["extended-frames"], frames).startswith("Well done: ten to eleven times the 1,604 frames")
    assert [round(6000 * 32 / passes / 1604) for passes in (12, 11)] == [10, 11]
    assert verdict(EXERCISES["extended-frames"], 18_300) == "Not yet: got 18,300, a smaller one is right.", "near no number that is spoken of"
    assert verdict(EXERCISES["extended-frames"], 17_600) == "Not yet: 17,600 is 11 passes over the *old* split.", "1,604 x 11, rounded alike"


def test_plain_python_counts_as_well_as_tensors():
    for answer in (lambda a, b: EXERCISES["iou"].reference(a, b).tolist(), lambda a, b: EXERCISES["iou"].reference(a, b).double().numpy(),
                   lambda a, b: list(EXERCISES["iou"].reference(a, b).requires_grad_())):
        assert verdict(EXERCISES["iou"], answer).startswith("Well done")
    for number in (lambda prior, k: torch.tensor([(1 - prior) * k / prior]).log(), lambda prior, k: [np.log((1 - prior) * k / prior)]):
        assert verdict(EXERCISES["bias-prior"], number).startswith("Well done")


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setattr(exercise, "SECONDS", 0.2)

    def endless(*_):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                pass

    assert verdict(EXERCISES["iou"], endless).endswith("it does not come to an end within 0.2 s.")
    assert verdict(EXERCISES["iou"], EXERCISES["iou"].reference).startswith("Well done"), "the alarm is off again"
    found = []
    thread = threading.Thread(target=lambda: found.append(verdict(EXERCISES["iou"], EXERCISES["iou"].reference)))
    thread.start()
    thread.join()
    assert found[0].startswith("Well done"), "without an alarm, away from the main thread"


def test_values_that_are_not_finite():
    one = Exercise("x", lambda value: np.array([value, np.nan, np.inf]), ("",), "so", lambda: [Case("one", (1.0,))])
    assert verdict(one, lambda value: [value, np.nan, np.inf]).startswith("Well done")
    for answer, right in (([1, 2, np.inf], "no number (nan)"), ([1, np.nan, 5], "infinity"), ([np.nan, np.nan, np.inf], "a number")):
        assert verdict(one, lambda value, answer=answer: answer).endswith(f"{right} is right.")


def test_an_unknown_name_is_said(capsys):
    assert check("iuo", len) is None and hint("xyzzy") is None
    assert capsys.readouterr().out == "No exercise is called 'iuo'; did you mean 'iou'?\nNo exercise is called 'xyzzy'.\n"


def test_nothing_but_notebooks_needs_the_course():
    for path in (HERE / "detlib").rglob("*.py"):
        if "course" not in path.relative_to(HERE / "detlib").parts:
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {name for node in nodes for name in [*(getattr(node, "module", None) or "").split("."), *(alias.name for alias in node.names)]}
            assert "course" not in names, path


def test_student_copies_have_no_solutions(home, capsys):
    home.mkdir()
    (home / "notebooks").symlink_to(HERE / "notebooks")
    assert main(["student"]) == 0
    out = home / "outputs" / "student"
    assert capsys.readouterr().out == f"{out}\n" and sorted(path.name for path in out.iterdir()) == [path.name for path in NOTEBOOKS]
    for stem, cells in CELLS.items():
        copied = json.loads((out / f"{stem}.ipynb").read_text())["cells"]
        assert [cell["id"] for cell in copied] == [cell["id"] for cell in cells if not cell["id"].startswith("solution-")]
        assert "_solution" not in (out / f"{stem}.ipynb").read_text()
        for cell in copied:  # links between notebooks lead to copies, all else stands here
            assert "](../" not in source(cell)
    (out / "02_baseline.ipynb").write_text("answers")
    assert main(["student"]) == 0 and (out / "02_baseline.ipynb").read_text() == "answers", "a copy with answers is never lost"
    assert "kept as it is" in capsys.readouterr().err


def test_reports_fold_solutions(tmp_path):
    page = export(HERE / "notebooks" / "02_baseline.ipynb", tmp_path / "02.html").read_text()
    folded = page.split("<details><summary>Solution</summary>")
    assert len(folded) == 6 and "pair_iou_solution" not in folded[0] and "pair_iou_solution" in folded[1].split("</details>")[0]
