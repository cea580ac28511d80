"""Everything on one page: of each row how good it is, whether that differs from the best, what it takes, and what it gets wrong."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..data.coco import Dataset
from .coco import kept_detections
from .compare import FEWEST_CLIPS, difference, signed
from .errors import MEAN, TYPES, error_types
from .intervals import LEVEL
from .ladder import Row
from .outcomes import Outcome


def verdict(rows: Sequence[Row], outcomes: Mapping[str, Outcome], delays: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """One line of text a row that was trained: mAP, the difference to the row of highest mAP in pairs, latency, and what a user meets.

    `outcomes` are at each row's working score, that of its best F1; `delays` is `cost.latency`. The costliest error is the type that loses most AP50
    (TIDE), of the first training. Raises ValueError where no row was trained.
    """
    trained = [(row, row.value) for row in rows if row.value and row.name in outcomes]
    if not trained:
        raise ValueError("no row of the ladder is trained yet: `detlib train LADDER`")
    (best, _), table = max(trained, key=lambda one: np.nan_to_num(one[1][0], nan=-1)), {}
    for row, (value, low, high) in trained:
        seen = outcomes[row.name]
        costs = error_types(kept_detections(row.runs[0], dataset), seen.split).loc[list(TYPES), MEAN]
        table[row.name] = {
            f"mAP, {LEVEL:.0%} interval": f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low < high else ""),
            "to the best": _to_the_best(best, row, dataset),
            "ms (p50)": f"{delays.loc[row.name, 'p50']:.0f}" if row.name in delays.index else "-",
            "objects found": f"{seen.found.sum() / max(len(seen.objects), 1):.0%}",
            "false alarms a frame": f"{len(seen.false_alarms) / max(len(seen.split), 1):.1f}", "score from": f"{seen.score_min:.2f}",
            "costliest error": f"{costs.idxmax()}, {costs.max():.2f} AP50" if costs.notna().any() else "-"}
    return pd.DataFrame(table).T


def _to_the_best(best: Row, row: Row, dataset: Dataset) -> str:
    if row.name == best.name:
        return "the highest"
    found = difference(best.runs, row.runs, dataset)
    if found.clips < FEWEST_CLIPS:
        return "nothing can be said"
    return signed(found.value) if found.measurable else "in the noise"
