"""Fine-tuning: a detector that starts from another one's weights, also where its classes or anchors are others."""
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .detector import Detector

OF_THE_DATA = ("mean", "std")  # each data set's own


@torch.no_grad()
def start_from_(model: Detector, weights: Mapping[str, Tensor], theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Replace a fresh detector's weights by a trained one's, and say what was taken; `theirs` and `ours` are the classes of both, in order.

    In the last convolutions of the classification heads a class takes the filters of the class of the same name, and background those of background;
    a class that is new starts fresh. Levels whose number of anchors differs keep their fresh last convolutions.
    Raises ValueError where the networks differ in anything else: then no weights are taken.
    """
    own = model.state_dict()
    rows = [(ours.index(name) + 1, theirs.index(name) + 1) for name in ours if name in theirs]
    last = {f"head.{part}.{k}.{len(tower) - 1}.{kind}": part for part in ("classify", "regress")
            for k, tower in enumerate(getattr(model.head, part)) for kind in ("weight", "bias")}
    kept = {key for key in own if key in OF_THE_DATA}
    wrong = [key for key in own.keys() | weights.keys() if key not in kept and key not in last
             and (key not in own or key not in weights or own[key].shape != weights[key].shape)]
    if wrong:
        raise ValueError(f"the trained network is another one: {sorted(wrong)[0]}{f' and {len(wrong) - 1} more tensors' if len(wrong) > 1 else ''} "
                         "do not fit; start from a run with the same backbone, neck, head_depth and profile")
    fresh = set()
    for key, value in own.items():
        if key in last and not _fits(value, weights.get(key), len(ours) + 1 if last[key] == "classify" else 4,
                                     len(theirs) + 1 if last[key] == "classify" else 4):
            fresh.add(key.split(".")[2])
        elif last.get(key) == "classify":
            mine, other = (t.view(-1, k + 1, *t.shape[1:]) for t, k in ((value, len(ours)), (weights[key], len(theirs))))
            for here, there in [(0, 0), *rows]:
                mine[:, here] = other[:, there].to(mine)
        elif key not in kept:
            value.copy_(weights[key])
    new = [name for name in ours if name not in theirs]
    return "; ".join(["all weights taken" if not fresh and not new else "weights taken",
                      *([f"new classes, fresh: {', '.join(new)}"] if new else []),
                      *([f"levels {', '.join(sorted(fresh))} have another number of anchors, their last convolutions are fresh"] if fresh else [])])


def _fits(mine: Tensor, other: Tensor | None, per_anchor: int, theirs: int) -> bool:
    """Whether two last convolutions, of `per_anchor` and `theirs` channels an anchor, have as many anchors."""
    return other is not None and mine.shape[0] // per_anchor == other.shape[0] // theirs and mine.shape[1:] == other.shape[1:]
