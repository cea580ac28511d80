"""Boxes on pictures drawn quickly, pixel by pixel: for widgets and videos, where a matplotlib figure takes too long."""
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from .style import class_colours, label_places, label_text, on_colour

FONT = 11  # px
LABEL = 15  # px, height of a name's plate


def draw_on(canvas: Image.Image, boxes: np.ndarray, labels: np.ndarray, categories: Sequence[str], scores: np.ndarray | None = None,
            strips: int = 1) -> None:
    """Draw boxes (M, 4) xyxy px with labels (M,) in 1..K onto a picture, around what they hold: a dark halo, and names where there is room.

    A name with its score, where there is one, covers no box and no other name, and stays on the strip of its box, if the picture is to be cut.
    """
    pen, colours = ImageDraw.Draw(canvas), list(class_colours(categories).values())
    paints = [tuple(round(255 * part) for part in to_rgb(colour)) for colour in colours]
    for grow, line, dark in ((3, 4, True), (2, 2, False)):  # outside the box: many an object is 8 px wide
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            corner = (round(x1) - grow, round(y1) - grow, round(x2) + grow - 1, round(y2) + grow - 1)
            pen.rectangle(corner, outline=(0, 0, 0) if dark else paints[label - 1], width=line)
    texts = [label_text(categories[label - 1], None if scores is None else score)
             for label, score in zip(labels, labels if scores is None else scores, strict=True)]
    sizes = [(pen.textlength(text, font=font()) + 6, LABEL) for text in texts]
    for text, place, size, label in zip(texts, label_places(boxes, sizes, (0, 0, *canvas.size)), sizes, labels, strict=True):
        cut = canvas.width / strips
        if place and place[0] // cut == (place[0] + size[0] - 1) // cut:
            pen.rectangle((*place, place[0] + size[0], place[1] + size[1] - 1), fill=paints[label - 1])
            pen.text((place[0] + 3, place[1] + 7), text, font=font(), fill=on_colour(colours[label - 1]), anchor="lm")


def enlarged(pixels: np.ndarray, scale: float) -> Image.Image:
    """Pixels (H, W, 3) uint8 as a picture of `scale` times the size, sharp where that is larger."""
    height, width = pixels.shape[:2]
    return Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))),
                                          Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR)


@lru_cache(4)
def font(size: int = FONT) -> ImageFont.FreeTypeFont:
    """The figures' font for pictures, of `size` px."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
