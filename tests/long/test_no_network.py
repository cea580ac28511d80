"""Once installed, nothing needs a network: the whole workbook where there is only loopback."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
ALONE = "ip link set lo up && ! ip route get 192.0.2.1 2>/dev/null && exec \"$@\""  # an address that is nobody's


def test_the_workbook_runs_without_a_route_out(tmp_path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "--net", "sh", "-c", ALONE, "sh", "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: the workbook without a network (it takes `unshare --net` and `ip`, and the rights to use them)")
    (tmp_path / "notebooks").symlink_to(HERE / "notebooks")
    settings = {"DETLIB_HOME": str(tmp_path), "DETLIB_PRECISION": "float32", "DETLIB_READERS": "1", "PYTHONPATH": str(HERE)}
    done = subprocess.run(["unshare", "--net", "sh", "-c", ALONE, "sh", sys.executable, "-m", "detlib.cli", "workbook", "--profile", "smoke"],
                          env={**os.environ, **settings}, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((tmp_path / "outputs" / "reports").glob("*.html"))
    assert len(pages) == 11 and (tmp_path / "outputs" / "reports" / "api" / "detlib.html").is_file()
