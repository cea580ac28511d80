"""The tools that read the code without running it find nothing."""
import subprocess
import sys
from importlib.util import find_spec
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
