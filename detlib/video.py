"""Clips with boxes: a split's clip, a folder of frames or a video file through one or several detectors, as mp4 or animated WebP."""
import base64
import html
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from tqdm import tqdm

from .boxes import hw_of
from .data.coco import DataError, Split
from .data.pictures import PICTURES
from .evaluate.coco import Detections
from .evaluate.outcomes import Outcome, outcome
from .files import part_of, tidy
from .models.detector import SCORE_MIN
from .plots.canvas import draw_on, enlarged, font
from .predict import Trained, detect_each, picture_files, read_picture

WIDTH = 1024  # px, of a video: the page's
TALLEST = 768  # px, of one picture in it
CAPTION = 20  # px, the line above a picture
FOOT = 40  # px, white below a video: there players put their controls
FPS = 10.0  # frames a second where nothing says it: what a spinning laser makes
EMBEDDED = 16_000_000  # bytes that a notebook takes in
MOST_WEBP = 200  # frames: Pillow holds all of them at once


@dataclass(frozen=True)
class Row:
    """One detector's view of a frame, in original pixels; scores None are boxes that somebody drew."""

    caption: str
    boxes: np.ndarray  # (D, 4) xyxy px
    labels: np.ndarray  # (D,) 1..K
    scores: np.ndarray | None  # (D,)
    categories: Sequence[str]


@dataclass(frozen=True)
class Footage:
    """A clip of the reader's, read anew at each pass: pictures (3, H, W) uint8 in order."""

    path: Path
    files: tuple[Path, ...]  # of a folder; empty for a video file
    fps: float
    skipped: tuple[str, ...] = ()  # what of a folder cannot be read, and why

    def __iter__(self) -> Iterator[Tensor]:
        return map(read_picture, self.files) if self.files else _decoded(self.path)


def footage(path: str | Path) -> Footage:
    """A folder of frames, in the order of their numbers, or a video file; raises where there are none, or FFmpeg cannot read it.

    Pictures of a folder that cannot be read are left out and listed; ValueError where that is all of them.
    """
    path = Path(path)
    if path.is_dir() or not path.exists() or path.suffix.lower() in PICTURES:
        faults = {file: _fault(file) for file in picture_files(path)}
        skipped = tuple(filter(None, faults.values()))
        if len(skipped) == len(faults):
            raise ValueError("; ".join(skipped[:5]))
        return Footage(path, tuple(file for file, fault in faults.items() if not fault), FPS, skipped)
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not readable as a picture or a video ({error.strerror})") from None
    next(_decoded(path))  # says so here where there is no frame
    return Footage(path, (), float(rate or FPS))


def _fault(file: Path) -> str:
    try:
        read_picture(file)
    except ValueError as error:
        return str(error)
    return ""


def _decoded(path: Path) -> Iterator[Tensor]:
    """A video file's frames, upright."""
    count = 0
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0) if container.streams.video else ():
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                count += 1
                yield torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()
    except av.FFmpegError as error:
        raise ValueError(f"{path}: not readable as a video after frame {count} ({error.strerror})") from None
    if not count:
        raise ValueError(f"{path}: a video without frames")


def detect_footage(trained: Trained, clip: Footage, score_min: float = SCORE_MIN, progress: bool = True) -> tuple[Detections, list[tuple[int, int]]]:
    """What a detector finds on every frame of a clip, and each frame's height and width, px."""
    sizes: list[tuple[int, int]] = []

    def noted(pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        for picture in pictures:
            sizes.append(hw_of(picture))
            yield picture
    bar = tqdm(clip, total=len(clip.files) or None, desc=trained.run.experiment.rung, unit="frame", disable=None if progress else True)
    return Detections.collect(list(detect_each(trained, noted(bar), score_min))), sizes


def footage_pages(clip: Footage, found: Mapping[str, tuple[Detections, Sequence[str], float]]) -> Iterator[Image.Image]:
    """Pages of a clip of the reader's: for each name its detections, their classes, and the least score of those that are drawn."""
    for index, picture in enumerate(clip):
        rows = []
        for name, (detections, categories, score_min) in found.items():
            mine = detections.of_frame(index, score_min)
            rows.append(Row(f"{name}: {len(mine.score)} boxes with score ≥ {score_min:.2f}", mine.boxes, mine.label, mine.score, categories))
        yield page(picture, rows)


def frames_of_clip(split: Split, clip: str) -> list[int]:
    """Places of a clip's frames in their split; raises DataError with the clips there are."""
    indices = [index for index, frame in enumerate(split.frames) if frame.clip == clip]
    if not indices:
        raise DataError(f"no clip {clip!r} in {split.name}: it has {', '.join(split.clips[:20])}{', ...' if len(split.clips) > 20 else ''}")
    return indices


def split_pages(split: Split, indices: Iterable[int], found: Mapping[str, Detections], score_min: float | None = None) -> Iterator[Image.Image]:
    """Pages of frames of a split: the annotated boxes first, then each name's detections with at least this score, and how many are right.

    Without a score each is shown at that of its best F1 on the split (`evaluate.outcomes`).
    """
    seen = {name: outcome(detections, split, score_min) for name, detections in found.items()}
    for index in indices:
        frame, (boxes, labels) = split.frames[index], (part.numpy() for part in split.targets(index))
        drawn = Row(f"annotated: {len(labels)}   ·   {frame.clip}, frame {frame.number}", boxes, labels, None, split.categories)
        yield page(split.image(index), [drawn, *(_judged(name, result, index) for name, result in seen.items())])


def _judged(name: str, seen: Outcome, index: int) -> Row:
    mine = np.flatnonzero(seen.detections.frame == index)
    found, wrong = (seen.object_of[mine] >= 0).sum(), np.isin(mine, seen.false_alarms).sum()
    caption = f"{name}: {found} found, {wrong} false alarm{'' if wrong == 1 else 's'}, with score ≥ {seen.score_min:.2f}"
    part = seen.detections.rows(mine)
    return Row(caption, part.boxes, part.label, part.score, seen.split.categories)


def page(picture: Tensor, rows: Sequence[Row]) -> Image.Image:
    """One frame (3, H, W) once for each row, below each other, a caption above each; sides are even, as H.264 wants them."""
    height, width = picture.shape[-2:]
    scale = min(WIDTH / width, TALLEST / height)
    scale = float(int(scale)) if scale >= 1 else scale  # whole screen pixels for a picture's pixel
    plain = enlarged(picture.permute(1, 2, 0).numpy(), scale)
    tall = CAPTION + plain.height
    sheet = Image.new("RGB", (plain.width + plain.width % 2, (len(rows) * tall) + len(rows) * tall % 2), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for place, row in enumerate(rows):
        canvas = plain.copy()
        draw_on(canvas, row.boxes * scale, row.labels, row.categories, row.scores)
        sheet.paste(canvas, (0, place * tall + CAPTION))
        pen.text((4, place * tall + CAPTION // 2), row.caption, font=font(13), fill=(34, 34, 34), anchor="lm")
    return sheet


def save(pages: Iterable[Image.Image], path: str | Path, fps: float = FPS, frames: int | None = None, progress: bool = True) -> Path:
    """Write pages as mp4 (H.264) or animated WebP, as the name ends; `frames` is how many there are, for the progress bar."""
    path = Path(path)
    writers = {".mp4": _write_mp4, ".webp": _write_webp}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path}: videos are written as .mp4 or .webp; name a file that ends so")
    path.parent.mkdir(parents=True, exist_ok=True)
    tidy(path.parent)
    part = part_of(path)
    try:
        writers[path.suffix.lower()](_alike(tqdm(pages, total=frames, desc=path.name, unit="frame", disable=None if progress else True)), part, fps)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _alike(pages: Iterable[Image.Image]) -> Iterator[Image.Image]:
    first = None
    for number, one in enumerate(pages):
        first = first or one.size
        if one.size != first:
            raise ValueError(f"frame {number} makes a page of {one.width} x {one.height} px, the first one of {first[0]} x {first[1]}: "
                             "a video needs frames of one size")
        yield one
    if first is None:
        raise ValueError("no frames: there is nothing to write")


def _write_mp4(pages: Iterator[Image.Image], path: Path, fps: float) -> None:
    pages = (ImageOps.expand(one, (0, 0, 0, FOOT), "white") for one in pages)
    first = next(pages)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "28", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *first.size, "yuv420p"
        for one in chain([first], pages):
            container.mux(stream.encode(av.VideoFrame.from_image(one)))
        container.mux(stream.encode())


def _write_webp(pages: Iterator[Image.Image], path: Path, fps: float) -> None:
    first, rest = next(pages), []
    for one in pages:
        rest.append(one)
        if len(rest) == MOST_WEBP:
            raise ValueError(f"more than {MOST_WEBP} frames: animated WebP is for short clips; write an .mp4")
    first.save(path, "webp", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=40, method=2)


class Video:
    """A written mp4 or WebP as a cell's last value: it plays in the notebook and in its exported page, without a network."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": f"Video: {self.path.name}"}

    def _repr_html_(self) -> str:
        content, name = self.path.read_bytes(), html.escape(self.path.name)
        if len(content) > EMBEDDED:
            return (f"<p>{name} is {len(content) / 1e6:.0f} MB, and a page takes in at most {EMBEDDED / 1e6:.0f} MB: "
                    f"open {html.escape(str(self.path))} itself, or write fewer frames.</p>")
        kind = "video/mp4" if self.path.suffix.lower() == ".mp4" else "image/webp"
        source = f'style="max-width:100%;max-height:90vh" src="data:{kind};base64,{base64.b64encode(content).decode()}"'
        if kind == "image/webp":
            return f'<img alt="{name}" {source}>'
        Image.fromarray(next(_decoded(self.path)).permute(1, 2, 0).numpy()).save(first := io.BytesIO(), "webp", quality=60)
        poster = f"data:image/webp;base64,{base64.b64encode(first.getvalue()).decode()}"  # what stands there until somebody plays it
        return f'<video controls loop muted playsinline poster="{poster}" {source}></video>'
