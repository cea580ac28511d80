"""The tools that read the code without running it find nothing."""
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def content(tool, *arguments):
    """Assert that a tool finds nothing in the repository; what it finds is the message."""
    if not find_spec(tool):
        pytest.skip(f"{tool} is not installed (pip install --editable '.[dev]'): nothing was checked")
    done = subprocess.run([sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_hold(tmp_path):
    content("mypy", "--cache-dir", str(tmp_path))  # half a minute: it reads torch's types, too


def test_ruff_is_content():
    content("ruff", "check", "--no-cache", ".")


def test_licences_are_listed_and_bind_nobody():
    """Every direct dependency stands in CONTRIBUTING's table, in the row of the licence that its own metadata names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", line)[0] for line in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]]
    rows = re.findall(r"^\| (Apache|BSD|MIT|PSF|MPL)[^|]*\| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    listed = {name: licence for licence, line in rows for name in re.sub(r" \([^)]*\)", "", line).split(", ")}
    assert set(listed) == set(names)
    for name in names:
        about = metadata(name)
        texts = [about.get("License-Expression") or "", *(line for line in about.get_all("Classifier") or [] if "License" in line)]
        said = " ".join(texts) if any(texts) else (about.get("License") or "")[:200]
        kind = {"PSF": "Python Software Foundation", "MIT": "MIT|Public Domain"}.get(listed[name], listed[name])
        assert re.search(kind, said) and not re.search(r"GPL|Affero", said), f"{name}: {said}"
