"""The real frames, and what was trained on them, through the notebooks that `make test` leaves out."""
from pathlib import Path

from detlib import report

HERE = Path(__file__).resolve().parents[2]


def test_the_other_notebooks(real, tmp_path):
    """But for what is the same on any data: augmentations, anchors on their own, costs and the map; and notebook 01, which `make test` runs."""
    chosen = [path for path in sorted((HERE / "notebooks").glob("[0-9]*.ipynb")) if path.stem[:2] not in ("00", "01", "03", "05", "07")]
    said = []
    environment = {"DETLIB_HOME": str(tmp_path), "DETLIB_PRECISION": "", "PYTHONPATH": str(HERE)}
    code = report.workbook(chosen, tmp_path / "reports", data=str(real), profile="smoke", environment=environment, echo=said.append)
    assert code == 0, "\n".join(said)
