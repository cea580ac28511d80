"""The notebooks: stored clean, with the cells that every one has, and each runs in the smoke profile."""
import json
import re
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest

from detlib import cost, runs
from detlib.catalogue import FIGURES, TABLES
from detlib.cli import main
from detlib.data.folder import open_dataset
from detlib.evaluate.ladder import at_lengths, at_rates
from detlib.experiments import NULL, PROFILES, ladder, rung, table

HERE = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.ipynb"))
LONGEST = 15  # lines of a code cell


def read(path):
    return json.loads(path.read_text())


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_clean(path):
    notebook = read(path)
    assert "widgets" not in notebook["metadata"] and notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(set(c) <= {"cell_type", "id", "metadata", "source", "outputs", "execution_count"} for c in notebook["cells"])
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell["id"]), f"cell id {cell['id']!r} is not readable"
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, cell["id"]
            lines = [line for line in source(cell).splitlines() if line.strip() and not line.lstrip().startswith("#")]
            assert len(lines) <= LONGEST, cell["id"]
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_has_the_parts_of_every_notebook(path):
    cells = read(path)["cells"]
    assert source(cells[0]).startswith(f"# {path.stem[:2]} · ") and "**You will**" in source(cells[0]) + source(cells[1])
    assert sum("import " in source(c) for c in cells if c["cell_type"] == "code") == 1, "one import cell"
    (parameters,) = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    assert re.findall(r"^(\w+) = None", source(parameters), re.M) in (["DATA", "PROFILE"], ["DATA", "PROFILE", "SEEDS"])
    assert "**Next:**" in source(cells[-1])
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code" and "plots." in source(cell):
            assert any(c["cell_type"] == "markdown" for c in cells[max(0, place - 2):place]), f"{cell['id']}: a sentence stands before a figure"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_opens_and_ends_like_the_others(path):
    cells = read(path)["cells"]
    opening = "\n\n".join(source(c) for c in cells[:[c["cell_type"] for c in cells].index("code")])
    places = [opening.find(mark) for mark in ("# ", "\n\n**You will**\n- ", "\n\n**Needs:** ", "\n\n**Time:** about ")]
    assert places[0] == 0 and places == sorted(set(places)) and 3 <= opening.count("\n- ") <= 5
    after = NOTEBOOKS[(NOTEBOOKS.index(path) + 1) % len(NOTEBOOKS)].name
    assert re.fullmatch(rf"## Recap\n\n(- .+\n){{3,6}}\n(\*\*To go on\.\*\* .+\n\n)?\*\*Next:\*\* .*\]\({after}\).*", source(cells[-1]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_what_to_see_stands_below_every_figure(path):
    cells = read(path)["cells"]
    for cell, below in pairwise(cells):
        if cell["cell_type"] == "code" and re.search(r"^plots\.|display\(|^(\w+_browser|video\.Video)\(|^studio$", source(cell), re.M):
            assert below["cell_type"] == "markdown" and not source(below).startswith("#"), f"{cell['id']}: words about it come next, not a heading"


def test_every_paper_and_setting_is_named_in_the_first_notebook():
    """What is cited stands in the list of papers, which holds nothing else; the ladder's settings have a word each."""
    cells = {cell["id"]: source(cell) for cell in read(NOTEBOOKS[0])["cells"]}
    others = [source(cell) for path in NOTEBOOKS for cell in read(path)["cells"] if cell["cell_type"] == "markdown" and cell["id"] != "papers"]
    cited = {name for text in others for name in re.findall(r"[A-Z][\w-]+(?:(?:, [A-Z]\w+)? and [A-Z]\w+| et al\.)? (?:19|20)\d\d[ab]?\b",
                                                          text.replace(" (", " "))}
    assert len(cited) > 20 and cited == set(re.findall(r"^\| (\S.*? \d{4}[ab]?) \|", cells["papers"], re.M))
    assert set(table().data.columns) == set(re.findall(r"^\| (\w+) \|(?=.*\d\d)", cells["machine-text"], re.M))


def test_every_row_has_a_notebook_that_trains_it():
    """And those that load all rows name them, so that notebook 00 knows how long they take."""
    trains = {path.stem: read(path)["metadata"].get("detlib", {}).get("trains", []) for path in NOTEBOOKS}
    rows = [name for name, row in ladder().items() if row.split == "train"]
    loading = [path.stem for path in NOTEBOOKS if any("in ladder(PROFILE).items()" in source(cell) for cell in read(path)["cells"])]
    assert loading and all(trains[stem] == rows for stem in loading)
    assert set(ladder()) <= {name for stem, names in trains.items() if stem not in loading for name in names}
    for path in NOTEBOOKS[:-1]:  # the last one trains on data of its own
        fitted = {name for cell in read(path)["cells"] if cell["cell_type"] == "code" and "fit(rung(" in source(cell)
                  for name in re.findall(r'"(\w+)"', source(cell))}
        named = {name.partition("+")[0] for name in trains[path.stem]}
        assert fitted & set(ladder()) <= named, f"{path.stem} fits {fitted & set(ladder()) - named}: to its metadata's detlib.trains"


def test_a_row_that_is_trained_by_hand_renews_the_page_that_shows_it(small):
    data, shown = open_dataset(small), {path.stem[:2]: read(path)["metadata"].get("detlib", {}).get("shows_runs") for path in NOTEBOOKS}
    for profile in PROFILES:
        longer = at_lengths(data, profile, 1)
        for number, rows in (("04", [*at_rates(data, profile, 1), *longer]), ("05", longer[-3:])):
            for row in rows:
                assert row.name in ladder() or any(fnmatch(row.name, pattern) for pattern in shown[number]), row.name


def test_each_notebook_is_found():
    """In README's table, and as the next of the one before."""
    listed = re.findall(r"^\| `(\d\d_\w+)` \|", (HERE / "README.md").read_text(), re.M)
    assert listed == [path.stem for path in NOTEBOOKS]
    for path, after in pairwise(NOTEBOOKS):
        assert after.stem in source(read(path)["cells"][-1]).split("**Next:**")[1], path.stem


def test_every_notebook_runs_in_the_smoke_profile(executed):
    home, code, said = executed
    assert code == 0, "\n".join(said)
    pages = {p.name for p in (home / "outputs" / "reports").glob("*.html")}
    assert pages == {"index.html", *(f"{p.stem}+smoke.html" for p in NOTEBOOKS)}


def test_their_figures_and_tables_are_in_the_reports(executed):
    home, _, _ = executed
    text = (home / "outputs" / "reports" / "02_baseline+smoke.html").read_text()
    assert text.count('src="data:image/png') >= 7 and "2,590,880" in text and "2,852,640" in text and "<math" in text
    assert "Traceback" not in text and str(home) not in text


def test_trained_runs_are_found_again(executed, monkeypatch):
    home, _, _ = executed
    monkeypatch.setenv("DETLIB_HOME", str(home))
    data = runs.open_data("simulated", "smoke")
    assert runs.find_run(rung("baseline", "smoke"), data) and runs.find_run(rung("adam", "smoke"), data)
    assert runs.find_run(rung("adam", "smoke", seed=1), data) and runs.find_run(rung("adam", "smoke", seed=2), data) is None
    assert runs.find_run(rung(NULL, "smoke", seed=3), data), "the row that is compared with itself"


def test_the_ladder_speaks_of_seeds(executed):
    home, _, _ = executed
    text = (home / "outputs" / "reports" / "04_retinanet+smoke.html").read_text()
    assert "2 pairs of seeds" in " ".join(text.split()) and "bias_init against itself" in text and "split: train_extended" in text
    assert "not run yet: detlib train extended" not in text, "notebook 06 trains it, and 04 is brought up to date"
    assert "not run yet: detlib train fpn --set backbone=mobilenet weights=imagenet --profile smoke" in text and "left over" in text


MEASURED = {"batches", "latencies", "map_against_latency", "runtime", "speed_up", "verdict"}  # time every row: two are enough here, in small batches


def asked(name):
    """The words of a figure or table by name."""
    return [name, "--profile", "smoke", "--seeds", "2", *(["--rungs", "adam", "fpn"] if name in MEASURED else [])]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_by_name(executed, name, monkeypatch, capsys):
    monkeypatch.setenv("DETLIB_HOME", str(executed[0]))
    monkeypatch.setattr(cost, "LONGEST", 0.02)
    assert main(["figure", *asked(name), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["figure"])
    assert path.name == f"{name}.png" and path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_by_name(executed, name, monkeypatch, capsys):
    monkeypatch.setenv("DETLIB_HOME", str(executed[0]))
    monkeypatch.setattr(cost, "LONGEST", 0.02)
    assert main(["table", *asked(name)]) == 0
    head, rule, *rows = capsys.readouterr().out.strip().splitlines()
    assert rows and set(rule) == set("| -") and {line.count(" | ") for line in rows} == {head.count(" | ")}


def test_what_is_not_there_is_said(executed, monkeypatch, capsys):
    monkeypatch.setenv("DETLIB_HOME", str(executed[0]))
    for words, error in ((["figure", "histogram"], "without a name the list is printed"), (["figure", "laddr"], "did you mean ladder"),
                         (["table", "classes", "--rungs", "extended+steps=5"], "detlib train extended --set steps=5 --profile smoke"),
                         (["figure", "paired", "--rungs", "adam"], "two rungs"), (["figure", "frame", "--frame", "9999"], "has frames 0 to"),
                         (["figure", "frame", "--split", "test"], "no test in this data"), (["train", "fpn", "--set", "weights"], "FIELD=VALUE"),
                         (["train", "fpn", "--set", "head_depth=two"], "is a number"), (["table", "ladder", "--seeds", "0.5"], "whole number")):
        assert main([*words, "--profile", "smoke"]) == 2
        assert error in capsys.readouterr().err
    assert main(["figure"]) == 0 and capsys.readouterr().out.splitlines()[0].startswith("  occurrences")
