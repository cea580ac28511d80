"""Data sets of other forms: which one a folder holds is found by content, its splits as it says or as they are asked for."""
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..options import FORM_NAMES, listed
from . import kitti, voc, yolo
from .clips import clip_rule
from .coco import DataError, Source, clip_and_number
from .forms import Found, Pictures, ids_of_list, split_name, splits_of_folders
from .reading import check_entries, check_name, json_of, plain_files

HOW = ("--splits share=0.2 (so many of the pictures to val), clips=0.2 (whole clips), folder (by the pictures' folders), "
       "or train=FILE.txt val=FILE.txt (lists of pictures)")

NEEDED = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id", "bbox"), "categories": ("id", "name")}  # of a COCO file


@dataclass(frozen=True)
class Reading:
    """What a folder holds."""

    form: str  # of FORMS
    sources: dict[str, Source]  # by split, train and val first
    notes: tuple[str, ...] = field(default=())  # what was left out, or decided, in sentences


def read_folder(root: str | Path, form: str | None = None, classes: Sequence[str] | None = None, splits: str | Sequence[str] | None = None,
                seed: int = 0, clips: str | None = None) -> Reading:
    """A folder of annotations in a form of `FORMS`; form, classes and splits are needed where the folder leaves them open.

    Raises DataError, with the readings found and the option that picks one, where there is more than one reading or none.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name a data set's folder")
    pictures = Pictures(root)
    found = {name: places for name, known in FORMS.items() if (places := known.files(root, pictures))}
    if form and form not in found:
        raise DataError(f"{root}: no {form} annotations in it; " + (f"it holds {_listed(found)}" if found else "nothing that can be read"))
    if not found:
        raise DataError(f"{root}: no data set here; it needs {listed(f'{known.needs} ({FORM_NAMES[name]})' for name, known in FORMS.items())}")
    if len(found) > 1 and not form:
        raise DataError(f"{root}: more than one reading, {_listed(found)}; pick one with --form {' or --form '.join(found)}")
    form = form or next(iter(found))
    content = FORMS[form].read(root, pictures, found[form], classes)
    if not content.images:
        raise DataError(f"{root}: {form} annotations, and no picture that they belong to")
    for image in content.images:
        check_name(image["file_name"], "file_name", f"{root}: a picture")
    for kind in content.categories:
        check_name(kind["name"], "name", f"{root}: a class")
    parts = _parts(root, content, splits, seed, clips)
    if left := len(content.images) - len({k for ids in parts.values() for k in ids}):
        content.notes.append(f"{left} pictures are in none of the splits {', '.join(parts)} and are left out.")
    order = sorted(parts, key=lambda name: (name != "train", name != "val", name))
    return Reading(form, {name: _source(root, content, parts[name]) for name in order}, tuple(content.notes))


def _listed(found: Mapping[str, Sequence[Path]]) -> str:
    return " and ".join(f"{form} ({len(places)} file{'s' * (len(places) != 1)}, such as {places[0].name})" for form, places in found.items())


def _source(root: Path, content: Found, images: list) -> Source:
    mine = set(images)
    lists = {"images": [image for image in content.images if image["id"] in mine],
             "annotations": [entry for entry in content.annotations if entry["image_id"] in mine or not content.known(entry["image_id"])],
             "categories": content.categories}
    return Source(root, lists, hashlib.sha256(json.dumps(lists, sort_keys=True, default=str).encode()).hexdigest())


def _parts(root: Path, content: Found, splits: str | Sequence[str] | None, seed: int, clips: str | None) -> dict[str, list]:
    """Ids of the images of each split."""
    wanted = [splits] if isinstance(splits, str) else list(splits or ())
    if not wanted:
        if content.splits:
            return content.splits
        if content.trouble:
            raise DataError(f"{content.trouble}; or split another way: {HOW}") from content.trouble
        raise DataError(f"{root}: {len(content.images):,} pictures, and nothing says which are train and which val; say how: {HOW}")
    if wanted == ["folder"]:
        return _by_folder(root, content)
    pairs = [part.partition("=") for part in wanted]
    if len(pairs) == 1 and pairs[0][0] in ("share", "clips"):
        return _by_share(root, content, pairs[0][0], pairs[0][2], seed, clips)
    if not all(equals and value for _, equals, value in pairs):
        raise DataError(f"--splits {' '.join(wanted)}: not one of {HOW}")
    return {name: _by_list(content, Path(value), name) for name, _, value in pairs}


def _by_folder(root: Path, content: Found) -> dict[str, list]:
    parts = splits_of_folders(content.images)
    if not parts:
        raise DataError(f"{root}: --splits folder, and no picture lies in a folder named train, val or test; say another way: {HOW}")
    return parts


def _by_share(root: Path, content: Found, kind: str, text: str, seed: int, clips: str | None) -> dict[str, list]:
    """A share of the pictures, or of the clips, drawn by seed, to val; pictures only where no neighbours of a film are torn apart."""
    if not re.fullmatch(r"0?\.\d+", text) or float(text) == 0:
        raise DataError(f"--splits {kind}={text}: a share between 0 and 1, such as {kind}=0.2")
    images = sorted(content.images, key=lambda image: image["file_name"])
    groups: dict[str, list] = {}
    for image in images:
        groups.setdefault(clip_and_number(image["file_name"])[0] if kind == "clips" else image["file_name"], []).append(image["id"])
    if kind == "share":
        rule = clips or clip_rule([root / image["file_name"] for image in images])[0]
        torn = {clip_and_number(image["file_name"])[0] for image in images}
        if rule == "names" and len(torn) < len(images):
            raise DataError(f"{root}: these are frames of {len(torn)} clips, and a share of the pictures would put neighbours into train and val: "
                            "the model would be judged on what it has seen; take whole clips, --splits clips=0.2; if they are no film, --clips none")
    if len(groups) < 2:
        if kind == "clips" and len(content.images) > 1:
            raise DataError(f"{root}: by their names all pictures are of one clip, which cannot be split; if they are no film, take "
                            f"--splits share={text}; else bring more clips, or name lists: {HOW}")
        raise DataError(f"{root}: one {'clip' if kind == 'clips' else 'picture'} cannot be split; bring more, or name lists: {HOW}")
    names = [list(groups)[k] for k in np.random.default_rng(seed).permutation(len(groups))]
    count = min(len(names) - 1, max(1, round(float(text) * len(names))))
    chosen = set(names[:count])
    return {split: [k for name, ids in groups.items() if (name in chosen) == (split == "val") for k in ids] for split in ("train", "val")}


def _by_list(content: Found, file: Path, name: str) -> list:
    if not os.path.isfile(file):
        raise DataError(f"--splits {name}={file}: no such file; name a text file with one picture a line")
    return ids_of_list(file, content.images)


def coco_files(root: Path, pictures: Pictures) -> list[Path]:
    """The json files in a folder that have COCO's three lists."""
    return [file for file in plain_files(root, "*.json") if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    try:
        content = json_of(file)
    except DataError:
        return False
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in ("images", "annotations", "categories"))


def _contents(files: Sequence[Path]) -> dict[Path, dict]:
    """COCO files with what reading needs checked to be there; values that are wrong are left to the checks that follow."""
    contents = {file: json_of(file) for file in files}
    for file, content in contents.items():
        check_entries(file, content, NEEDED)
        ids = Counter(str(image["id"]) for image in content["images"])
        if twice := [k for k, count in ids.items() if count > 1]:
            raise DataError(f"{file}: images has id {twice[0]} more than once; give each its own")
    return contents


def _keep(contents: Mapping[Path, dict], part: str) -> bool:
    """Whether ids can stay as they are: whole numbers, each once; repeated inside a file they stay, too, for the checks to name."""
    ids = [[entry.get("id") for entry in content[part]] for content in contents.values()]
    every = [k for one in ids for k in one]
    return all(isinstance(k, int) for k in every) and (len(set(every)) == len(every) or any(len(set(one)) < len(one) for one in ids))


def _split_names(root: Path, files: Sequence[Path]) -> dict[Path, str | None]:
    """The split of each COCO file, by its name or its folder's below the root."""
    names = {file: split_name(file.name) or (split_name(file.parent.name) if file.parent != root else None) for file in files}
    if len(files) > 1 and None in names.values():
        raise DataError(f"{root}: several COCO files, and {next(f.name for f in files if not names[f])} names no split; call them "
                        "train_annotations.json and val_annotations.json, or move the others away")
    if len(set(names.values())) < len(files):
        raise DataError(f"{root}: several COCO files of one split, {', '.join(file.name for file in files)}; move away those that do not count")
    return names


def read_coco(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """COCO json files, each a split by its name or its folder's; pictures are looked for beside them and by name."""
    names, contents, found = _split_names(root, files), _contents(files), Found()
    kinds: dict[str, int] = {}
    keep = {part: _keep(contents, part) for part in ("images", "annotations")}
    for file, content in contents.items():
        ids: dict[str, object] = {}
        places: dict[str, object] = {}
        for image in content["images"]:
            place = pictures.find(str(image["file_name"]), (file.parent,), names[file])
            if places.setdefault(place, image["id"]) != image["id"]:
                raise DataError(f"{file}: images {places[place]} and {image['id']} are both {place}; correct one's file_name, or remove it")
            ids[str(image["id"])] = image["id"] if keep["images"] else len(found.images) + 1
            found.images.append({**image, "id": ids[str(image["id"])], "file_name": place, **pictures.size(place, image)})
        for entry in content["categories"]:
            kinds.setdefault(entry["name"], len(kinds) + 1)
        named = {str(entry["id"]): kinds[entry["name"]] for entry in content["categories"]}
        for entry in content["annotations"]:
            found.annotations.append({**entry, "id": entry.get("id") if keep["annotations"] else len(found.annotations) + 1,
                                      "image_id": ids.get(str(entry["image_id"]), f"{entry['image_id']}?"),
                                      "category_id": named.get(str(entry["category_id"]), f"{entry['category_id']}?"),
                                      "where": f"{file.name} annotation {entry.get('id')}"})
        if split := names[file]:
            found.splits[split] = list(ids.values())
    found.categories = [{"id": k, "name": name} for name, k in kinds.items()]
    return found


class Form(NamedTuple):
    """How a form is found and read."""

    files: Callable  # those of the form in a folder
    read: Callable
    needs: str  # what a folder of it holds


FORMS = {
    "coco": Form(coco_files, read_coco, "<split>_annotations.json"),
    "voc": Form(voc.files, voc.read, "Annotations/*.xml"),
    "yolo": Form(yolo.files, yolo.read, "images/ and labels/"),
    "kitti": Form(kitti.files, kitti.read, "image_2/ and label_2/"),
}
