"""Clips with boxes: what stands on a page, files that others can play, and a browser that plays them."""
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import nbformat
import numpy as np
import pytest
import torch
from conftest import coco, write_dataset
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image, ImageColor
from trained import make_run

from detlib import apply, offline, video
from detlib.data.coco import DataError
from detlib.data.folder import open_dataset
from detlib.evaluate.coco import Detections
from detlib.plots.style import class_colours
from detlib.video import CAPTION, FOOT, Row, Video, footage, frames_of_clip, page, save, split_pages

HOSTILE = ("<b>car</b>", "$x$", "person")


def detections(*rows):
    """From (frame, label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 7)
    return Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2], table[:, 3:])


def coloured(count, height=100, width=130):
    """Pages of one colour each."""
    return [Image.new("RGB", (width, height), (20 * k % 256, 120, 40)) for k in range(count)]


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return stream.average_rate, stream.codec_context.name, stream.codec_context.pix_fmt, frames


@pytest.fixture
def split(tmp_path):
    """Two clips: one of three frames with an object each, one of a single frame without."""
    content = coco([*[(f"images/a_{i}.png", 256, 128) for i in range(3)], ("images/b_0.png", 256, 128)],
                   [(i, 1 + i, [20 + 40 * i, 30, 30, 20]) for i in range(3)], HOSTILE)
    return open_dataset(write_dataset(tmp_path / "data", {"train": content, "val": content}))["val"]


# ---- pages

def test_a_page_has_each_row_with_its_boxes_and_even_sides():
    picture = torch.full((3, 51, 101), 100, dtype=torch.uint8)
    boxes = np.array([[10.0, 20.0, 40.0, 45.0]])
    rows = [Row("one", boxes, np.array([2]), None, HOSTILE), Row("none", boxes[:0], np.zeros(0, int), np.zeros(0), HOSTILE)]
    made = np.array(page(picture, rows))
    scale = 10  # 1024 // 101
    tall = 51 * scale + CAPTION
    assert made.shape == (2 * tall, 101 * scale, 3) and not made.shape[0] % 2 and not made.shape[1] % 2
    colour = ImageColor.getrgb(list(class_colours(HOSTILE).values())[1])
    assert all(tuple(made[CAPTION + 300, x]) == colour for x in (98, 99, 400, 401)), "a line of two pixels around the box"
    assert (made[CAPTION + 201:CAPTION + 449, 101:399] == 100).all(), "what is in the box stays in sight"
    assert (made[tall + CAPTION:] == 100).all(), "no box in the second row"
    assert (made[: CAPTION] < 128).any() and (made[tall: tall + CAPTION] < 128).any(), "captions"
    odd = page(torch.zeros(3, 2001, 3001, dtype=torch.uint8), rows[:1])
    assert odd.width % 2 == odd.height % 2 == 0 and odd.width <= 1024


def test_captions_count_what_is_right_on_the_frame(split, monkeypatch):
    seen = []
    monkeypatch.setattr(video, "page", lambda picture, rows: seen.append(rows))
    right, wrong = (0, 1, 0.9, 20, 30, 50, 50), (0, 1, 0.8, 150, 30, 180, 50)
    found = {"few": detections(right), "many": detections(right, wrong, (1, 3, 0.7, 60, 30, 90, 50), (2, 3, 0.95, 100, 30, 130, 50))}
    list(split_pages(split, [0, 1], found, 0.75))
    captions = [[row.caption for row in rows] for rows in seen]
    assert captions[0] == ["annotated: 1   ·   a, frame 0", "few: 1 found, 0 false alarms, with score ≥ 0.75",
                           "many: 1 found, 1 false alarm, with score ≥ 0.75"]
    assert captions[1][2] == "many: 0 found, 0 false alarms, with score ≥ 0.75"
    seen.clear()
    list(split_pages(split, [0], found))
    assert [row.caption.split("≥ ")[-1] for row in seen[0][1:]] == ["0.90", "0.90"], "each at the score of its best F1"


def test_a_clip_is_found_by_its_name(split):
    assert frames_of_clip(split, "a") == [0, 1, 2] and frames_of_clip(split, "b") == [3]
    with pytest.raises(DataError, match=r"no clip 'c' in val: it has a, b"):
        frames_of_clip(split, "c")


def test_a_frame_without_objects_and_a_run_without_detections_have_a_page(split):
    (made,) = split_pages(split, [3], {"blind": detections()})
    assert made.size == (1024, 2 * (512 + CAPTION))


# ---- files

def test_an_mp4_holds_every_frame_in_its_colours(tmp_path):
    path = save(coloured(12), tmp_path / "deep" / "a.mp4", fps=12.5, progress=False)
    rate, codec, pixels, frames = decoded(path)
    assert (rate, codec, pixels, len(frames)) == (Fraction(25, 2), "h264", "yuv420p", 12)
    for made, found in zip(coloured(12), frames, strict=True):
        assert found.shape == (100 + FOOT, 130, 3) and np.abs(np.array(made).astype(int)[:90] - found[:90]).max() < 12
        assert (found[110:] > 240).all(), "the player's controls cover nothing"
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "a page can begin to play before all of it is there"
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_a_webp_is_animated(tmp_path):
    with Image.open(save(coloured(5), tmp_path / "a.webp", fps=8, progress=False)) as made:
        assert made.n_frames == 5 and made.size == (130, 100)
        for k, one in enumerate(coloured(5)):
            made.seek(k)
            assert np.abs(np.array(made.convert("RGB")).astype(int) - np.array(one)).max() < 12
            assert made.info["duration"] == 125


def test_what_cannot_become_a_video_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\.mp4 or \.webp"):
        save(coloured(2), tmp_path / "a.gif")
    for name in ("a.mp4", "a.webp"):
        with pytest.raises(ValueError, match="no frames"):
            save([], tmp_path / name)
        with pytest.raises(ValueError, match="frame 2 makes a page of 60 x 40"):
            save([*coloured(2), *coloured(1, 40, 60)], tmp_path / name)
    monkeypatch.setattr(video, "MOST_WEBP", 3)
    with pytest.raises(ValueError, match="write an"):
        save(coloured(4), tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())
    save(coloured(3), tmp_path / "a.webp")


# ---- clips of the reader's

def test_a_video_file_is_read_frame_by_frame_and_again(tmp_path):
    clip = footage(save(coloured(7), tmp_path / "a.mp4", fps=5, progress=False))
    assert clip.fps == 5
    for _ in range(2):
        frames = list(clip)
        assert len(frames) == 7 and frames[0].shape == (3, 100 + FOOT, 130) and frames[0].dtype == torch.uint8
        assert abs(int(frames[3][0, :100].float().mean()) - 60) < 8


def test_a_phone_held_upright_is_shown_upright(tmp_path):
    """A frame whose top left corner is white, stored turned, with the note to turn it back."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:24, :24] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(90)  # anticlockwise
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    shown = next(iter(footage(tmp_path / "a.mp4"))).permute(1, 2, 0).numpy()
    assert shown.shape == (96, 64, 3) and np.abs(shown.astype(int) - np.rot90(pixels)).max() < 40


def test_files_that_are_no_video_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    whole = save(coloured(40), tmp_path / "whole.mp4", progress=False).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: whole.index(b"mdat")])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for name in ("text.mp4", "empty.mp4", "half.mp4", "sound.mp4"):
        with pytest.raises(ValueError, match=name):
            footage(tmp_path / name)
    with pytest.raises(ValueError, match="without frames"):
        footage(tmp_path / "sound.mp4")
    with pytest.raises(FileNotFoundError, match="absent"):
        footage(tmp_path / "absent.mp4")


def test_a_video_through_two_runs(small, tmp_path):
    data = open_dataset(small)
    runs = [make_run(data), make_run(data, seed=1), make_run(data, "flip")]
    source = save(coloured(3, 96, 160), tmp_path / "street.mp4", fps=4, progress=False)
    assert list(apply.named(runs)) == ["adam, seed 0", "adam, seed 1", "flip"]
    rate, _, _, frames = decoded(apply.footage_video(runs, source, tmp_path / "out.mp4"))
    assert rate == 4 and len(frames) == 3 and frames[0].shape == (3 * (5 * 136 + CAPTION) + FOOT, 800, 3)
    said = apply.predict_source(runs[0], source, tmp_path / "json", draw=True)
    content = json.loads(Path(said["json"]).read_text())
    assert [(p["frame"], p["seconds"], p["width"]) for p in content["pictures"]] == [(0, 0.0, 160), (1, 0.25, 160), (2, 0.5, 160)]
    assert len(decoded(said["drawn"])[3]) == 3


def test_a_folder_of_frames_and_a_splits_clip(small, tmp_path):
    data = open_dataset(small)
    run = make_run(data)
    assert len(decoded(apply.footage_video([run], small / "images" / "train", tmp_path / "a.mp4"))[3]) == 6
    assert len(decoded(apply.clip_video([run], data, "train", "trip_Video00001", tmp_path / "b.mp4"))[3]) == 3
    assert len(decoded(apply.clip_video([run], data, "train", None, tmp_path / "c.mp4"))[3]) == 3
    with Image.open(small / "images" / "train" / "trip_Video00000_0.png") as one:
        one.resize((200, 150)).save(small / "images" / "train" / "trip_Video00009_0.png")
    with pytest.raises(ValueError, match="frames of one size"):
        apply.footage_video([run], small / "images" / "train", tmp_path / "d.mp4")


# ---- in a page

def test_too_large_a_video_is_named_and_not_embedded(tmp_path, monkeypatch):
    path = save(coloured(3), tmp_path / "a<b.mp4", progress=False)
    assert Video(path)._repr_html_().startswith("<video controls")
    monkeypatch.setattr(video, "EMBEDDED", 100)
    text = Video(path)._repr_html_()
    assert "a&lt;b.mp4" in text and "write fewer frames" in text and "base64" not in text


def exported(tmp_path, *videos):
    """The page of a notebook that shows videos."""
    outputs = [new_output("display_data", data=Video(path)._repr_mimebundle_()) for path in videos]
    nbformat.write(new_notebook(cells=[new_code_cell("Video(path)", outputs=outputs)]), tmp_path / "book.ipynb")
    return offline.export(tmp_path / "book.ipynb", tmp_path / "book.html")


def test_an_exported_page_plays_it_without_a_network(split, tmp_path, browser):
    found = {"<b>one</b>": detections((0, 1, 0.9, 20, 30, 50, 50))}
    made = list(split_pages(split, [0, 1, 2] * 10, found))
    html = exported(tmp_path, save(made, tmp_path / "a.mp4", progress=False), save(made[:3], tmp_path / "a.webp", progress=False))
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html.read_text())
    page = browser.new_context(offline=True).new_page()
    page.goto(html.as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 3", timeout=20_000)
    size = page.evaluate("[...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight, v.duration])[0]")
    assert size[:2] == [made[0].width, made[0].height + FOOT] and size[2] == pytest.approx(3.0, abs=0.11)
    page.evaluate("document.querySelector('video').play()")
    page.wait_for_function("document.querySelector('video').currentTime > 0.2", timeout=20_000)
    assert page.evaluate("document.querySelector('video').error") is None
    assert page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])") == [[True, made[0].width]]
    page.context.close()


def test_what_of_a_folder_cannot_be_read_is_left_out_and_listed(tmp_path):
    frames = [Image.new("RGB", (40, 30), (k, 0, 0)) for k in (0, 90, 200)]
    frames[1].save(tmp_path / "good_1.png")
    (tmp_path / "bad_2.png").write_text("no picture")
    frames[0].save(tmp_path / "film_3.gif", save_all=True, append_images=frames[1:])
    clip = footage(tmp_path)
    assert [file.name for file in clip.files] == ["good_1.png"] and len(list(clip)) == 1
    assert len(clip.skipped) == 2 and "bad_2.png" in clip.skipped[0] and "film of 3 pictures" in clip.skipped[1]
    (tmp_path / "good_1.png").unlink()
    with pytest.raises(ValueError, match=r"bad_2.png: not readable as a picture .*; .*film_3.gif"):
        footage(tmp_path)
    with pytest.raises(ValueError, match=r"bad_2.png: not readable as a picture"):
        footage(tmp_path / "bad_2.png")
