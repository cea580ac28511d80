"""Pascal VOC: an xml file a picture, lists of names in ImageSets/Main (Everingham et al. 2010).

The development kit's corners count pixels from 1, the last one included, and some libraries (supervision, Detectron2) take 1 from xmin and ymin;
labelImg, CVAT, Roboflow and globox write and read plain coordinates, and so does this module. Nothing in a file tells the two apart, and a pixel
is within what annotators differ by. `difficult` objects are neither learned nor judged, as VOC's own evaluation has it.
"""
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from .coco import DataError
from .forms import Found, Pictures, lines_of

CORNERS = ("xmin", "ymin", "xmax", "ymax")
KEPT = ("pose", "truncated", "occluded")  # of an object, for a round trip


def files(root: Path, pictures: Pictures) -> list[Path]:
    """The xml files in a folder that are VOC annotations by their root element."""
    found = [file for file in sorted(root.rglob("*.xml")) if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    return found if found and any(_is_voc(file) for file in found[:5]) else []


def _is_voc(file: Path) -> bool:
    with open(file, "rb") as opened:
        return b"<annotation" in opened.read(2000)


def read(root: Path, pictures: Pictures, files: Sequence[Path], classes: Sequence[str] | None) -> Found:
    """Annotations of all xml files; classes in the order named, else of their first appearance by file name."""
    found, kinds, place_of = Found(), {name: k for k, name in enumerate(classes or (), start=1)}, {}
    for number, file in enumerate(files, start=1):
        tree = _tree(file)
        name = (tree.findtext("filename") or "").strip() or file.stem
        same = pictures.by_stem.get(file.stem, [])
        place = pictures.find(same[0].name if len(same) == 1 and Path(name).name not in pictures.by_name else name, file.parent.parent / "JPEGImages")
        said = {side: int(value) for side in ("width", "height") if (value := (tree.findtext(f"size/{side}") or "").strip()).isdecimal()}
        found.images.append({"id": number, "file_name": place, **pictures.size(place, said)})
        if place_of.setdefault(file.stem, number) != number:
            raise DataError(f"{root}: two annotations are called {file.name}; keep one")
        for k, thing in enumerate(tree.iter("object"), start=1):
            kind = (thing.findtext("name") or "").strip()
            if classes and kind not in kinds:
                raise DataError(f"{file} object {k}: its class {kind!r} is not among --classes {' '.join(classes)}; name it, too")
            found.annotations.append({"id": len(found.annotations) + 1, "image_id": number, "category_id": kinds.setdefault(kind, len(kinds) + 1),
                                      "bbox": _box(thing, file, k), "iscrowd": int((thing.findtext("difficult") or "0").strip() == "1"),
                                      "where": f"{file.relative_to(root).as_posix()} object {k}",
                                      **{key: value.strip() for key in KEPT if (value := thing.findtext(key))}})
    found.categories = [{"id": k, "name": name} for name, k in kinds.items()]
    _splits(root, found, place_of)
    without = len(pictures.files) - len({image["file_name"] for image in found.images} & {f.relative_to(root).as_posix() for f in pictures.files})
    if without:
        found.notes.append(f"{without} pictures have no xml file and are left out.")
    return found


def _tree(file: Path) -> ElementTree.Element:
    text = file.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise DataError(f"{file}: it declares a document type, which annotations have no use for and which can blow up: remove that line")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: not readable as xml ({error}); write the file again") from None


def _box(thing: ElementTree.Element, file: Path, number: int) -> list[float]:
    try:
        x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{corner}")) for corner in CORNERS)
    except (TypeError, ValueError):
        raise DataError(f"{file} object {number}: no bndbox with the numbers {', '.join(CORNERS)}; write them, or remove the object") from None
    return [x1, y1, x2 - x1, y2 - y1]


def _splits(root: Path, found: Found, place_of: dict[str, int]) -> None:
    """train, val and test of ImageSets/Main; trainval only where there is nothing else. Lists of a class (two columns) are no splits."""
    lists = {}
    for file in sorted(root.rglob("ImageSets/Main/*.txt")):
        names = [line.split() for line in lines_of(file) if line.strip()]
        if file.stem in ("train", "val", "test", "trainval") and all(len(words) == 1 for words in names):
            lists[file.stem] = (file, [words[0] for words in names])
    if {"train", "val"} & lists.keys():
        lists.pop("trainval", None)
    elif "trainval" in lists:
        lists["train"] = lists.pop("trainval")
    for split, (file, names) in lists.items():
        if missing := [name for name in names if name not in place_of]:
            raise DataError(f"{file}: {missing[0]} has no xml file{f', nor have {len(missing) - 1} more' if len(missing) > 1 else ''}; "
                            "bring it, or take the line out")
        found.splits[split] = [place_of[name] for name in names]
    listed = {number for numbers in found.splits.values() for number in numbers}
    if found.splits and len(listed) < len(found.images):
        found.notes.append(f"{len(found.images) - len(listed)} annotated pictures stand in no list of ImageSets/Main and are left out.")
