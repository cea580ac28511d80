"""Losses over all anchors of a batch, summed and divided by the number of positive anchors."""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, smooth_l1_loss

NEGATIVES = 3  # hard negatives for each positive: Liu et al. 2016, sec. 2.2
GAMMA, ALPHA = 2.0, (0.01, 0.99)  # the report's focal loss: weight of background, of every class
PAPER_ALPHA = (0.75, 0.25)  # Lin et al. 2017b, table 1b, at the same gamma: the other way round


def classification_loss(logits: Tensor, classes: Tensor, kind: str) -> Tensor:
    """Sum over the batch: 'hard_negatives', 'focal', or 'focal_paper' with the paper's alphas; logits (N, R, K+1), classes (N, R)."""
    if kind == "hard_negatives":
        return hard_negative_loss(logits, classes)
    return focal_loss(logits, classes, alpha={"focal": ALPHA, "focal_paper": PAPER_ALPHA}[kind])


def by_class(logits: Tensor) -> Tensor:
    """(..., R, K+1) -> (..., K+1, R) float32: the softmax of many anchors over few classes takes a CPU a fifth of the time in rows of anchors."""
    return logits.transpose(-1, -2).contiguous().float()  # in this order: fewer bytes are moved


def hard_negatives(logits: Tensor, classes: Tensor) -> Tensor:
    """Which background anchors count, (N, R) bool: in each image those of highest loss, three for each positive (SSD, sec. 2.2)."""
    positive = classes > 0
    losses = -log_softmax(by_class(logits.detach()), dim=-2)[..., 0, :]  # (N, R): what a background anchor costs
    losses = losses.masked_fill(positive, -1)  # below every negative's
    wanted = (NEGATIVES * positive.sum(dim=1)).minimum((~positive).sum(dim=1))  # (N,)
    hardest = losses.topk(int(wanted.max()), dim=1).indices
    chosen = torch.arange(hardest.shape[1], device=losses.device) < wanted[:, None]
    return torch.zeros_like(positive).scatter(1, hardest, chosen)


def hard_negative_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Softmax cross-entropy over the positives and their hard negatives."""
    counts = (classes > 0) | hard_negatives(logits, classes)
    return cross_entropy(logits[counts].float(), classes[counts], reduction="sum")


def focal_loss(logits: Tensor, classes: Tensor, gamma: float = GAMMA, alpha: tuple[float, float] = ALPHA) -> Tensor:
    """Focal loss (Lin et al. 2017b, eq. 5), softmax form: -alpha (1 - p)^gamma log p of the right class, over all anchors."""
    log_p = log_softmax(by_class(logits), dim=-2).gather(-2, classes[..., None, :])[..., 0, :]  # (N, R)
    weight = torch.where(classes > 0, log_p.new_tensor(alpha[1]), log_p.new_tensor(alpha[0]))
    return -(weight * (1 - log_p.exp()) ** gamma * log_p).sum()


def detection_loss(logits: Tensor, deltas: Tensor, classes: Tensor, encoded: Tensor, kind: str,
                   count: Callable[[Tensor], Tensor] = lambda number: number) -> dict[str, Tensor]:
    """The two parts, 'classes' and 'boxes' (smooth L1 over the positives), each over the number of positives in the batch.

    logits (N, R, K+1), deltas (N, R, 4), classes (N, R), encoded (P, 4) of the P positives in order. A batch without objects divides by one. Where
    the batch is divided over processes, `count` turns this part's number of positives into that of the whole.
    """
    positive = classes > 0
    number = count(positive.sum()).clamp(min=1)
    return {"classes": classification_loss(logits, classes, kind) / number,
            "boxes": smooth_l1_loss(deltas[positive].float(), encoded, reduction="sum") / number}
