"""Files that others made, read with suspicion: plain files, json and yaml of bounded depth, names that can be printed.

Each doubt is a DataError.
"""
import gc
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from .coco import DataError

LONGEST = {"file_name": 1000, "name": 200}  # characters
YAML_BYTES, YAML_DEPTH = 2_000_000, 20  # the largest known list of classes has a quarter of it
FIXED = {"panorama": (lambda v: isinstance(v, bool), "true or false"), "clip_names": (lambda v: isinstance(v, bool), "true or false"),
         "name": (lambda v: isinstance(v, str), "a text"),
         "channels": (lambda v: isinstance(v, list) and len(v) == 3 and all(isinstance(c, str) for c in v), "three texts"),
         "size_limits": (lambda v: v is None or (isinstance(v, list) and len(v) == 2 and all(map(_is_number, v)) and 0 < v[0] < v[1]),
                         "two numbers, px, the smaller one first")}  # of dataset.json


def plain_files(root: Path, pattern: str) -> list[Path]:
    """The files below a folder that match a pattern, sorted: no hidden ones, no folders, pipes or devices, and no links to such."""
    return [file for file in sorted(root.rglob(pattern))
            if os.path.isfile(file) and not any(part.startswith(".") for part in file.relative_to(root).parts)]


def bytes_of(file: Path) -> bytes:
    """A plain file's bytes."""
    if not os.path.isfile(file):
        raise DataError(f"{file}: {'no plain file' if os.path.lexists(file) else 'no such file'}; put the file there, or take the entry away")
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: not readable ({error.strerror}); make it readable, or take it away") from None


def lines_of(file: Path) -> list[str]:
    """A text file's lines."""
    try:
        return bytes_of(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not readable as text ({error}); write the file again") from None


@contextmanager
def no_collection() -> Iterator[None]:
    """The garbage collector waits: while much is read it would walk all of it again and again, and find nothing: lists of boxes have no cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def json_of(file: Path) -> Any:
    """A json file's content."""
    try:
        return json.loads(bytes_of(file))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not readable as json ({error}); write the file again, or remove it") from None


def yaml_of(file: Path) -> Any:
    """A yaml file's content: tags that make objects are refused, as is what is deeper or longer than a list of classes can be."""
    content, depth = bytes_of(file), 0
    if len(content) > YAML_BYTES:
        raise DataError(f"{file}: {len(content):,} bytes, and no list of classes is so long; take it away")
    try:
        text = content.decode("utf-8-sig")
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > YAML_DEPTH:
                raise yaml.YAMLError(f"nested more than {YAML_DEPTH} deep")
        return yaml.safe_load(text)
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file}: not readable as yaml ({_first_line(error)}); correct or remove it") from None


def about_folder(root: Path) -> dict:
    """What a folder's dataset.json says, if it is there."""
    path = root / "dataset.json"
    about = json_of(path) if os.path.lexists(path) else {}
    if not isinstance(about, dict):
        raise DataError(f"{path}: it must hold one json object; correct or remove it")
    for key, (right, what) in FIXED.items():
        if key in about and not right(about[key]):
            raise DataError(f"{path}: {key} is {short(about[key])}, and must be {what}; correct it")
    return about


def check_entries(file: Path, content: Any, needed: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError where a COCO file's content lacks a list or an entry's key, or has an id or a name that cannot be one."""
    for part, keys in needed.items():
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise DataError(f"{file}: no list '{part}'; a COCO file has the lists images, annotations and categories")
        named = LONGEST.keys() & keys
        for number, entry in enumerate(content[part]):
            if missing := [key for key in sorted(keys) if not isinstance(entry, dict) or key not in entry or
                           (key in ("id", "file_name", "name") and entry[key] in (None, ""))]:
                raise DataError(f"{file}: {part}[{number}] lacks {', '.join(missing)}; add it")
            for key in named:
                check_name(entry[key], key, f"{file}: {part}[{number}]")
            if not _is_id(entry.get("id", 0)):
                raise DataError(f"{file}: {part}[{number}] has the id {short(entry['id'])}; write a number or a text")


def check_name(value: Any, key: str, where: str) -> None:
    """Raise DataError for a name that is no text, is longer than LONGEST, or has characters that cannot be printed or written."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has the {key} {short(value)}; write a text")
    if key == "file_name" and not PurePosixPath(value).name:
        raise DataError(f"{where} has the file_name {short(value)}, which names no file; correct it")
    if len(value) > LONGEST[key]:
        raise DataError(f"{where} has a {key} of {len(value):,} characters, {short(value)}; shorten it to {LONGEST[key]}")
    if not value.isascii() or not value.isprintable():
        if strange := [c for c in value if unicodedata.category(c) in ("Cc", "Cs")]:
            raise DataError(f"{where}: the {key} {short(value)} has the character {strange[0]!a}, which cannot be printed; rename it")


def number(value: Any) -> float:
    """A value as a number, NaN where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def short(value: Any, most: int = 60) -> str:
    """A value to show in a message, at most so many characters of it."""
    text = ascii(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= most else f"{text[:most]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _is_id(value: Any) -> bool:
    return len(value) <= LONGEST["name"] if isinstance(value, str) else isinstance(value, int | float) and abs(value) < 2**63


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["?"])[0][:200]
