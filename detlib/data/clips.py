"""Are pictures with numbered names a film's frames, or just numbered? The pictures say."""
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .coco import DataError, clip_and_number
from .pictures import thumbnail

PAIRS = 40  # of neighbours, and as many of others
SIDE = 32  # px of a thumbnail
FILM, NUMBERED = 0.85, 0.75  # chance that neighbours are more alike than others: from here on a film, up to here not
FEWEST = 4  # pairs of neighbours that can say anything


def clip_rule(files: Sequence[Path], seed: int = 0) -> tuple[str, str]:
    """'names' where NAME_k and NAME_k+1 are neighbours in a film, else 'none', and a sentence that says why.

    Measured is how often two neighbours are more alike than two pictures of other names or far apart (the area under the ROC curve; 0.5 is chance).
    Raises DataError with the option that decides where the pictures do not say.
    """
    named: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for file in files:
        clip, number = clip_and_number(file.as_posix())
        named[file.parent, clip][number] = file
    neighbours = [(at[k], at[k + 1]) for at in named.values() for k in sorted(at) if k + 1 in at]
    if not neighbours:
        return "none", "No two pictures have names that number them in a row: each counts by itself."
    rng = np.random.default_rng(seed)
    chosen = [neighbours[k] for k in sorted(rng.permutation(len(neighbours))[:PAIRS])]
    others = [(files[a], files[b]) for a, b in rng.integers(0, len(files), (PAIRS, 2)) if a != b and not _near(files[a], files[b])]
    near, far = ([value for pair in pairs if (value := _difference(*pair)) is not None] for pairs in (chosen, others))
    if len(near) < FEWEST or len(far) < FEWEST:
        return "names", "Pictures with numbered names count as frames of clips; too few of them can be compared (--clips names, or none)."
    more = float(np.mean(np.less.outer(near, far)))
    figures = f"neighbours in number are more alike than others in {more:.0%} of the comparisons"
    if more >= FILM:
        return "names", f"Pictures with numbered names count as frames of clips:\n  {figures}."
    if more <= NUMBERED:
        return "none", f"Numbered names, but no clips: {figures}; each picture counts by itself."
    raise DataError(f"two readings of the names {chosen[0][0].name}, {chosen[0][1].name}: frames of a film, or just numbered pictures ({figures}); "
                    "say which: --clips names, or --clips none")


def _near(one: Path, other: Path) -> bool:
    """Whether two pictures stand within ten of each other under one name."""
    (clip, number), (clip2, number2) = clip_and_number(one.as_posix()), clip_and_number(other.as_posix())
    return (one.parent, clip) == (other.parent, clip2) and abs(number - number2) < 10


def _difference(one: Path, other: Path) -> float | None:
    """Mean absolute difference of two thumbnails of equal mean and contrast; None where a picture cannot be read."""
    a, b = thumbnail(one, SIDE), thumbnail(other, SIDE)
    return None if a is None or b is None else float(np.abs(a - b).mean())
