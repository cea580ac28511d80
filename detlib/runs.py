"""The only module that knows where things lie: `data/`, and below `outputs/` a folder for each run, written so that nothing is lost."""
import hashlib
import io
import json
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tqdm import tqdm

from . import reference
from .anchors import BASELINE, SPECS, AnchorSpec
from .data.coco import Dataset, Split
from .data.export import write_dataset
from .data.folder import dataset_of, open_dataset, read_all
from .data.inputs import choose, prepared
from .data.lidar import Sensor, simulate
from .data.second_city import second_city
from .experiments import KNOWN, PROFILES, Experiment, profile_name
from .files import Unwritable, alone, tidy, write_atomic, write_json
from .fitting import fit_split, from_json, to_json

MOST_PIXELS = 128 * 1024  # of a picture: the panorama's, which the profiles' steps are timed for
CODE = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("*.py")))).hexdigest()  # as it is loaded
PIXELS = {"report": 8 * MOST_PIXELS}  # of profiles for larger machines


def home() -> Path:
    """The workbook's folder: DETLIB_HOME, else the one that holds the package."""
    return Path(os.environ.get("DETLIB_HOME") or Path(__file__).resolve().parents[1])


class NoWeights(ValueError):
    """A reference run was asked for its weights, which are not kept; the message says how to train it."""


def reading_reference() -> bool:
    """Whether the reference's runs are read in place of one's own: DETLIB_RUNS is `reference`."""
    asked = os.environ.get("DETLIB_RUNS") or "own"
    if asked not in ("own", "reference"):
        raise ValueError(f"DETLIB_RUNS={asked!r}: known are 'own' and 'reference'")
    return asked == "reference"


def outputs() -> Path:
    """Where everything that is made is kept; of the reference's runs, a folder of their own in it."""
    return home() / "outputs" / "reference" if reading_reference() else home() / "outputs"


def open_data(data: str | Path | None = None, profile: str | None = None, needs: Sequence[str] = ("train", "val"), images: bool = True,
              invalid: str | None = None, **reading: Any) -> Dataset:
    """A data set by name or folder; None is DETLIB_DATA, else `simulated`, which is made when it is not there yet.

    `needs` are the splits that simulated data must have; `images=False` makes their annotations only, and those of the extended split are taken from
    the reference run where it knows them. A folder is read as it is; `invalid` ('raise', 'drop' or 'clip'; None is DETLIB_INVALID, else 'raise') is
    what happens to boxes that cannot be used, and `reading` what the folder leaves open (clips, panorama, form, classes, splits, seed; see
    `folder.open_dataset`). Raises ValueError where that is said of simulated data.
    """
    data, profile = str(data or os.environ.get("DETLIB_DATA") or "simulated"), profile_name(profile)
    if data == "simulated":
        sizes, folder = PROFILES[profile], home() / "data" / f"simulated-{profile}"
        if said := [f"--{name}" for name, value in reading.items() if value]:
            raise ValueError(f"{', '.join(said)}: for a folder of yours (--data FOLDER); the simulated data leave nothing open")
        pictures = [split for split in needs if images and not (reading_reference() and split == "train_extended")]  # seen in training alone
        for names, drawn in ((pictures, True), (needs, False)):
            if names:
                simulate(folder, splits=tuple(names), sensor=Sensor(**sizes.sensor), clips=sizes.clips, images=drawn, progress=ProgressBar(),
                         known=reference.street_annotations)
        return _with_reference(open_dataset(folder))
    dataset = open_dataset(own_folder(data), invalid or os.environ.get("DETLIB_INVALID") or "raise", **reading)
    plan = choose(dataset, PIXELS.get(profile, MOST_PIXELS))
    if plan:
        print(f"{dataset.name}: {plan.reason}.")
    return _with_reference(prepared(dataset, plan))


def _with_reference(dataset: Dataset) -> Dataset:
    with suppress(Unwritable):  # then there is nothing to read beside one's own
        if reference.unpack(dataset, home() / "outputs" / "reference") and reading_reference() and "ipykernel" in sys.modules:
            about = reference.about()
            print(f"Read from the reference run, {about['date']}, {about['machine']}. Of its detections the best of each class are kept, "
                  f"{reference.PER_OBJECT} for each object: what is computed from them, such as AP, is a little lower than what was measured, "
                  "and counts at low scores end early. What takes weights is left out.")
    return dataset


def own_folder(data: str | Path | None = None, profile: str | None = None) -> Path:
    """The folder of a reader's own data: as named, else DETLIB_DATA; where neither names one, a second simulated city, made on first use."""
    data = str(data or os.environ.get("DETLIB_DATA") or "simulated")
    if data == "simulated":
        return second_city(home() / "data" / f"second-city-{profile_name(profile)}", profile)
    folder = Path(data).expanduser()
    return folder if folder.is_absolute() or folder.is_dir() else home() / folder


def import_data(folder: str | Path, out: str | Path | None = None, name: str | None = None, panorama: bool = False, invalid: str = "raise",
                **reading: Any) -> Path:
    """Write a data set of any form that `open_dataset` knows as the workbook's own, into `out` or data/NAME; -> the folder.

    Boxes that cannot be used are refused, left out or cut, as `invalid` says, and what is written has none.
    """
    about, sources = read_all(folder, panorama=panorama or None, **reading)
    dataset = dataset_of(Path(folder), about | ({"name": name} if name else {}), sources, invalid)
    out = Path(out) if out else home() / "data" / dataset.name
    for loss in write_dataset(dataset, out, "coco", sources, {**about, "name": dataset.name, "channels": dataset.channels}):
        print(loss)
    return out


def export_data(folder: str | Path, form: str, out: str | Path, invalid: str = "raise") -> list[str]:
    """Write a data set in another form (`data.export.WRITERS`); -> what that form could not hold, in sentences."""
    about, sources = read_all(folder)
    dataset = dataset_of(Path(folder), about, sources, invalid)
    # as the workbook's own, with what COCO's json has no place for: whether names are clips, what the channels are
    return write_dataset(dataset, out, form, sources, {**about, "name": dataset.name, "channels": dataset.channels} if form == "coco" else None)


class ProgressBar:
    """`simulate`'s progress: a bar in a terminal, elsewhere one line when a split is begun and one when it is made."""

    def __init__(self):
        self.bar: Any = None
        self.what, self.began = "", 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` clips of a split are made."""
        terminal = sys.stderr.isatty()
        if what != self.what:
            self.what, self.began = what, time.monotonic()
            self.bar = tqdm(total=total, desc=f"simulating {what}", unit="clip", disable=not terminal)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()
            if not terminal:
                print(f"simulated {what}: {total} clips in {time.monotonic() - self.began:.0f} s")


@dataclass(frozen=True)
class Run:
    """A run's folder: `config.json`, `log.jsonl`, the checkpoint, and when finished `model.safetensors` and `metrics.json`."""

    folder: Path
    experiment: Experiment

    @property
    def config(self) -> dict:
        """What was trained, on which data, with which versions."""
        return self._json("config.json")

    @property
    def finished(self) -> bool:
        """Whether all steps are done and evaluated."""
        return (self.folder / "metrics.json").is_file()

    @property
    def metrics(self) -> dict:
        """The last validation's metrics."""
        return self._json("metrics.json")

    def log(self) -> pd.DataFrame:
        """The training log: a row a step (step, lr, loss, classes, boxes, gradient, seconds), and a row a validation (step, val, val_...)."""
        return pd.DataFrame(self.log_rows())

    def log_rows(self) -> list[dict]:
        """The log's lines; one that was cut off by a crash is left out."""
        path, rows = self.folder / "log.jsonl", []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    @property
    def without_detections(self) -> bool:
        """Whether it is a later seed of the reference's, of which the detections are not kept."""
        return (self.folder / reference.MARK).is_file() and not (self.folder / "detections.json").is_file()

    def detections(self) -> list[dict]:
        """The last validation's detections in COCO's results form, with our labels as category ids."""
        return self._json("detections.json")

    def _json(self, name: str) -> Any:
        with self._whole(name) as path:
            return json.loads(path.read_text())

    @contextmanager
    def _whole(self, name: str) -> Iterator[Path]:
        """A file of the run's to read; raises ValueError where it is absent or damaged."""
        try:
            yield (path := self.folder / name)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, RecursionError, SafetensorError, pickle.UnpicklingError) as error:
            why = f"{type(error).__name__} {error}".splitlines()[0][:200]
            what = "not there" if isinstance(error, FileNotFoundError) else f"damaged, or not what its name says ({why})"
            raise ValueError(f"{path}: {what}, and nothing of it was run; bring the file back, or remove the folder and train it again") from None

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights; raises NoWeights for a run of the reference."""
        if (self.folder / reference.MARK).is_file():
            raise NoWeights(f"This takes the weights of {self.experiment.rung}, and the reference keeps none. "
                            "Without RUNS=reference it is trained here.")
        with self._whole("model.safetensors") as path:
            return load_file(path)

    def weights_hash(self) -> str:
        """SHA-256 of the file of the trained weights."""
        if (self.folder / reference.MARK).is_file():
            return self._json(reference.MARK)["weights"]
        with self._whole("model.safetensors") as path:
            return hashlib.sha256(path.read_bytes()).hexdigest()

    def save_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Keep trained weights."""
        write_atomic(self.folder / "model.safetensors", save({key: value.contiguous() for key, value in state.items()}))

    def save_checkpoint(self, content: dict) -> None:
        """Keep what training needs to go on; the one before is replaced when the new one is whole."""
        torch.save(content, whole := io.BytesIO())
        write_atomic(self.folder / "checkpoint.pt", whole.getvalue())

    def tidy(self) -> None:
        """Remove what a killed training left beside its results; only for who is alone with the folder."""
        tidy(self.folder)
        if self.finished and (path := self.folder / "checkpoint.pt").is_file():
            path.unlink()

    def load_checkpoint(self) -> dict | None:
        """The last checkpoint, tensors and plain values only; None if there is none."""
        if not (self.folder / "checkpoint.pt").is_file():
            return None
        with self._whole("checkpoint.pt") as path:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return {"step": int(state["step"]), "model": dict(state["model"]), "optimizer": dict(state["optimizer"])}


def kept(name: str, of: Sequence[Any], make: Callable[[], pd.DataFrame], state: str | None = None) -> pd.DataFrame:
    """A table that takes a while, made of what `of` names, and kept in outputs/measured.

    One that is computed is read back while its `state` (`state_of`) is what it was. What is measured, of this machine at some moment, has none, and
    is made anew each time. While the reference is read, its own is taken, of either kind.
    """
    path = outputs() / "measured" / f"{name}-{hashlib.sha256(json.dumps(of, default=str).encode()).hexdigest()[:8]}.json"
    if reading_reference() and (reference.FOLDER / "measured" / path.name).is_file():
        return _table(json.loads(path.read_text()))
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or damaged: it is made anew
        there = json.loads(path.read_text())
        if state and there["state"] == state:
            return _table(there)
    table = make()
    with suppress(Unwritable):  # then it is made again the next time
        content = json.loads(table.to_json(orient="split", double_precision=15))
        types = table.dtypes.astype(str).to_dict()
        write_json(path, {"table": content, "of": table.index.name, "types": types, "attrs": table.attrs, "state": state})
    return table


def _table(there: dict[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(**there["table"]).rename_axis(there["of"]).astype(there.get("types", {}))
    table.attrs = there["attrs"]
    return table


def state_of(split: Split) -> str:
    """Twelve hex digits that change when a split's boxes, frames, clips or pictures do, or the package's code, or a library that it counts with."""
    pictures = [(str(path), about.st_size, about.st_mtime_ns) for frame in split.frames
                if (path := split.root / frame.file_name).is_file() and (about := path.stat())]
    facts = [CODE, [version(name) for name in ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn")], split.frames, pictures]
    boxes = pd.util.hash_pandas_object(split.boxes).to_numpy().tobytes()
    return hashlib.sha256(repr(facts).encode() + boxes).hexdigest()[:12]


def run_folder(experiment: Experiment, data: Dataset | str) -> Path:
    """Where a run of this experiment lies, on this data or the data of this key."""
    key = data if isinstance(data, str) else data.key
    return outputs() / "runs" / key / experiment.profile / experiment.rung / f"seed{experiment.seed}"


def anchor_set(experiment: Experiment, dataset: Dataset) -> AnchorSpec:
    """The anchors that an experiment names: of `anchors.SPECS`, `fitted` to the data's train split, or a set saved as outputs/anchors/NAME.json.

    A fit has the baseline's number of shapes on each level; it is made once for a data set and profile and kept beside its runs.
    """
    name, folder = experiment.anchors, outputs() / "anchors"
    if name in SPECS:
        return SPECS[name]
    if name == "fitted":
        path = outputs() / "runs" / dataset.key / experiment.profile / "fitted_anchors.json"
        if not path.is_file():
            with alone(path, wait=True):
                if not path.is_file():  # fitted by another process meanwhile
                    split = dataset["train"]
                    to_json(fit_split(split, counts=BASELINE.per_cell), path, {"data": dataset.key, "split": "train", "image_hw": split.image_hw})
        return from_json(path)[0]
    if (path := folder / f"{name}.json").is_file():
        return from_json(path)[0]
    saved = sorted(p.stem for p in folder.glob("*.json"))
    raise ValueError(f"no anchor set {name!r}: there are {', '.join([*SPECS, 'fitted', *saved])}; the anchor studio saves its sets in {folder}")


def weights_name(folder: str | Path) -> str:
    """The name by which an experiment's `weights` says that training starts from a finished run: `--init RUN`; raises ValueError with the way out."""
    folder = Path(folder)
    if not any((folder / name).is_file() for name in ("model.safetensors", reference.MARK)) or not (folder / "metrics.json").is_file():
        raise FileNotFoundError(f"{folder}: no finished run to start from (no model.safetensors); name a run's folder below {outputs() / 'runs'}")
    try:
        data, profile, row, seed = folder.resolve().relative_to((outputs() / "runs").resolve()).parts
    except ValueError:
        raise ValueError(f"{folder}: a run to start from lies as DATA/PROFILE/RUNG/seedK below {outputs() / 'runs'}: copy it there") from None
    return ".".join([data, profile, row.replace("+", "~"), seed])


def start_run(experiment: Experiment) -> Run | None:
    """The finished run whose weights an experiment starts from; None where it starts from none, or from ImageNet's."""
    if experiment.weights in KNOWN["weights"]:
        return None
    data, profile, *row, seed = experiment.weights.split(".")
    run = Run(outputs() / "runs" / data / profile / ".".join(row).replace("~", "+") / seed, experiment)
    if not run.finished:
        raise FileNotFoundError(f"{run.folder}: training was to start from this run, which is not there or not finished; train it first")
    return run


def train_command(experiment: Experiment, dataset: Dataset) -> str:
    """The line that trains an experiment on this data."""
    return experiment.command + ("" if dataset.name == "simulated" else f" --data {dataset.root}")


def data_of(run: Run) -> str:
    """The data that a run was trained on, as `open_data` takes it: DETLIB_DATA, 'simulated', or its folder in data/; raises ValueError for others."""
    name = run.config["data"]["name"]
    if asked := os.environ.get("DETLIB_DATA"):
        return asked
    if name == "simulated":
        return name
    if (folder := home() / "data" / name).is_dir():
        return str(folder)
    raise ValueError(f"{run.folder} was trained on {name}, which is not in {home() / 'data'}: say where it lies, --data FOLDER")


def known_data() -> list[str]:
    """The keys of all data sets that have runs."""
    return sorted(path.name for path in (outputs() / "runs").glob("*") if path.is_dir())


def find_run(experiment: Experiment, data: Dataset | str) -> Run | None:
    """The finished run of an experiment, if there is one of the profile's present sizes and of the settings that its row has now."""
    run = Run(run_folder(experiment, data), experiment)
    now = json.loads(json.dumps({"experiment": asdict(experiment), "profile": asdict(experiment.sizes), "optimizer": experiment.optimizer_settings}))
    return run if run.finished and not config_differences(_completed(run.config), now) else None


def reference_of(run: Run) -> Run | None:
    """The reference's training of the same experiment on the same data, to be shown beside it; None where there is none, or `run` is the one."""
    if reading_reference():
        return None
    place = home() / "outputs"
    there = place / "reference" / run.folder.relative_to(place) if run.folder.is_relative_to(place) else run.folder
    found = Run(there, run.experiment)
    if there == run.folder or not found.finished:
        return None
    mine = {name: _completed(run.config)[name] for name in ("experiment", "profile", "optimizer")}
    return None if config_differences(_completed(found.config), mine) else found


def find_runs(experiment: Experiment, data: Dataset | str, seeds: Iterable[int]) -> list[Run]:
    """The finished runs of an experiment with these seeds, in their order; seeds that are not trained are left out."""
    return [run for seed in seeds if (run := find_run(replace(experiment, seed=seed), data))]


def open_run(experiment: Experiment, dataset: Dataset, config: dict, precision: str, echo: Callable[[str], None] = print) -> Run:
    """The folder of an experiment on a data set, with its configuration in it.

    A folder with another configuration is never re-used: it is set aside under a new name, and a sentence says what differs. Versions,
    the number of threads and `precision`, the number format, are noted when a run is begun; it goes on with these. With an equal number
    of threads a run repeats bit by bit; between one and two threads the losses of 20 steps differ by less than 1e-3.
    """
    folder = run_folder(experiment, dataset)
    run = Run(folder, experiment)
    path = folder / "config.json"
    config = json.loads(json.dumps({"experiment": asdict(experiment), **config}))
    if path.is_file():
        different = config_differences(_completed(run.config), config)
        if not different:
            return run
        aside = next(p for k in range(1, 1000) if not (p := folder.with_name(f"{folder.name}.before{k}")).exists())
        os.replace(folder, aside)
        echo(f"{folder.relative_to(home())} holds another configuration ({'; '.join(different)}); "
             f"it is kept as {aside.name} and training starts anew.")
    versions = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    write_json(path, {**config, "versions": versions, "precision": precision, "threads": torch.get_num_threads()})
    return run


def _completed(config: dict) -> dict:
    """A run's configuration in which fields that experiments did not have yet are at their defaults."""
    return {**config, "experiment": {**asdict(Experiment()), **config.get("experiment", {})}}


def config_differences(there: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configurations, entry by entry, as `profile.batch is 8 there, 16 now`; entries that are only there are ignored."""
    if isinstance(there, dict) and isinstance(now, dict):
        return [line for key in now for line in config_differences(there.get(key), now[key], f"{name}.{key}".lstrip("."))]
    return [] if there == now else [f"{name} is {_short(there)} there, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."
