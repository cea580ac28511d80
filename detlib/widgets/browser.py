"""A browser of frames: choose split, class and frame; one picture with boxes, drawn quickly, and a line that says what it is."""
import html
import io

import ipywidgets as widgets
import numpy as np
from PIL import Image

from ..data.coco import DataError, Dataset, Split
from ..plots.canvas import draw_on, enlarged
from ..plots.style import SCREEN, WIDTH, class_colours, on_colour

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
        self.dataset = dataset
        self.matching: list[int] = []
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
    canvas = enlarged(pixels, scale)
    boxes, labels = (part.numpy() for part in split.targets(index))
    draw_on(canvas, boxes * scale, labels, split.categories, strips=strips)
    return _png(_stack(canvas, strips)), fault


def _stack(canvas: Image.Image, strips: int) -> Image.Image:
    """A wide picture's strips below each other."""
    width = -(-canvas.width // strips)
    page = Image.new("RGB", (width, strips * canvas.height + 4 * (strips - 1)), (255, 255, 255))
    for k in range(strips):
        page.paste(canvas.crop((k * width, 0, min((k + 1) * width, canvas.width), canvas.height)), (0, k * (canvas.height + 4)))
    return page


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png", compress_level=COMPRESSION)
    return buffer.getvalue()
