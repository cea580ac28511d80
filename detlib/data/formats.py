"""Data sets of other forms: which one a folder holds is found by content, its splits as it says or as they are asked for."""
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from . import kitti, voc, yolo
from .clips import clip_rule
from .coco import DataError, Source, clip_and_number
from .forms import Found, Pictures, split_name

HOW = ("--splits share=0.2 (so many of the pictures to val), clips=0.2 (whole clips), folder (by the pictures' folders), "
       "or train=FILE.txt val=FILE.txt (lists of pictures)")


@dataclass(frozen=True)
class Reading:
    """What a folder holds."""

    form: str  # of FORMS
    sources: dict[str, Source]  # by split, train and val first
    notes: tuple[str, ...] = field(default=())  # what was left out, or decided, in sentences


def read_folder(root: str | Path, form: str | None = None, classes: Sequence[str] | None = None, splits: str | Sequence[str] | None = None,
                seed: int = 0, clips: str | None = None) -> Reading:
    """A folder of COCO, Pascal VOC, YOLO or KITTI annotations; form, classes and splits are needed where the folder leaves them open.

    Raises DataError, with the readings found and the option that picks one, where there is more than one reading or none.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name a data set's folder")
    pictures = Pictures(root)
    found = {name: places for name, (places_of, _) in FORMS.items() if (places := places_of(root, pictures))}
    if form and form not in found:
        raise DataError(f"{root}: no {form} annotations in it; " + (f"it holds {_listed(found)}" if found else "nothing that can be read"))
    if not found:
        raise DataError(f"{root}: no data set here; it needs <split>_annotations.json (COCO), Annotations/*.xml (Pascal VOC), images/ and labels/ "
                        "(YOLO), or image_2/ and label_2/ (KITTI)")
    if len(found) > 1 and not form:
        raise DataError(f"{root}: more than one reading, {_listed(found)}; pick one with --form {' or --form '.join(found)}")
    form = form or next(iter(found))
    content = FORMS[form][1](root, pictures, found[form], classes)
    if not content.images:
        raise DataError(f"{root}: {form} annotations, and no picture that they belong to")
    parts = _parts(root, content, splits, seed, clips)
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
    parts: dict[str, list] = {}
    for image in content.images:
        if name := next((name for part in PurePosixPath(image["file_name"]).parts[:-1] if (name := split_name(part))), None):
            parts.setdefault(name, []).append(image["id"])
    if not parts:
        raise DataError(f"{root}: --splits folder, and no picture lies in a folder named train, val or test; say another way: {HOW}")
    return parts


def _by_share(root: Path, content: Found, kind: str, text: str, seed: int, clips: str | None) -> dict[str, list]:
    """A share of the pictures, or of the clips, drawn by seed, to val; pictures only where no neighbours of a film are torn apart."""
    if not re.fullmatch(r"0?\.\d+", text):
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
                            "the model would be judged on what it has seen; take whole clips, --splits clips=0.2")
    if len(groups) < 2:
        raise DataError(f"{root}: one {'clip' if kind == 'clips' else 'picture'} cannot be split; bring more, or name lists: {HOW}")
    names = [list(groups)[k] for k in np.random.default_rng(seed).permutation(len(groups))]
    count = min(len(names) - 1, max(1, round(float(text) * len(names))))
    chosen = set(names[:count])
    return {"train": [id for name in groups if name not in chosen for id in groups[name]], "val": [id for name in groups if name in chosen
                                                                                                   for id in groups[name]]}


def _by_list(content: Found, file: Path, name: str) -> list:
    if not file.is_file():
        raise DataError(f"--splits {name}={file}: no such file; name a text file with one picture a line")
    names = {line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()}
    known = {key: image["id"] for image in content.images
             for key in (image["file_name"], Path(image["file_name"]).name, Path(image["file_name"]).stem)}
    if missing := sorted(line for line in names if line not in known and Path(line).name not in known):
        raise DataError(f"{file}: {missing[0]!r} is no picture of this data set{f', nor are {len(missing) - 1} more' if len(missing) > 1 else ''}")
    return sorted({known[line] if line in known else known[Path(line).name] for line in names}, key=str)


def coco_files(root: Path, pictures: Pictures) -> list[Path]:
    """The json files in a folder that have COCO's three lists."""
    return [file for file in sorted(root.rglob("*.json")) if not _hidden(root, file) and _is_coco(file)]


def _hidden(root: Path, file: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(part), list) for part in ("images", "annotations", "categories"))


def _unique(ids: list) -> bool:
    """Whether ids can stay as they are: whole numbers, each once."""
    return all(isinstance(k, int) for k in ids) and len(set(ids)) == len(ids)


def read_coco(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """COCO json files, each a split by its name or its folder's; pictures are looked for beside them and by name."""
    names = {file: split_name(file.name) or split_name(file.parent.name) for file in files}
    if len(files) > 1 and None in names.values():
        raise DataError(f"{root}: several COCO files, and {next(f.name for f in files if not names[f])} names no split; call them "
                        "train_annotations.json and val_annotations.json, or move the others away")
    if len(set(names.values())) < len(files):
        raise DataError(f"{root}: several COCO files of one split, {', '.join(file.name for file in files)}; move away those that do not count")
    contents = {file: json.loads(file.read_bytes()) for file in files}
    found, kinds = Found(), {}
    keep = {part: _unique([entry.get("id") for content in contents.values() for entry in content[part] if isinstance(entry, dict)])
            for part in ("images", "annotations")}
    for file, content in contents.items():
        ids: dict[str, object] = {}
        for image in content["images"]:
            if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
                raise DataError(f"{file}: an image lacks id or file_name; add it")
            place = pictures.find(str(image["file_name"]), file.parent, names[file])
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
        if names[file]:
            found.splits[names[file]] = list(ids.values())
    found.categories = [{"id": k, "name": name} for name, k in kinds.items()]
    return found


FORMS: dict[str, tuple[Callable, Callable]] = {"coco": (coco_files, read_coco), "voc": (voc.files, voc.read), "yolo": (yolo.files, yolo.read),
                                               "kitti": (kitti.files, kitti.read)}  # name -> files of the form in a folder, and their reader
