"""Picture files of any kind to pixels: three channels of 8 bits, upright where the annotations are."""
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")  # what a picture file may end in
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, EOFError, struct.error, zlib.error, OverflowError, IndexError, KeyError,
              TypeError, AttributeError, MemoryError)  # what Pillow raises on files that are damaged
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes of them; 32-bit integers come as "I", too
DARK = 4096  # a picture of 16 bits whose values all lie below this is nearly black in 8


def opened(path: str | Path) -> Image.Image:
    """A picture file, opened; raises one of UNREADABLE, FileNotFoundError among them, also for a pipe or a device, which could be read for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is no plain file")
    return Image.open(path)


def read_pixels(path: str | Path, image_hw: tuple[int, int] | None = None) -> np.ndarray:
    """A picture file as (H, W, 3) uint8; grey becomes three equal channels, transparency is dropped, 16 bits become their upper 8.

    A picture that EXIF says is stored turned is turned upright, unless `image_hw`, the size in the annotations, is that of the stored pixels alone:
    then its boxes were drawn on those. Raises OSError (FileNotFoundError among them), SyntaxError or ValueError where it cannot be read.
    """
    with opened(path) as picture:
        if picture.mode == "F" or (picture.mode == "I" and np.max(picture.getextrema()) > 65535):
            raise ValueError(f"its pixels have more than 16 bits, mode {picture.mode}: save it with 8 or 16 bits a channel")
        turned = ImageOps.exif_transpose(picture)
        if image_hw is not None and turned.size[::-1] != image_hw and picture.size[::-1] == image_hw:
            turned = picture
        if picture.mode in SIXTEEN_BITS:
            grey = (np.array(turned).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.array(turned.convert("RGB"))


def fault(path: Path, image_hw: tuple[int, int]) -> tuple[str, str] | None:
    """What is wrong with a picture file that should have a size (height, width), as kind and sentence; None if nothing. All of it is decoded."""
    try:
        pixels = read_pixels(path, image_hw)
        with opened(path) as picture:
            brightest = int(np.max(picture.getextrema())) if picture.mode in SIXTEEN_BITS else DARK
    except UNREADABLE as error:
        return "unreadable picture", str(error).replace(str(path), path.name)
    if pixels.shape[:2] != image_hw:
        return "size mismatch", (f"the picture is {pixels.shape[1]} x {pixels.shape[0]} px, the annotations say "
                                 f"{image_hw[1]} x {image_hw[0]}")
    if brightest < DARK:
        return "dark picture", f"16 bits, and its largest value is {brightest:,} of 65,535"
    return None


def thumbnail(file: Path, side: int) -> np.ndarray | None:
    """A picture in grey, (side, side), of mean 0 and standard deviation 1; None where it is absent or cannot be read."""
    try:
        with opened(file) as picture:
            picture.draft("L", (4 * side, 4 * side))
            grey = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), np.float32)
    except UNREADABLE:
        return None
    return (grey - grey.mean()) / max(float(grey.std()), 1e-6)
