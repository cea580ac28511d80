"""Label audit: which annotations of a split look wrong, most suspicious first, and how many of errors planted on purpose are found."""
from .findings import FEWEST, SHAPE, findings
from .proof import judge, outcomes, planted_outcomes

__all__ = ["FEWEST", "SHAPE", "findings", "judge", "outcomes", "planted_outcomes"]
