"""Pascal VOC: an xml file a picture, lists of names in ImageSets/Main (Everingham et al. 2010).

The development kit's corners count pixels from 1, the last one included, and some libraries (supervision, Detectron2) take 1 from xmin and ymin;
labelImg, CVAT, Roboflow and globox write and read plain coordinates, and so does this module. Nothing in a file tells the two apart, and a pixel
is within what annotators differ by. `difficult` objects are neither learned nor judged, as VOC's own evaluation has it.
"""
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from .coco import DataError
from .forms import Found, Pictures, splits_of_folders
from .reading import bytes_of, lines_of, plain_files

CORNERS = ("xmin", "ymin", "xmax", "ymax")
KEPT = ("pose", "truncated", "occluded")  # of an object, for a round trip


def files(root: Path, pictures: Pictures) -> list[Path]:
    """The xml files in a folder that are VOC annotations by their root element, and damaged ones beside them, for an error to name."""
    found = plain_files(root, "*.xml")
    places = {file.parent for file in found if _is_voc(file)}
    return [file for file in found if file.parent in places]


def _is_voc(file: Path) -> bool:
    return re.search(rb"<annotation[\s>]", bytes_of(file)[:2000]) is not None


def read(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """Annotations of all xml files; classes in the order named, else of their first appearance by file name."""
    found, kinds = Found(), {name: k for k, name in enumerate(classes or (), start=1)}
    place_of: dict[str, list[int]] = {}
    for number, file in enumerate(files, start=1):
        tree = _tree(file)
        place = _picture(file, tree, pictures)
        sides = {side: (tree.findtext(f"size/{side}") or "").strip() for side in ("width", "height")}
        said = {side: int(value) for side, value in sides.items() if value.isdecimal() and len(value) < 8}
        found.images.append({"id": number, "file_name": place, **pictures.size(place, said)})
        place_of.setdefault(file.stem, []).append(number)
        for k, thing in enumerate(tree.iter("object"), start=1):
            kind = (thing.findtext("name") or "").strip()
            if not kind:
                raise DataError(f"{file} object {k}: no name of a class; write it, or remove the object")
            if classes and kind not in kinds:
                raise DataError(f"{file} object {k}: its class {kind!r} is not among --classes {' '.join(classes)}; name it, too")
            found.annotations.append({"id": len(found.annotations) + 1, "image_id": number, "category_id": kinds.setdefault(kind, len(kinds) + 1),
                                      "bbox": _box(thing, file, k), "iscrowd": int((thing.findtext("difficult") or "0").strip() == "1"),
                                      "where": f"{file.relative_to(root).as_posix()} object {k}",
                                      **{key: text.strip() for key in KEPT if (text := thing.findtext(key))}})
    if len(places := Counter(image["file_name"] for image in found.images)) < len(found.images):
        raise DataError(f"{root}: several xml files are of {places.most_common(1)[0][0]}; keep one")
    found.categories = [{"id": k, "name": name} for name, k in kinds.items()]
    found.split_by(lambda: _splits(root, found, place_of))
    without = len(pictures.files) - len({image["file_name"] for image in found.images} & {f.relative_to(root).as_posix() for f in pictures.files})
    if without:
        found.notes.append(f"{without} pictures have no xml file and are left out.")
    return found


def _picture(file: Path, tree: ElementTree.Element, pictures: Pictures) -> str:
    """The picture of an xml file: of the same name, else the one that `filename` says; two different ones are an error."""
    said = (tree.findtext("filename") or "").strip()
    name = PurePosixPath(said.replace("\\", "/")).name
    same = sorted({picture.name for picture in pictures.by_stem.get(file.stem, [])})
    if same and name not in same and (name in pictures.by_name or len(same) > 1):
        others = ", ".join([name] * (name in pictures.by_name) + same)
        raise DataError(f"{file}: two readings of its picture, {others}; write the right one as its filename and call the xml file like it")
    beside = (file.parent.parent / "JPEGImages", file.parent.parent / "images", file.parent)
    return pictures.find((said if name in same or not same else same[0]) or file.stem, beside)


class _Builder(ElementTree.TreeBuilder):
    """Refuses a document type before any entity of it is read, in whatever encoding: entities can blow up, and annotations need none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"it declares a document type, {name}: remove that line")


def _tree(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(bytes_of(file), ElementTree.XMLParser(target=_Builder()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: not readable as xml ({error}); write the file again") from None


def _box(thing: ElementTree.Element, file: Path, number: int) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{corner}") or "") for corner in CORNERS)
    except (TypeError, ValueError):
        raise DataError(f"{file} object {number}: no bndbox with the numbers {', '.join(CORNERS)}; write them, or remove the object") from None
    return [x1, y1, x2 - x1, y2 - y1]


def _splits(root: Path, found: Found, place_of: dict[str, list[int]]) -> None:
    """train, val and test of ImageSets/Main, else of the folders' names; trainval only where there is nothing else. Names may hold spaces."""
    lists = {}
    for file in plain_files(root, "ImageSets/Main/*.txt"):
        if file.stem in ("train", "val", "test", "trainval"):
            lists[file.stem] = (file, [line.strip() for line in lines_of(file) if line.strip()])
    if {"train", "val"} & lists.keys():
        lists.pop("trainval", None)
    elif "trainval" in lists:
        lists["train"] = lists.pop("trainval")
    for split, (file, names) in lists.items():
        if missing := [name for name in names if name not in place_of]:
            raise DataError(f"{file}: {missing[0]} has no xml file{f', nor have {len(missing) - 1} more' if len(missing) > 1 else ''}; "
                            "bring it, or take the line out")
        if twice := [name for name in names if len(place_of[name]) > 1]:
            raise DataError(f"{file}: there are {len(place_of[twice[0]])} xml files called {twice[0]}; rename all but one")
        found.splits[split] = [place_of[name][0] for name in names]
    found.splits = found.splits or splits_of_folders(found.images)
