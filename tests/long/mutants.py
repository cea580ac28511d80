"""Mutants of the course's core: one small slip each, tried by the unit tests of their module in a forked process. Run by test_mutants.py."""
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
TESTS = {  # module -> its own tests
    "boxes": ("test_boxes_anchors.py",), "anchors": ("test_boxes_anchors.py",), "matching": ("test_matching.py",),
    "models/losses": ("test_losses.py",)}
COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMBINED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
            ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And}
CALLED = {"max": "min", "min": "max", "minimum": "maximum", "argmax": "argmin", "log": "exp", "exp": "log", "sqrt": "abs", "zeros": "ones",
          "ones": "zeros", "zeros_like": "ones_like", "prod": "sum", "sum": "mean"}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Every slip that the tables above make in a module: what it is, with its line, and the source with it."""
    tree = ast.parse(source)
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.arg | ast.AnnAssign) or id(node) in texts:
            continue
        for what, change in _changes(node):
            copied = copy.deepcopy(tree)
            change(next(other for k, other in enumerate(ast.walk(copied)) if k == number))
            yield f"line {node.lineno}: {what}", ast.unparse(copied)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        to = COMPARED[type(node.ops[0])]
        yield f"{ast.unparse(node)} -> {to.__name__}", lambda n: n.ops.__setitem__(0, to())
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in COMBINED and not _annotation(node):
        to = COMBINED[type(node.op)]
        yield f"{ast.unparse(node)} -> {to.__name__}", lambda n: setattr(n, "op", to())
    if isinstance(node, ast.UnaryOp):
        yield f"{ast.unparse(node)} -> without it", lambda n: (setattr(n, "op", ast.UAdd()) if not isinstance(n.op, ast.Invert | ast.Not)
                                                              else setattr(n, "op", ast.Not() if isinstance(n.op, ast.Invert) else ast.UAdd()))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = not node.value if isinstance(node.value, bool) else node.value + 1
        yield f"{node.value} -> {value}", lambda n: setattr(n, "value", value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLED:
        to_name = CALLED[node.func.attr]
        yield f"{node.func.attr} -> {to_name}", lambda n: setattr(n.func, "attr", to_name)
    if isinstance(node, ast.Call) and any(key.arg in ("min", "max") for key in node.keywords) and isinstance(node.func, ast.Attribute):
        yield f"{ast.unparse(node.func)[-30:]}(...) -> without its bounds", lambda n: (
            setattr(n, "keywords", [key for key in n.keywords if key.arg not in ("min", "max")] + [ast.keyword("min", ast.Constant(-1e9))]))


def _annotation(node: ast.BinOp | ast.BoolOp) -> bool:
    """A | None is a type."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and any(
        (isinstance(side, ast.Constant) and side.value is None) or (isinstance(side, ast.Name) and side.id in ("Tensor", "int", "str", "float"))
        for side in (node.left, node.right))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a source of our own."""

    def __init__(self, name: str, path: Path, source: str):
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module: object) -> None:
        exec(compile(self.source, str(self.path), "exec"), module.__dict__)


def killed(module: str, source: str, seconds: int = 60) -> bool:
    """Whether a module's tests fail, or do not end, with this source; in a forked process."""
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            import pytest

            sys.meta_path.insert(0, _Finder(f"detlib.{module.replace('/', '.')}", HERE / "detlib" / f"{module}.py", source))
            os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", "not real", *(str(HERE / "tests" / name) for name in TESTS[module])]))
        except BaseException:
            os._exit(9)
    return os.waitpid(child, 0)[1] != 0


def main(number: int, seed: int) -> None:
    """Print one JSON line a mutant of a seeded sample, and before it, for each module, that its tests pass as it is."""
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)
    every = []
    for module in TESTS:
        source = (HERE / "detlib" / f"{module}.py").read_text()
        print(json.dumps({"module": module, "what": "as it is", "killed": killed(module, ast.unparse(ast.parse(source)))}), flush=True)
        every += [(module, what, mutant) for what, mutant in mutants(source)]
    for module, what, mutant in sorted(random.Random(seed).sample(every, min(number, len(every)))):
        print(json.dumps({"module": module, "what": what, "killed": killed(module, mutant)}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
