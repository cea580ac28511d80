"""Experiments: the ladder, whose every row replaces one field of the row above, and the profiles, which set sizes and never the code path."""
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pandas as pd

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler


@dataclass(frozen=True)
class Profile:
    """How large everything is."""

    name: str
    width: float  # channels of the small CNN, 1 = the report's
    resnet: str  # torchvision's name
    resnet_blocks: int | None  # of each of its four stages; None: all
    extra_channels: tuple[int, int]  # of the two BasicBlocks behind the ResNet
    fpn_channels: int
    batch: int
    steps: int
    crop_width: int | None  # px of a training image that a step sees; None: whole images
    warmup: int  # steps of linear warm-up
    cosine: bool  # after the warm-up: cosine to zero, or constant
    validations: int  # at equal distances, the last after the last step
    clips: dict[str, int]  # of the simulated data
    sensor: dict[str, Any]  # fields of the simulator's sensor that differ from its own


DEFAULT_PROFILE = "laptop"
FULL_CLIPS = {"train": 40, "val": 30, "extension": 360}
PROFILES = {p.name: p for p in (
    Profile("smoke", width=0.25, resnet="resnet18", resnet_blocks=1, extra_channels=(64, 32), fpn_channels=16, batch=4, steps=8, crop_width=128,
            warmup=2, cosine=True, validations=2, clips={"train": 6, "val": 4, "extension": 4}, sensor={"image_hw": (128, 256), "azimuth_deg": 90.0}),
    Profile("laptop", width=1, resnet="resnet18", resnet_blocks=None, extra_channels=(128, 64), fpn_channels=64, batch=2, steps=1000, crop_width=512,
            warmup=100, cosine=True, validations=3, clips=FULL_CLIPS, sensor={}),
    Profile("report", width=1, resnet="resnet50", resnet_blocks=None, extra_channels=(512, 64), fpn_channels=128, batch=32, steps=1000,
            crop_width=None, warmup=500, cosine=False, validations=10, clips=FULL_CLIPS, sensor={}),
)}

# name -> class and arguments; the rates are the report's. SGD: its first model; AdamW: what it changed to, unsaid, in its anchor rung
OPTIMIZERS = {"sgd": {"lr": 5e-3, "momentum": 0.9, "weight_decay": 5e-4}, "adamw": {"lr": 5e-4, "weight_decay": 5e-4}}
MOST_LR = 1000.0  # no training takes as much
CLIP_GRADIENT = 10.0  # norm: a longer gradient is shortened to it, in every row
KNOWN = {
    "profile": tuple(PROFILES), "optimizer": tuple(OPTIMIZERS), "augment": ("none", "flip", "flip_roll"),
    "backbone": ("small", "resnet", "mobilenet"),
    "neck": ("none", "fpn"), "loss": ("hard_negatives", "focal", "focal_paper"), "anchors": ("baseline", "report", "fitted"),
    "split": ("train", "train_extended"), "weights": ("none", "imagenet"),
}
OF_A_RUN = r"[\w-]+\.\w+\.[\w~=.-]+\.seed\d+"  # data.profile.rung.seed: where a run lies below outputs/runs, "~" for "+"


@dataclass(frozen=True)
class Experiment:
    """One training, but for the data: a rung of the ladder, or one with changed fields."""

    profile: str = "laptop"
    seed: int = 0
    optimizer: str = "sgd"
    augment: str = "none"
    backbone: str = "small"
    neck: str = "none"
    loss: str = "hard_negatives"
    head_depth: int = 0
    prior: float | None = None  # of foreground, in a fresh head
    anchors: str = "baseline"
    split: str = "train"
    weights: str = "none"  # or a finished run's, by `runs.weights_name`
    steps: int | None = None  # None: as many as the profile
    train_frames: int | None = None  # of the training split, spread evenly over it; None: all
    lr: float | None = None  # learning rate, the highest of its schedule; None: the optimiser's own, `OPTIMIZERS`

    def __post_init__(self):
        for name, known in KNOWN.items():
            value = getattr(self, name)
            if name == "anchors" and re.fullmatch(r"[A-Za-z0-9_-]+", value):
                continue  # or a saved set's name: what there is, `runs.anchor_set` knows
            if name == "weights" and re.fullmatch(OF_A_RUN, value):
                continue
            if value not in known:
                raise ValueError(f"{name}={value!r}: known are {', '.join(map(repr, known))}")
        for name in ("steps", "train_frames"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value}: at least 1, or None")
        for name in ("head_depth", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it does not go below 0")
        if self.prior is not None and not 0 < self.prior < 1:
            raise ValueError(f"prior={self.prior}: a probability between 0 and 1, or None")
        if self.lr is not None and not 0 < self.lr <= MOST_LR:
            raise ValueError(f"lr={self.lr}: a learning rate above 0 and not above {MOST_LR:g}, or None")

    @property
    def sizes(self) -> Profile:
        """The profile that the experiment names; with `steps` of its own, warm-up and validations keep their share."""
        sizes = PROFILES[self.profile]
        if self.steps is None:
            return sizes
        share = self.steps / sizes.steps
        warmup = round(sizes.warmup * share) if sizes.cosine else min(sizes.warmup, self.steps)
        return replace(sizes, steps=self.steps, warmup=warmup, validations=min(self.steps, max(2, round(sizes.validations * share))))

    @property
    def optimizer_settings(self) -> dict[str, float]:
        """The arguments of its optimiser."""
        return OPTIMIZERS[self.optimizer] | ({} if self.lr is None else {"lr": self.lr})

    @property
    def rung(self) -> str:
        """The row of the ladder, with the fields that differ from it: `fpn`, or `fpn+weights=imagenet`."""
        rows = ladder(self.profile, self.seed)
        name, row = min(rows.items(), key=lambda item: len(differences(item[1], self)))
        return "+".join([name, *(f"{key}={getattr(self, key)}" for key in differences(row, self))])

    @property
    def command(self) -> str:
        """The line that trains it, but for the data."""
        row, *changes = self.rung.split("+")
        return " ".join(["detlib train", row, *(["--set", *changes] if changes else []),
                         *(["--profile", self.profile] if self.profile != DEFAULT_PROFILE else [])])

    def _with_above(self) -> "dict[str, Experiment]":
        """This experiment below what it changes: the ladder's row above its own, or its row, where it differs from that."""
        rows, name = ladder(self.profile, self.seed), self.rung
        names = list(rows)
        above = names[max(0, names.index(name) - 1)] if name in rows else name.split("+")[0]
        return {above: rows[above], name: self}

    def _repr_html_(self) -> str:
        return _styled(self._with_above()).to_html()

    def __str__(self) -> str:
        return _markdown(self._with_above())


LADDER: list[tuple[str, dict[str, Any]]] = [
    ("baseline", {}),
    ("adam", {"optimizer": "adamw"}),
    ("flip", {"augment": "flip"}),
    ("resnet", {"backbone": "resnet"}),
    ("fpn", {"neck": "fpn"}),
    ("focal", {"loss": "focal"}),
    ("deep_heads", {"head_depth": 4}),
    ("bias_init", {"prior": 0.01}),
    ("report_anchors", {"anchors": "report"}),
    ("fitted_anchors", {"anchors": "fitted"}),
    ("extended", {"split": "train_extended"}),
]


def ladder(profile: str | None = None, seed: int = 0) -> dict[str, Experiment]:
    """Every rung's experiment, in the order of the climb."""
    experiment, rows = Experiment(profile=profile_name(profile), seed=seed), {}
    for name, change in LADDER:
        experiment = replace(experiment, **change)
        rows[name] = experiment
    return rows


def rung(name: str, profile: str | None = None, seed: int = 0, **changes: Any) -> Experiment:
    """One rung of the ladder, with fields changed as named."""
    rows = ladder(profile, seed)
    if name not in rows:
        raise ValueError(f"no rung {name!r}: the ladder has {', '.join(rows)}")
    unknown = changes.keys() - {f.name for f in fields(Experiment)}
    if unknown:
        raise ValueError(f"an experiment has no {', '.join(sorted(unknown))}: it has {', '.join(f.name for f in fields(Experiment))}")
    found = replace(rows[name], **changes)
    return replace(found, lr=None) if found.lr == OPTIMIZERS[found.optimizer]["lr"] else found  # the same training has one name


def parse(text: str, profile: str | None = None, seed: int = 0) -> Experiment:
    """An experiment by its name, a row of the ladder and fields that differ from it: `fpn+backbone=mobilenet+weights=imagenet`."""
    name, *changes = text.split("+")
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r}: a changed field is written FIELD=VALUE, such as weights=imagenet")
        if key in ("profile", "seed"):
            raise ValueError(f"{change!r}: the {key} is no setting of a row; name it with --{key}")
        kind = get_type_hints(Experiment).get(key, str)
        kind, *none = get_args(kind) or (kind,)  # `int | None` -> int, [NoneType]
        try:
            values[key] = None if none and value == "None" else kind(value)
        except ValueError:
            raise ValueError(f"{change!r}: {key} is a number") from None
    return rung(name, profile, seed, **values)


def profile_name(name: str | None = None) -> str:
    """The profile asked for, else that of the environment variable DETLIB_PROFILE, else `laptop`."""
    name = name or os.environ.get("DETLIB_PROFILE") or DEFAULT_PROFILE
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}: there are {', '.join(PROFILES)}")
    return name


def seed_count(number: int | str | None = None) -> int:
    """How many seeds, 0, 1, ..., of each row: as asked for, else by the environment variable DETLIB_SEEDS, else one."""
    number = (os.environ.get("DETLIB_SEEDS") or 1) if number is None else number
    if not str(number).isdecimal() or int(number) < 1:
        raise ValueError(f"{number!r} seeds: name a whole number from 1 on")
    return int(number)


NULL = "bias_init"  # the row that is trained twice as often as the others: against itself, to see what seeds alone do
REPEATED = tuple(name for name, _ in LADDER)[:[name for name, _ in LADDER].index(NULL) + 1]  # the rows up to it


def repeats(profile: str | None = None, seeds: int | str | None = None, names: Sequence[str] = REPEATED) -> list[Experiment]:
    """What several seeds (`seed_count`) add to one: seeds 1, ... of rows, then as many seeds again of the row that is compared with itself."""
    number = seed_count(seeds)
    again = [rung(NULL, profile, seed) for seed in range(number, 2 * number)] if number > 1 and NULL in names else []
    return [parse(name, profile, seed) for seed in range(1, number) for name in names] + again


def table(*names: str, profile: str | None = None) -> "Styler":
    """The settings of rungs side by side (all of the ladder when none is named), the cells that differ from the row above in bold."""
    return _styled({name: parse(name, profile) for name in names or ladder(profile)})


def markdown(*names: str, profile: str | None = None) -> str:
    """The same table as text."""
    return _markdown({name: parse(name, profile) for name in names or ladder(profile)})


def _fields(rows: "dict[str, Experiment]") -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.DataFrame({name: {f.name: str(getattr(row, f.name)) for f in fields(Experiment) if f.name not in ("profile", "seed")}
                          for name, row in rows.items()}).T
    unset = [f.name for f in fields(Experiment) if f.name in ("steps", "train_frames", "lr") and (frame[f.name] == "None").all()]
    frame = frame.drop(columns=unset)  # what is the profile's or the data's own in every row
    return frame, frame.ne(frame.shift().fillna(frame.iloc[:1]))


def _styled(rows: "dict[str, Experiment]") -> "Styler":
    frame, changed = _fields(rows)
    return frame.style.apply(lambda _: changed.map(lambda c: "font-weight: bold" if c else "opacity: 0.6"), axis=None)


def _markdown(rows: "dict[str, Experiment]") -> str:
    frame, changed = _fields(rows)
    return markdown_table(frame.where(~changed, "**" + frame + "**"))


def markdown_table(frame: pd.DataFrame) -> str:
    """A table of text in Markdown's form, the index first."""
    lines = [[frame.index.name or "", *frame.columns], ["---"] * (1 + len(frame.columns)), *map(list, frame.itertuples())]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings(experiment: Experiment) -> pd.DataFrame:
    """Every hyper-parameter of one experiment, those of its profile and optimiser included."""
    rows = {f.name: getattr(experiment, f.name) for f in fields(Experiment)}
    rows |= {f"optimizer: {k}": v for k, v in experiment.optimizer_settings.items()}
    rows |= {f"profile: {f.name}": getattr(experiment.sizes, f.name) for f in fields(Profile) if f.name not in ("name", "clips", "sensor")}
    rows["gradient: longest"] = CLIP_GRADIENT
    return pd.DataFrame({experiment.rung: {k: str(v) for k, v in rows.items()}})


def differences(a: Experiment, b: Experiment) -> list[str]:
    """The fields in which two experiments differ."""
    return [f.name for f in fields(Experiment) if getattr(a, f.name) != getattr(b, f.name)]
