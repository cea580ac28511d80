"""Writing files so that each is there whole or not at all, and what a kill leaves half written is cleared away."""
import errno
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

TROUBLE = {errno.ENOSPC: "the disk is full: make room", errno.EDQUOT: "the disk quota is used up: make room",
           errno.EROFS: "this place is read-only: name another with --out, or another home of all outputs with DETLIB_HOME",
           errno.EACCES: "this place may not be written to: change its permissions, or name another home of all outputs with DETLIB_HOME"}


class Unwritable(OSError):
    """A file that could not be written; the message names it, the reason and the way out."""


class InUse(OSError):
    """Something that another process works on just now."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in a sentence when `path` cannot be written because the disk is full or read-only, or something stands where a folder should be."""
    try:
        yield
    except Unwritable:
        raise
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTDIR) and (there := _in_the_way(path)):
            raise Unwritable(f"{there}: a folder should be here, and there is a file, or a link that leads nowhere; move it away, then call it "
                             f"again. {path} is not written.") from error
        elsewhere = error.errno == errno.EACCES and error.filename and not Path(os.fsdecode(error.filename)).is_relative_to(path.parent)
        if error.errno not in TROUBLE or elsewhere:
            raise
        raise Unwritable(f"{path}: not written, {TROUBLE[error.errno]}; then call it again. What was there before is untouched.") from error


def _in_the_way(path: Path) -> Path | None:
    """The first part of a path that is there and no folder."""
    return next((part for part in [*reversed(path.parents), path] if os.path.lexists(part) and not part.is_dir()), None)


def part_of(path: Path) -> Path:
    """Where this process writes a file before it is renamed into its place; `tidy` knows the name."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file beside its place first, then rename it into its place; raises Unwritable where that cannot be."""
    part = part_of(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write json; values that json does not have (NaN) are refused."""
    write_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which appears as `folder` when all of it is there; what an earlier call left half done is cleared away."""
    part = folder.with_name(f".{folder.name}.part")
    with writing(folder), alone(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def tidy(folder: Path, patience: float = 0.0) -> None:
    """Remove what killed processes of this machine left half written in a folder; for one that has still to end, wait so many seconds at most."""
    until = time.monotonic() + patience
    for part in folder.glob(".*.part"):
        made = re.fullmatch(rf"\..*\.{re.escape(platform.node())}\.(\d+)\.part", part.name)
        while made and alive(int(made[1])) and time.monotonic() < until:
            time.sleep(0.02)
        if made and not alive(int(made[1])):
            part.unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, but is somebody else's
        return True
    return True


@contextmanager
def alone(path: Path, wait: bool = False) -> Iterator[None]:
    """Work on a file or folder that no other process works on: raises InUse where one does, or waits for it. A killed process blocks nobody.

    Where the place cannot be written, or its disk knows no locks, there is nothing that could tell, and the work goes on.
    """
    lock = path.with_name(f".{path.name}.lock")
    made = [place for place in lock.parents if not place.exists()]
    file = _locked(lock, path, wait)
    try:
        yield
    finally:
        if file:
            lock.unlink(missing_ok=True)
            file.close()
            with suppress(OSError):  # where nothing came of it, no empty folder stays
                for place in made:
                    place.rmdir()


def _locked(lock: Path, path: Path, wait: bool) -> Any:
    """The opened lock file; None where nothing can be locked."""
    while fcntl:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = open(lock, "a+")
        except FileNotFoundError:  # the process before has removed its folder meanwhile
            continue
        except OSError:
            return None
        try:
            _take(file, path, wait)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
        except FileNotFoundError:  # the process before has removed it meanwhile
            pass
        except InUse:
            file.close()
            raise
        except OSError:  # a disk without locks
            file.close()
            return None
        file.close()
    return None


def _take(file: Any, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        number, node = [*file.read().split(), "?", "?"][:2]
        busy = f"{path}: process {number} on {node} is at work on it"
        if not wait:
            raise InUse(f"{busy}; wait until it is done, or stop it, then call this again") from None
        print(f"{busy}; waiting for it.", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    with suppress(OSError):  # a full disk
        file.truncate(0)
        print(os.getpid(), platform.node(), file=file, flush=True)
