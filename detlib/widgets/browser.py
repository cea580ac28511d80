"""A browser of frames: choose split, class and frame; one picture with boxes, drawn quickly, and a line that says what it is."""
import html
import io
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from ..data.coco import DataError, Dataset, Split
from ..plots.style import SCREEN, WIDTH, class_colours, label_places, label_text, on_colour

PAGE = round(WIDTH * SCREEN)  # px
TALLEST = 560  # px, of a picture on the page
COMPRESSION = 1  # of PNG: noisy pictures hardly get smaller, but slower


def frame_browser(dataset: Dataset, split: str | None = None) -> widgets.Widget:
    """Widgets to step through a data set's frames, from `split` on (else the first one): a VBox whose parts are in `.parts`, by name."""
    return FrameBrowser(dataset, split)


class FrameBrowser(widgets.VBox):
    """What `frame_browser` returns; `parts`: split, category, frame, previous, next, view, picture, line."""

    def __init__(self, dataset: Dataset, split: str | None = None):
        """Show the first frame of `split`."""
        self.dataset, self.matching = dataset, []
        names = list(dataset.splits)
        views = [("picture", -1), *((name, k) for k, name in enumerate(dataset.channels))]
        narrow = widgets.Layout(width="auto", min_width="9em")
        self.parts = {
            "split": widgets.Dropdown(options=names, value=dataset[split].name if split else names[0], description="split", layout=narrow),
            "category": widgets.Dropdown(options=[("all frames", 0), *((name, k) for k, name in enumerate(dataset.categories, 1))],
                                         description="frames with", layout=narrow, style={"description_width": "initial"}),
            "view": widgets.Dropdown(options=views, description="show", layout=narrow),
            "previous": widgets.Button(description="previous", icon="arrow-left", layout=widgets.Layout(width="7em")),
            "frame": widgets.IntSlider(min=0, max=0, description="frame", continuous_update=False, readout=False,
                                       layout=widgets.Layout(width="24em")),
            "next": widgets.Button(description="next", icon="arrow-right", layout=widgets.Layout(width="7em")),
            "line": widgets.HTML(), "picture": widgets.Image(format="png", layout=widgets.Layout(width="100%", max_width=f"{PAGE}px"))}
        for name in ("split", "category"):
            self.parts[name].observe(self._select, "value")
        for name in ("frame", "view"):
            self.parts[name].observe(self._show, "value")
        self.parts["previous"].on_click(lambda _: self._step(-1))
        self.parts["next"].on_click(lambda _: self._step(1))
        super().__init__([widgets.HBox([self.parts[n] for n in ("split", "category", "view")], layout=widgets.Layout(flex_flow="row wrap")),
                          widgets.HBox([self.parts[n] for n in ("previous", "frame", "next")], layout=widgets.Layout(flex_flow="row wrap")),
                          self.parts["line"], self.parts["picture"]])
        self._select()

    def _select(self, _: object = None) -> None:
        """List the frames that hold the class, and go to the first."""
        split, label = self.dataset[self.parts["split"].value], self.parts["category"].value
        boxes = split.boxes[~split.boxes["crowd"].astype(bool)]
        self.matching = sorted(set(boxes.loc[boxes["label"] == label, "frame"])) if label else list(range(len(split)))
        slider, last = self.parts["frame"], max(len(self.matching) - 1, 0)
        with slider.hold_trait_notifications():
            slider.value, slider.max = 0, last
        self._show()

    def _step(self, by: int) -> None:
        """Previous or next frame; beyond the ends it goes round."""
        if self.matching:
            self.parts["frame"].value = (self.parts["frame"].value + by) % len(self.matching)

    def _show(self, _: object = None) -> None:
        """Draw the chosen frame; what goes wrong is said in the line, and raised where it is not the data's fault."""
        for name in ("previous", "next", "frame"):
            self.parts[name].disabled = len(self.matching) < 2
        split, place = self.dataset[self.parts["split"].value], self.parts["frame"].value
        try:
            if not self.matching:
                wanted = self.parts["category"].label if self.parts["category"].value else "frame"
                self.parts["line"].value = f"No {html.escape(wanted)} in {html.escape(split.name)}."
                self.parts["picture"].value = _png(Image.new("RGB", (PAGE, 128), (235, 235, 235)))
                return
            self.parts["picture"].value, missing = annotated(split, self.matching[place], self.parts["view"].value)
            fault = f"<br><b>{html.escape(missing)}</b>" if missing else ""
            self.parts["line"].value = self._text(split, self.matching[place], place) + fault
        except Exception as error:
            self.parts["line"].value = f"<b>This frame cannot be shown: {html.escape(f'{type(error).__name__}: {error}')}</b>"
            self.parts["picture"].value = _png(Image.new("RGB", (PAGE, 128), (235, 235, 235)))
            raise

    def _text(self, split: Split, index: int, place: int) -> str:
        """Place, file, clip, and how many objects of which class, in the classes' colours."""
        frame, (_, labels) = split.frames[index], split.targets(index)
        counts = np.bincount(labels.numpy(), minlength=len(split.categories) + 1)[1:]
        look = "background:{0};color:{1};padding:0 5px;border-radius:3px;white-space:nowrap"
        chips = [f"<span style='{look.format(colour, on_colour(colour))}'>{n} {html.escape(name)}</span>"
                 for n, (name, colour) in zip(counts, class_colours(split.categories).items(), strict=True) if n]
        return (f"{place + 1} of {len(self.matching):,}: <b>{html.escape(frame.file_name)}</b>, clip {html.escape(frame.clip)}, "
                f"frame {frame.number}: {len(labels)} object{'' if len(labels) == 1 else 's'} {' '.join(chips)}")


def annotated(split: Split, index: int, channel: int = -1) -> tuple[bytes, str]:
    """A frame with its boxes as a PNG, a wide one cut into strips, and what is wrong with its picture.

    `channel` -1 shows all three as colours, else one of them in grey. Without a picture the boxes stand on grey.
    """
    frame, fault = split.frames[index], ""
    height, width = frame.image_hw
    try:
        pixels = split.image(index).permute(1, 2, 0).numpy()  # (H, W, 3)
    except DataError as error:
        pixels, fault = np.full((height, width, 3), 70, np.uint8), str(error)
    pixels = pixels if channel < 0 else np.repeat(pixels[..., channel:channel + 1], 3, axis=2)
    strips = max(1, round(width / height / 4))
    scale = min(PAGE * strips / width, TALLEST / height / strips)
    scale = float(int(scale)) if scale >= 1 else scale  # whole screen pixels for a picture's pixel
    canvas = Image.fromarray(pixels).resize((max(1, round(width * scale)), max(1, round(height * scale))),
                                            Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BILINEAR)
    boxes, labels = (part.numpy() for part in split.targets(index))
    _draw(canvas, boxes * scale, labels, split.categories, strips)
    return _png(_stack(canvas, strips)), fault


def _draw(canvas: Image.Image, boxes: np.ndarray, labels: np.ndarray, categories: tuple[str, ...], strips: int) -> None:
    """Boxes with a dark halo, and their names where there is room; a name stays on the strip of its box."""
    pen, font, colours = ImageDraw.Draw(canvas), _font(), list(class_colours(categories).values())
    paints = [tuple(round(255 * part) for part in to_rgb(colour)) for colour in colours]
    for grow, line, dark in ((1, 4, True), (0, 2, False)):
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            corner = (x1 - grow, y1 - grow, max(x2 + grow, x1 - grow), max(y2 + grow, y1 - grow))
            pen.rectangle(corner, outline=(0, 0, 0) if dark else paints[label - 1], width=line)
    texts = [label_text(categories[label - 1], None) for label in labels]
    sizes = [(pen.textlength(text, font=font) + 6, 15) for text in texts]
    for text, place, size, label in zip(texts, label_places(boxes, sizes, (0, 0, *canvas.size)), sizes, labels, strict=True):
        cut = canvas.width / strips
        if place and place[0] // cut == (place[0] + size[0] - 1) // cut:
            pen.rectangle((*place, place[0] + size[0], place[1] + size[1] - 1), fill=paints[label - 1])
            pen.text((place[0] + 3, place[1] + 7), text, font=font, fill=on_colour(colours[label - 1]), anchor="lm")


def _stack(canvas: Image.Image, strips: int) -> Image.Image:
    """A wide picture's strips below each other."""
    width = -(-canvas.width // strips)
    page = Image.new("RGB", (width, strips * canvas.height + 4 * (strips - 1)), (255, 255, 255))
    for k in range(strips):
        page.paste(canvas.crop((k * width, 0, min((k + 1) * width, canvas.width), canvas.height)), (0, k * (canvas.height + 4)))
    return page


@lru_cache(1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png", compress_level=COMPRESSION)
    return buffer.getvalue()
