"""The pages of the docstrings: there, offline, without this machine's paths, and made anew only when the package has changed."""
import re
from pathlib import Path

import pytest

from detlib import apidoc, report
from detlib.verbs import workbook


def test_pages_of_the_docstrings(tmp_path):
    pytest.importorskip("pdoc")
    first = apidoc.write(tmp_path)
    page = (tmp_path / "api/detlib/matching.html").read_text()
    assert first.is_file() and "An anchor takes the object of its highest IoU" in page
    assert str(Path(apidoc.__file__).parents[1]) not in page and not re.search(r"""(src|href)=["']https?://(?!pdoc)""", page)
    before = first.stat().st_mtime_ns
    assert apidoc.write(tmp_path) == first and first.stat().st_mtime_ns == before
    assert 'href="api/detlib.html"' in report.index(tmp_path).read_text()


def test_a_workbook_without_them_is_a_workbook(home, monkeypatch, capsys):
    def fails(out):
        raise OSError("no pages")
    monkeypatch.setattr(apidoc, "write", fails)
    monkeypatch.setattr(report, "workbook", lambda *arguments, **options: 0)
    assert workbook(None, "smoke", None, None, []) == 0 and "no pages" in capsys.readouterr().err
