"""The ladder's rows and the shape of the house."""
import ast
import re
import tomllib
from dataclasses import fields
from itertools import chain, pairwise
from pathlib import Path

import pytest

from detlib.experiments import LADDER, PROFILES, Experiment, ladder, markdown, parse, profile_name, rung, seed_count

PACKAGE = Path(__file__).resolve().parents[1] / "detlib"
# a module imports only from modules to its left
ORDER = [
    "files", "options", "distributed", "boxes", "experiments", "anchors", "matching", "data", "coverage", "fitting",
    "models", "reference", "runs", "machine", "evaluate", "predict", "train", "rerun", "tracks", "audit", "shift", "cost", "benchmark",
    "plots", "decode_numpy", "onnx_export", "video", "apply", "asked", "catalogue", "widgets", "offline", "apidoc",
    "ahead", "report", "course", "bench", "verbs", "cli",
]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_row_changes_one_field_of_the_row_above(profile):
    rows = list(ladder(profile).values())
    for above, row in pairwise(rows):
        assert sum(getattr(above, f.name) != getattr(row, f.name) for f in fields(Experiment)) == 1
    assert [name for name, _ in LADDER] == [row.rung for row in rows]


def test_names_carry_the_changed_fields():
    assert rung("fpn", "smoke", weights="imagenet").rung == "fpn+weights=imagenet"
    assert rung("adam", "laptop", seed=4).rung == "adam"
    assert rung("focal", "laptop", lr=1.5e-3).command == "detlib train focal --set lr=0.0015"
    assert rung("adam", "laptop", lr=5e-4) == rung("adam", "laptop") and rung("baseline", "laptop", lr=5e-4).rung == "baseline+lr=0.0005"


def test_unknown_names_are_refused_with_the_known():
    with pytest.raises(ValueError, match="known are 'sgd', 'adamw'"):
        Experiment(optimizer="adam")
    with pytest.raises(ValueError, match="the ladder has baseline, adam, flip"):
        rung("fnp")
    with pytest.raises(ValueError, match="an experiment has no momentum"):
        rung("fpn", momentum=0.9)
    with pytest.raises(ValueError, match="there are smoke, laptop, report"):
        profile_name("large")


def test_an_experiment_prints_what_it_changes():
    """In the notebooks, in the README and in a terminal it is one table: what differs from the row above in bold, all else not."""
    last = str(rung("adam", "smoke")).splitlines()[-1]
    assert last == "| adam | **adamw** | none | small | none | hard_negatives | 0 | None | baseline | train | none |"
    variant = rung("fpn", "smoke", weights="imagenet")
    assert re.findall(r"\*\*(.+?)\*\*", str(variant)) == ["imagenet"] and variant.command == "detlib train fpn --set weights=imagenet --profile smoke"
    assert rung("adam", "laptop").command == "detlib train adam"
    assert rung("fpn", "smoke")._repr_html_().count("font-weight: bold") == 1
    assert markdown() in (PACKAGE.parent / "README.md").read_text(), "the README's table is what `detlib table experiments` prints"


def test_experiments_are_read_from_text():
    assert parse("fpn+backbone=mobilenet+weights=imagenet", "smoke", 2) == rung("fpn", "smoke", 2, backbone="mobilenet", weights="imagenet")
    assert parse("bias_init+prior=0.1+head_depth=2").prior == 0.1 and parse("bias_init+prior=None").prior is None
    assert {f.type for f in fields(Experiment)} <= {str, int, float, int | None, float | None}, "what `parse` can read"
    for text, error in (("fpn+weights", "FIELD=VALUE"), ("fpn+prior=x", "is a number"), ("fpn+momentum=1", "has no momentum"),
                        ("fpn+lr=0", "above 0 and not above 1000"), ("fpn+lr=1e9", "above 0 and not"), ("fnp", "no rung 'fnp'"),
                        ("fpn+seed=3", "name it with --seed"), ("fpn+head_depth=-1", "below 0"), ("fpn+prior=2", "between 0 and 1")):
        with pytest.raises(ValueError, match=error):
            parse(text)


def test_seeds_by_argument_and_environment(monkeypatch):
    assert seed_count() == 1 and seed_count("3") == 3
    monkeypatch.setenv("DETLIB_SEEDS", "2")
    assert seed_count() == 2 and seed_count(4) == 4
    for wrong in ("-1", 0, "two"):
        with pytest.raises(ValueError, match=f"{wrong!r} seeds"):
            seed_count(wrong)


def test_profile_from_the_environment(monkeypatch):
    assert profile_name() == "laptop"
    monkeypatch.setenv("DETLIB_PROFILE", "smoke")
    assert profile_name() == "smoke" and rung("fpn").profile == "smoke" and profile_name("report") == "report"


def imports(path):
    """First-level modules of the package that a file imports."""
    here = path.relative_to(PACKAGE.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level]) if node.level else []
            full = base + (node.module.split(".") if node.module else [])
            if full[:1] == ["detlib"]:
                yield from [full[1]] if len(full) > 1 else [alias.name for alias in node.names]


def test_modules_import_only_what_stands_before_them():
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for other in imports(path):
            if other not in ("__version__", module):
                assert ORDER.index(other) < ORDER.index(module), f"{path} imports {other}"


def test_the_map_names_every_module():
    """CONTRIBUTING's map, ORDER and the package hold the same modules."""
    table = (PACKAGE.parent / "CONTRIBUTING.md").read_text().split("## The map")[1].split("\n## ")[0]
    named = re.findall(r"`(\w+)/?`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    there = {path.stem for path in PACKAGE.iterdir() if path.name[0] not in "_." and (path.is_dir() or path.suffix == ".py")}
    assert sorted(named) == sorted(ORDER) == sorted(there)


def test_conda_environment_is_the_same_list():
    """environment.yml names what pyproject.toml names, under conda-forge's names."""
    conda_names = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base", "playwright": "playwright-python"}
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    wanted = [re.match(r"([\w-]+)(.*)", line).groups() for line in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]]
    expected = {conda_names.get(name, name) + version for name, version in wanted} | {"python" + project["requires-python"], "pip"}
    listed = re.findall(r"^ +- ([^\s:]+)$", (PACKAGE.parent / "environment.yml").read_text(), re.M)
    assert set(listed) == expected and len(listed) == len(expected)


def test_constraints_pin_every_dependency():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in (PACKAGE.parent / "constraints.txt").read_text().split()}
    for line in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        assert re.match(r"[\w-]+", line)[0].lower() in pinned, line
