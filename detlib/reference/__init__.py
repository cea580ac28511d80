"""The reference run: what the laptop profile's trainings came to on one machine, kept as small json files and read beside one's own.

Of each training: its settings, the metrics, a thinned log, mAP in every resample of the clips, and with the first seed the best detections,
rounded; also the annotations of the extended streets, which take longer to count than all notebooks to read. No weights and no pictures. Simulated
data are known by the simulator's version and seed, others by their fingerprint. Long columns of numbers are whole, zipped and written as base64.
"""
import base64
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..data.coco import Dataset, Split
from ..data.second_city import made_by
from ..files import alone, write_atomic, write_json

FOLDER = Path(__file__).parent
ABOUT, STREETS = "about.json", "streets.json"
MARK = "reference.json"  # in a run's folder: it was unpacked, from this machine
WHOLE_STEPS, EVERY = 100, 5  # of a log, all of the first steps, then every so many; of later seeds every tenth of these
PER_OBJECT = 4  # of the first seed's detections, the best of each class, so many times as many as it has objects: mAP to some thousandths
STREET_COLUMNS = {"category_id": 1, "track": 1, "distance": 100, "visible": 1000}  # of an annotation, and how often what is kept goes into one
SETTINGS = ("simulator", "seed", "frames_per_clip", "clips", "sensor")  # of dataset.json: what makes simulated data what they are


def about() -> dict:
    """The machine, the date, and for each data set its key, its fingerprints and how it was made; without a reference run empty."""
    path = FOLDER / ABOUT
    return json.loads(path.read_text()) if path.is_file() else {}


def known_name(dataset: Dataset) -> str | None:
    """The reference's name for a data set, or None: it has no runs on it."""
    for name, facts in about().get("data", {}).items():
        if facts["key"] == dataset.key or (facts["made"] and facts["made"] == how_made(dataset)):
            return name
    return None


def how_made(dataset: Dataset) -> dict | None:
    """What a simulated data set was made by; None for others."""
    if dataset.name == "simulated" and (path := dataset.root / "dataset.json").is_file():
        settings = json.loads(path.read_text())
        return {name: settings.get(name) for name in SETTINGS}
    return made_by(dataset.root)


def files(name: str) -> Iterator[Path]:
    """The files of all runs on a data set."""
    return iter(sorted((FOLDER / name).glob("*/seed*.json")))


def unpack(dataset: Dataset, outputs: Path) -> bool:
    """Write the reference's runs on a data set, and those on data that is not here, as run folders below `outputs`; whether it has any on it.

    They are written once, and again where the reference or the data changed. Fingerprints become those of the data here, which another processor's
    last digit may have changed.
    """
    if not (name := known_name(dataset)):
        return False
    every = about()["data"]
    others = [other for other, facts in every.items() if other != name and not facts["made"]]
    stamp = {"splits": {split: part.fingerprint for split, part in dataset.splits.items()},
             "reference": hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FOLDER.rglob("*.json")))).hexdigest()}
    path = outputs / f"{name}.json"
    if path.is_file() and json.loads(path.read_text()) == stamp:
        return True
    with alone(outputs, wait=True):
        replaced = {every[name]["key"]: dataset.key} | {
            there: dataset[split].fingerprint for split, there in every[name]["splits"].items() if split in dataset}
        for source in files(name):
            _unpack_run(source, outputs / "runs" / dataset.key, replaced, [frame.image_id for frame in dataset["val"].frames])
        for other in others:
            for source in files(other):
                _unpack_run(source, outputs / "runs" / every[other]["key"], {}, [])
        for source in sorted((FOLDER / "measured").glob("*.json")):
            write_atomic(outputs / "measured" / source.name, source.read_bytes())
        if (fitted := every[name]["fitted_anchors"]) is not None:
            write_json(outputs / "runs" / dataset.key / every[name]["profile"] / "fitted_anchors.json", fitted)
        write_json(path, stamp)
    return True


def _unpack_run(source: Path, place: Path, replaced: dict[str, str], image_ids: list[int]) -> None:
    text = source.read_text()
    for there, here in replaced.items():
        text = text.replace(there, here)
    kept = json.loads(text)
    experiment = kept["config"]["experiment"]
    run = place / experiment["profile"] / kept["row"] / f"seed{experiment['seed']}"
    write_json(run / MARK, {"machine": kept["machine"], "weights": kept["weights"]})
    write_json(run / "config.json", kept["config"])
    columns = kept["log"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in kept["log"]["steps"]] + kept["log"]["validations"]
    rows.sort(key=lambda row: (row["step"], "val" in row))
    write_atomic(run / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    whole = _numbers(kept["resamples"]["ap"]).reshape(-1, kept["resamples"]["columns"])
    np.savez(file := io.BytesIO(), ap=np.where(whole < 0, np.nan, whole / 1e4), clips=kept["resamples"]["clips"])
    write_atomic(run / kept["resamples"]["file"], file.getvalue())
    if "detections" in kept and image_ids:
        write_atomic(run / "detections.json", json.dumps(_as_coco(kept["detections"], image_ids)))
    write_json(run / "metrics.json", kept["metrics"])  # last: it says that the run is finished


def _as_coco(kept: dict[str, Any], image_ids: list[int]) -> list[dict]:
    frames = np.repeat(image_ids, kept["per_frame"]).tolist()
    label, score, *xywh = (_numbers(kept[name]).tolist() for name in ("label", "score", *"xywh"))
    return [{"image_id": frame, "category_id": label, "bbox": [v / 10 for v in box], "score": score / 1e4}
            for frame, label, score, box in zip(frames, label, score, zip(*xywh, strict=True), strict=True)]


def _zipped(numbers: Any) -> str:
    """Whole numbers as text: their first bytes, their second bytes and so on, since the high ones are nearly all alike."""
    planes = np.asarray(numbers, "<i4").ravel().view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1).T.copy().view("<i4").ravel()


def seeds_of(dataset: Dataset, profile: str) -> int:
    """How often each row was trained on a data set; raises ValueError where the reference has no runs of this profile on it."""
    facts = about().get("data", {}).get(known_name(dataset), {})
    if facts.get("profile") != profile:
        has = "; ".join(f"{name}, profile {one['profile']}" for name, one in about().get("data", {}).items())
        raise ValueError(f"the reference has no runs on {dataset.name} in the profile {profile}; it has: {has or 'none at all'}. "
                         "Leave RUNS=reference out, and it is trained here")
    return facts["seeds"]


def pack(outputs: Path, datasets: Iterable[Dataset], profile: str, machine: str, resamples: str, seeds: int) -> list[Path]:
    """Keep all finished runs of a profile on these data sets as the reference; -> its files.

    Rows were trained `seeds` times where the data are simulated, else once. What it held before on these data, and is not among them, stays; of other
    data, and of what these were before, it is taken out. `resamples` is the name of the file in a run's folder that holds its resampled values;
    raises ValueError for a run without them, and for one whose settings are not those of its row's other seeds.
    """
    datasets = list(datasets)
    now = {dataset.name: {split.fingerprint for split in dataset.splits.values()} for dataset in datasets}
    before = {name: facts["splits"] for name, facts in about().get("data", {}).items()}
    for old in [*FOLDER.glob("*/*/seed*.json"), *FOLDER.glob("measured/*.json")]:
        name = old.parents[1].name
        if old.parent.name == "measured" or not set(_fingerprints(old, before.get(name, {}))) <= now.get(name, set()):
            old.unlink()
    data: dict[str, dict] = {}
    for dataset in datasets:
        place = outputs / "runs" / dataset.key / profile
        made, fitted = how_made(dataset), place / "fitted_anchors.json"
        alike: dict[str, dict] = {}
        for metrics in sorted(place.glob("*/seed?/metrics.json")):
            run = metrics.parent
            kept = _packed(run, dataset, machine, resamples)
            settings = {name: kept["config"][name] for name in ("profile", "optimizer", "anchors", "data", "start")}
            if alike.setdefault(run.parent.name, settings) != settings:
                raise ValueError(f"{run}: it was trained with other settings than the seed before it, such as other fitted anchors; train both anew")
            write_atomic(FOLDER / dataset.name / _short(run.parent.name) / f"{run.name}.json", json.dumps(kept, separators=(",", ":")) + "\n")
        data[dataset.name] = {"key": dataset.key, "profile": profile, "seeds": seeds if made else 1, "made": made,
                              "splits": {name: split.fingerprint for name, split in dataset.splits.items()},
                              "fitted_anchors": json.loads(fitted.read_text()) if fitted.is_file() else None}
    for source in sorted((outputs / "measured").glob("*.json")):
        write_atomic(FOLDER / "measured" / source.name, source.read_bytes())
    write_json(FOLDER / ABOUT, {"machine": machine, "date": date.today().isoformat(), "profile": profile, "data": data})
    return sorted(FOLDER.rglob("*.json"))


def _fingerprints(source: Path, splits: dict[str, str]) -> list[str]:
    """Of the splits that a run was trained and judged on; where it was trained on some of a split's frames, of the whole split as it was then."""
    config = json.loads(source.read_text())["config"]
    part = config["experiment"]["split"] if config["experiment"].get("train_frames") else None
    return [splits.get(name, "") if name == part else value for name, value in config["data"].items() if name not in ("name", "size_limits")]


def _short(row: str) -> str:
    return row if len(row) < 100 else row[:60] + hashlib.sha256(row.encode()).hexdigest()[:8]


def _packed(run: Path, dataset: Dataset, machine: str, resamples: str) -> dict:
    config, metrics = (json.loads((run / name).read_text()) for name in ("config.json", "metrics.json"))
    first = config["experiment"]["seed"] == 0
    try:
        with np.load(run / resamples, allow_pickle=False) as found:
            ap, clips = found["ap"], int(found["clips"])
    except OSError:
        raise ValueError(f"{run}: no {resamples}, which is made when the run is compared") from None
    if not first:  # what a mean over seeds takes; the classes of seed 0 are shown one by one
        ap = np.nanmean(ap, axis=1, keepdims=True)
    weights = run / "model.safetensors"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = {"row": run.parent.name, "machine": machine, "weights": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None,
            "config": config, "metrics": _rounded(metrics), "log": _thinned(log, first),
            "resamples": {"file": resamples, "clips": clips, "columns": ap.shape[1], "ap": _zipped(np.where(np.isnan(ap), -1, ap * 1e4).round())}}
    if first and (run / "detections.json").is_file():
        kept["detections"] = _best(json.loads((run / "detections.json").read_text()), dataset["val"])
    return kept


def _thinned(log: list[dict], first: bool) -> dict[str, list]:
    steps = [row for row in log if "loss" in row]
    keep = [row for row in steps if row["step"] <= WHOLE_STEPS or row["step"] % EVERY == 0] if first else steps[EVERY * 10 - 1::EVERY * 10]
    columns = list(steps[0]) if steps else []
    return {"columns": columns, "steps": [[_rounded(row.get(name), 4) for name in columns] for row in keep],
            "validations": [_rounded(row) for row in log if "val" in row]}


def _rounded(value: Any, digits: int = 6) -> Any:
    """Numbers of any structure to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: _rounded(part, digits) for name, part in value.items()}
    return [_rounded(part, digits) for part in value] if isinstance(value, list) else value


def _best(detections: list[dict], split: Split) -> dict[str, Any]:
    image_ids = [frame.image_id for frame in split.frames]
    place, objects, best = {image_id: index for index, image_id in enumerate(image_ids)}, Counter(split.boxes["label"].tolist()), []
    for label, number in objects.items():
        best += sorted((found for found in detections if found["category_id"] == label), key=lambda found: -found["score"])[:PER_OBJECT * number]
    best.sort(key=lambda found: (place[found["image_id"]], -found["score"]))
    count = np.bincount([place[found["image_id"]] for found in best], minlength=len(image_ids)).tolist()
    return {"per_frame": count, "label": _zipped([found["category_id"] for found in best]),
            "score": _zipped([round(found["score"] * 1e4) for found in best]),
            **{name: _zipped([round(10 * found["bbox"][i]) for found in best]) for i, name in enumerate("xywh")}}


def pack_streets(dataset: Dataset) -> None:
    """Keep what the simulator annotated in the clips that the extended split has beyond train."""
    content = json.loads((dataset.root / "train_extended_annotations.json").read_text())
    first = len(dataset["train"])
    frames = Counter(entry["image_id"] for entry in content["annotations"])
    found = [entry for entry in content["annotations"] if entry["image_id"] > first]
    write_json(FOLDER / STREETS, {
        "made": how_made(dataset), "per_frame": [frames[image["id"]] for image in content["images"][first:]],
        **{name: _zipped([round(entry[name] * whole) for entry in found]) for name, whole in STREET_COLUMNS.items()},
        **{name: _zipped([round(entry["bbox"][i]) for entry in found]) for i, name in enumerate("xywh")}})


def street_annotations(settings: dict) -> list[list[dict]]:
    """For each of the extended split's frames beyond train, what the simulator with these settings annotates; none where it is not known."""
    path = FOLDER / STREETS
    if not path.is_file() or (kept := json.loads(path.read_text()))["made"] != {name: settings[name] for name in SETTINGS}:
        return []
    columns = {name: _numbers(kept[name]).tolist() for name in (*STREET_COLUMNS, *"xywh")}
    boxes = [[float(v) for v in box] for box in zip(*(columns[name] for name in "xywh"), strict=True)]
    each = iter([{"category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "segmentation": [], "track": track,
                  "distance": distance / 100, "visible": visible / 1000}
                 for box, category, track, distance, visible in zip(boxes, *(columns[name] for name in STREET_COLUMNS), strict=True)])
    return [list(islice(each, count)) for count in kept["per_frame"]]
