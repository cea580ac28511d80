"""Broken data sets: small valid ones of the forms, changed at random, and what the readers make of them."""
import json
import os
import re
import resource
import shutil
import signal
import struct
import traceback
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from kills import FORMS, SERVER, tiny

SECONDS = 20  # that one input may take
MEMORY = 1536 * 1024**2  # bytes that it may take beyond what the process has
BATCH = 50  # inputs a process
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e308", "1e999", "-1", "0", "1e-320", "99999999999999999999", "3.7", "null", '""', "true",
           "9" * 5000, "[]")
TEXTS = ("<script>alert(1)</script>", '=HYPERLINK("http://x","y")', "../../../etc/passwd", "/etc/passwd", "\\..\\x", "%00", "a" * 5000,
         "\u202e\u0000", "${HOME}", "nan", "con", ".", "..", "", "images", "\n")
VALUES = (None, True, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "x", "<b>", "../x", [], {}, [[]], {"a": [1]}, [1, 2], "1")


class Hung(BaseException):
    """An input that took too long."""


def sources(root):
    """{form: {file name: bytes}} of one small data set."""
    from detlib.data.export import write_dataset
    from detlib.data.folder import open_dataset
    data = open_dataset(tiny(root / "tiny"))
    found = {}
    for form in FORMS:
        write_dataset(data, root / form, form)
        found[form] = {str(p.relative_to(root / form)): p.read_bytes() for p in sorted((root / form).rglob("*")) if p.is_file()}
    found["coco"]["dataset.json"] = json.dumps({"name": "small", "panorama": False, "size_limits": [16, 32]}).encode()
    return found


def giant(png):
    """A PNG whose header says 60,000 x 60,000 px."""
    header = struct.pack(">II", 60_000, 60_000) + png[24:29]
    return png[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:]


def mutated(files, rng):
    """The files of a data set with one to three things wrong; a value may be a function that makes what is no plain file."""
    files = dict(files)
    for _ in range(rng.integers(1, 4)):
        names = [name for name, value in files.items() if isinstance(value, bytes)]
        tables = [name for name in names if not name.endswith(".png")]
        name = str(rng.choice(tables if tables and rng.random() < 0.85 else names or ["none"]))
        if name not in files:
            break
        change = CHANGES[rng.integers(len(CHANGES))]
        change(files, name, files[name], rng)
    return files


def _range(value, rng):
    a, b = sorted(rng.integers(0, len(value) + 1, 2))
    return int(a), int(min(b, a + rng.choice([1, 10, 1000])))


def flip(files, name, value, rng):
    changed = bytearray(value)
    for k in rng.integers(0, len(value), rng.integers(1, 6)) if value else ():
        changed[k] = rng.integers(256)
    files[name] = bytes(changed)


def delete(files, name, value, rng):
    a, b = _range(value, rng)
    files[name] = value[:a] + value[b:]


def duplicate(files, name, value, rng):
    a, b = _range(value, rng)
    files[name] = value[:b] + value[a:b] * int(rng.choice([1, 2, 500])) + value[b:]


def truncate(files, name, value, rng):
    files[name] = value[:rng.integers(len(value) + 1)]


def swap(files, name, value, rng):
    other = str(rng.choice([n for n, v in files.items() if isinstance(v, bytes)]))
    files[name], files[other] = files[other], value


def empty(files, name, value, rng):
    files[name] = b""


def remove(files, name, value, rng):
    del files[name]


def rename(files, name, value, rng):
    folder, _, last = name.rpartition("/")
    last = str(rng.choice([last.upper(), "x" + last, " " + last, last + ".bak", "ü&<b>\n" + last, "train" + last, "val_annotations.json",
                           "classes.txt"]))
    files[f"{folder}/{last}".lstrip("/")] = files.pop(name)


def number(files, name, value, rng):
    places = [m.span() for m in re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", value)]
    for k in rng.permutation(len(places))[:rng.choice([1, 1, 3])]:
        if places[k][1] <= len(value):
            value = value[:places[k][0]] + str(rng.choice(NUMBERS)).encode() + value[places[k][1]:]
    files[name] = value


def text(files, name, value, rng):
    places = [m.span(1) for m in re.finditer(rb'"([^"]*)"|>([^<>]+)<|([A-Za-z_./]{3,})', value) if m.span(1) != (-1, -1)] or \
             [m.span() for m in re.finditer(rb"[A-Za-z_./]{3,}", value)]
    if places:
        a, b = places[rng.integers(len(places))]
        files[name] = value[:a] + str(rng.choice(TEXTS)).encode("utf-8", "replace") + value[b:]


def nest(files, name, value, rng):
    a, opening = int(rng.integers(len(value) + 1)), [b"[", b'{"a":', b"<object>", b"- ", b"{a: ", b"<annotation>"][rng.integers(6)]
    files[name] = value[:a] + opening * int(rng.choice([1, 200, 100_000])) + value[a:]


def encode(files, name, value, rng):
    if not name.endswith(".png"):
        files[name] = value.decode("utf-8", "replace").encode(str(rng.choice(["utf-16", "utf-8-sig", "utf-32"])))


def tree(files, name, value, rng):
    """A node of a json: replaced, left out, doubled or wrapped."""
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return
    nodes = []

    def walk(node):
        for key in (node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()):
            nodes.append((node, key))
            walk(node[key])
    walk(content)
    if not nodes:
        return
    node, key = nodes[rng.integers(len(nodes))]
    kind = rng.integers(4)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = [node[key]] if rng.random() < 0.5 else {"x": node[key]}
    elif kind == 2 and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = VALUES[rng.integers(len(VALUES))]
    files[name] = json.dumps(content).encode()


def words(files, name, value, rng):
    """A line of a text file, or of xml a tag: left out, doubled, moved."""
    lines = value.split(b"\n" if b"\n" in value else b" ")
    k = int(rng.integers(len(lines)))
    kind = rng.integers(3)
    lines = lines[:k] + lines[k + 1:] if kind == 0 else lines[:k] + lines[k:k + 1] * 2 + lines[k + 1:] if kind == 1 else lines[k:] + lines[:k]
    files[name] = (b"\n" if b"\n" in value else b" ").join(lines)


def link(files, name, value, rng):
    target = str(rng.choice(["/etc/passwd", "/dev/zero", "/", "..", ".", Path(name).name, "nowhere", "/proc/self/environ"]))
    files[name] = lambda path: os.symlink(target, path)


def strange(files, name, value, rng):
    files[name] = [os.mkfifo, os.mkdir][rng.integers(2)]


def bomb(files, name, value, rng):
    if name.endswith(".png"):
        files[name] = giant(value) if len(value) > 33 else value
    elif name.endswith((".yaml", ".txt")):
        levels = "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9) if k else 'x'}]" for k in range(12))
        files["data.yaml"] = f"{levels}\nnames: *a11\ntrain: *a11\n".encode()
    else:
        files[name] = b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>' + value


CHANGES = (flip, delete, duplicate, truncate, swap, empty, remove, rename, number, number, text, text, nest, encode, tree, tree, tree, words, link,
           strange, bomb)


def write(files, root):
    """Write a data set's files; names that cannot be written are left out."""
    for name, value in files.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            value(path) if callable(value) else path.write_bytes(value)
        except (OSError, ValueError):
            continue


def use(root, rng):
    """Everything that reads: checked, opened, scaled, each picture, and written in another form."""
    from detlib.data.checks import check
    from detlib.data.coco import DataError
    from detlib.data.export import write_dataset
    from detlib.data.folder import dataset_of, open_annotations, read_all
    from detlib.data.inputs import choose, prepared
    invalid, refused = str(rng.choice(["raise", "drop", "clip"])), None
    for read in (lambda: check(root).listed(), lambda: [open_annotations(p, invalid) for p in root.glob("*_annotations.json")]):
        try:
            read()
        except DataError as error:
            refused = error
    about, found = read_all(root)
    data = dataset_of(root, about, found, invalid)
    repr(data)
    prepared(data, choose(data, 16_384))
    for split in data.splits.values():
        for k in range(len(split)):
            split.targets(k), split.image(k)
    write_dataset(data, root.with_name("written"), str(rng.choice(FORMS)), found)
    if refused:
        raise refused


def judged(root, rng):
    """loaded, refused, crashed or hung, and for the last two where."""
    from detlib.data.coco import DataError

    def ring(*_):
        raise Hung
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        use(root, rng)
        return "loaded", ""
    except DataError as error:
        signal.alarm(0)
        said = str(error)
        return ("refused", "") if len(said) < 3000 and "\x1b" not in said else ("crashed", f"a message of {len(said)} characters: {said[:200]!r}")
    except Hung as error:
        return "hung", _where(error)
    except Exception as error:
        signal.alarm(0)
        return "crashed", f"{type(error).__name__}: {str(error)[:150]!r} in {_where(error)}"
    finally:
        signal.alarm(0)


def _where(error):
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/detlib/" in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:3])


def batch(place, files, numbers, pipe):
    """The body of a process: each input written, judged and removed; what comes of it is sent through the pipe."""
    place = Path(place)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    for number in numbers:
        rng = np.random.default_rng(number)
        form = FORMS[number % len(FORMS)]
        shutil.rmtree(place, ignore_errors=True)
        root = place / form
        root.mkdir(parents=True)
        write(mutated(files[form], rng), root)
        outcome = judged(root, rng)
        left = {p.name for p in place.iterdir()} - {form, "written"}
        pipe.send((number, *(("crashed", f"wrote outside: {left}") if left else outcome)))
    pipe.close()


def fuzzed(place, count, first=0):
    """Judge `count` broken data sets; -> counts, and {what happened: the numbers of the inputs} of those that crashed or hung."""
    files, counts, wrong = sources(place / "sources"), Counter(tried=count, loaded=0, refused=0, crashed=0, hung=0), {}
    waiting = list(range(first, first + count))
    while waiting:
        mine, theirs = SERVER.Pipe(duplex=False)
        child = SERVER.Process(target=batch, args=(place / "input", files, waiting[:BATCH], theirs))
        child.start()
        theirs.close()
        done = []
        try:
            while mine.poll(2 * SECONDS):
                done.append(mine.recv())
        except EOFError:
            pass
        child.join(1)
        if len(done) < len(waiting[:BATCH]):  # it died, or hangs where no alarm is heard
            done.append((waiting[len(done)], "hung" if child.is_alive() else "crashed", f"the process ended with {child.exitcode}"))
        child.kill()
        child.join()
        for number, kind, why in done:
            counts[kind] += 1
            if why:
                wrong.setdefault(f"{kind}: {why}", []).append(number)
        waiting = waiting[len(done):]
    return dict(counts), wrong
