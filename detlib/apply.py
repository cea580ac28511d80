"""What `detlib predict`, `detlib video` and `detlib export` write: detections as json, pictures and videos with boxes, results for a leaderboard."""
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from . import video
from .data.coco import Dataset, Split
from .evaluate.coco import Detections
from .files import tidy, write_atomic
from .models.detector import SCORE_MIN
from .onnx_export import check_export, export_onnx
from .predict import break_even, coco_results, listed, load_trained, run_detections
from .runs import Run

CHECKED = 8  # frames that an exported model is checked on
BOXES, SCORES = 0.1, 1e-3  # px, and score: what an exported model may differ by
UNMATCHED = 0.05  # of the detections: those of exactly equal scores may be taken in another order


def predict_source(run: Run, source: str | Path, out: str | Path, draw: bool = False, score_min: float | None = None) -> dict:
    """A run's detections on a picture, a folder of pictures or a video file, as `out`/detections.json; returns what was written, and how much.

    With `draw` also the pictures, or the video, with boxes. Without a score the json holds all above the report's, and those above the run's
    `break_even` are drawn.
    """
    trained, clip, out = load_trained(run), video.footage(source), Path(out)
    tidy(out)
    found, sizes = video.detect_footage(trained, clip, SCORE_MIN if score_min is None else score_min)
    names: list[dict] = [{"file": file.name} for file in clip.files]
    names = names or [{"file": clip.path.name, "frame": k, "seconds": k / clip.fps} for k in range(len(sizes))]
    write_atomic(out / "detections.json", json.dumps({
        "run": run.experiment.rung, "classes": trained.categories, "boxes": "x1, y1, x2, y2 in px of the picture, from its top left corner",
        "pictures": [{**name, "width": width, "height": height, "detections": listed(found, k, trained.categories)}
                     for k, (name, (height, width)) in enumerate(zip(names, sizes, strict=True))]}))
    written = {"json": str(out / "detections.json"), "pictures": len(sizes), "detections": len(found.score)}
    if clip.skipped:
        written["left out"] = list(clip.skipped)
    if not draw:
        return written
    pages = video.footage_pages(clip, {run.experiment.rung: (found, trained.categories, break_even(run) if score_min is None else score_min)})
    if clip.files:
        return written | {"drawn": _save_pictures(pages, [file.name for file in clip.files], out / "pictures")}
    return written | {"drawn": str(video.save(pages, out / f"{clip.path.stem}.mp4", clip.fps, len(sizes)))}


def predict_split(run: Run, dataset: Dataset, split: str, out: str | Path, draw: bool = False, score_min: float | None = None) -> dict:
    """A run's detections on a split as COCO results, `out`/SPLIT_results.json; with `draw` also its frames, annotated and found boxes."""
    out, found = Path(out), run_detections(run, dataset, split)
    if score_min is not None:
        found = found.rows(found.score >= score_min)
    written = {"pictures": len(dataset[split]), **_write_results(found, dataset[split], out / f"{split}_results.json")}
    if draw:
        pages = video.split_pages(dataset[split], range(len(dataset[split])), {run.experiment.rung: found}, score_min)
        written["drawn"] = _save_pictures(pages, [frame.file_name.replace("/", "_") for frame in dataset[split].frames], out / "pictures")
    return written


def export_results(run: Run, dataset: Dataset, split: str, path: str | Path) -> dict:
    """A run's detections on a split in a leaderboard's form: COCO results with the category ids of the split's own file."""
    return _write_results(run_detections(run, dataset, split), dataset[split], Path(path))


def _write_results(found: Detections, split: Split, path: Path) -> dict:
    results = coco_results(found, split)
    tidy(path.parent)
    write_atomic(path, json.dumps(results))
    without = len(found.score) - len(results)
    return {"json": str(path), "detections": len(results), **({"left out, their class has no id there": without} if without else {})}


def export_model(run: Run, dataset: Dataset, split: str, folder: str | Path) -> dict:
    """A run's detector as ONNX with its decoder, checked on some frames of a split: the folder, and the largest differences to the PyTorch model.

    Raises ValueError where they are larger than BOXES px or SCORES, or too many detections stand alone.
    """
    trained, frames = load_trained(run), dataset[split]
    folder = export_onnx(trained, folder)
    found = check_export(folder, trained, [frames.image(k) for k in frames.spread(CHECKED)])
    if found["boxes"] > BOXES or found["scores"] > SCORES or found["unmatched"] > UNMATCHED * found["detections"]:
        raise ValueError(f"{folder}: the exported model differs from the trained one by {found['boxes']:.3g} px and {found['scores']:.3g} in score, "
                         f"and {found['unmatched']} detections have no counterpart, of {found['detections']}: "
                         "do not use it; another version of torch or onnxruntime may do better")
    return {"folder": str(folder), **found}


def clip_video(runs: Sequence[Run], dataset: Dataset, split: str, clip: str | None, path: str | Path, score_min: float | None = None,
               fps: float = video.FPS) -> Path:
    """A split's clip through one or several runs, below each other, as mp4 or WebP; None is the clip with the most objects."""
    chosen = dataset[split]
    clip = clip or (chosen.boxes["clip"].mode().tolist() or chosen.clips or [""])[0]
    indices = video.frames_of_clip(chosen, clip)
    found = {name: run_detections(run, dataset, split) for name, run in named(runs).items()}
    return video.save(video.split_pages(chosen, indices, found, score_min), path, fps, len(indices))


def footage_video(runs: Sequence[Run], source: str | Path, path: str | Path, score_min: float | None = None) -> Path:
    """A folder of frames or a video file through one or several runs, as mp4 or WebP; each at its `break_even` score unless one is named."""
    clip, found, count = video.footage(source), {}, None
    for name, run in named(runs).items():
        trained = load_trained(run)
        detections, sizes = video.detect_footage(trained, clip)
        found[name], count = (detections, trained.categories, break_even(run) if score_min is None else score_min), len(sizes)
    return video.save(video.footage_pages(clip, found), path, clip.fps, count)


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by a name that tells them apart: the rung, with its seed where a rung is there several times."""
    count = Counter(run.experiment.rung for run in runs)
    names: dict[str, Run] = {}
    for run in runs:
        rung = run.experiment.rung
        name = rung if count[rung] == 1 else f"{rung}, seed {run.experiment.seed}"
        names[name if name not in names else f"{name} ({len(names) + 1})"] = run
    return names


def _save_pictures(pages: Iterable[Image.Image], names: Sequence[str], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder)
    for page, name in zip(pages, names, strict=True):
        page.save(content := io.BytesIO(), "png")
        write_atomic(folder / (name if name.lower().endswith(".png") else f"{name}.png"), content.getvalue())
    return str(folder)
