"""The unit tests of the course's core notice most small slips in it."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NUMBER, SEED, SHARE = 200, 0, 0.85


@pytest.mark.skipif(not hasattr(os, "fork"), reason="NOT TESTED: mutants need a system that can fork")
def test_most_mutants_are_killed():
    here = Path(__file__).resolve()
    done = subprocess.run([sys.executable, here.with_name("mutants.py"), str(NUMBER), str(SEED)], capture_output=True, text=True, timeout=1800,
                          cwd=here.parents[2], env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[2])})
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert not any(row["killed"] for row in rows if row["what"] == "as it is"), rows
    tried = [row for row in rows if row["what"] != "as it is"]
    alive = [f"{row['module']} {row['what']}" for row in tried if not row["killed"]]
    print(f"{len(tried) - len(alive)} of {len(tried)} mutants killed; alive:", *alive, sep="\n  ")
    assert len(tried) == NUMBER and len(alive) <= (1 - SHARE) * len(tried)
