"""The notebooks on data that are not the simulator's, in the smoke profile, and in the number format that is fastest here."""
from pathlib import Path

from conftest import coco, write_dataset

from detlib import report

HERE = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("[0-9]*.ipynb"))


def test_exploring_the_real_frames(real, tmp_path):
    """The real frames through what looks at data; `make test-long` takes them through most of what trains."""
    chosen = [path for path in NOTEBOOKS if path.stem[:2] == "01"]
    said = []
    environment = {"DETLIB_HOME": str(tmp_path), "DETLIB_PRECISION": "", "PYTHONPATH": str(HERE)}
    code = report.workbook(chosen, tmp_path / "reports", data=str(real), profile="smoke", environment=environment, echo=said.append)
    assert code == 0, "\n".join(said)
    explored = (tmp_path / "reports" / "01_explore+tdt4265_2022+smoke.html").read_text()
    assert "18,287" in explored and "full_train" in explored


def test_on_pictures_of_another_size_without_area_and_crowd(tmp_path):
    """Sides that no stride divides, other classes, a COCO file with the least that it needs: through notebooks that look at data and train."""
    def split(name):
        images = [(f"images/{name}/walk_{i}.png", 200, 150) for i in range(4)]
        content = coco(images, [(i, 1, [20.0 + 9 * i, 40, 40, 30]) for i in range(4)], ["sheep"])
        for entry in content["annotations"]:
            entry.pop("area")
            entry.pop("iscrowd")
        return content
    data = write_dataset(tmp_path / "my sheep Ä", {name: split(name) for name in ("train", "val")})
    said = []
    environment = {"DETLIB_HOME": str(tmp_path), "DETLIB_PRECISION": "", "PYTHONPATH": str(HERE)}
    chosen = [path for path in NOTEBOOKS if path.stem[:2] in ("02", "06", "09")]
    code = report.workbook(chosen, tmp_path / "reports", data=str(data), profile="smoke", environment=environment, echo=said.append)
    assert code == 0, "\n".join(said)
