"""Exercises of notebook 04: focal loss and its gradient, the prior's bias, the pyramid's sums, a paired interval, and what did nothing."""
import numpy as np
import torch
from torch import Tensor, nn

from ..models.fpn import FPN
from ..models.heads import Head
from ..models.losses import ALPHA, GAMMA, focal_loss
from .exercise import Case, Exercise


def _focal(logits: Tensor, classes: Tensor, gamma: float, alpha: tuple[float, float]) -> Tensor:
    return focal_loss(logits[None], classes[None], gamma, alpha)


def _gradient(logits: Tensor, classes: Tensor, gamma: float, alpha: tuple[float, float]) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(_focal(logits, classes, gamma, alpha), logits)[0]


def _logits() -> list[Case]:
    logits = 2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([0, 2, 0, 1, 3, 0])
    inputs = {"gamma 0 and alphas 1, the cross-entropy": (logits, classes, 0.0, (1.0, 1.0)),
              "gamma 2 and alphas 1": (logits, classes, 2.0, (1.0, 1.0)),
              "a background anchor and the report's alphas": (logits[:1], classes[:1], GAMMA, ALPHA),
              "six anchors and the report's alphas": (logits, classes, GAMMA, ALPHA)}
    return [Case(what, args, part) for part in (0, 1) for what, args in inputs.items()]


def _background_bias(prior: float, num_classes: int) -> float:
    return float(Head((1,), (1,), num_classes, 0, prior).classify[0][-1].bias[0].detach())  # type: ignore[index]


def _merged(laterals: list[Tensor]) -> list[Tensor]:
    channels = laterals[0].shape[0]
    pyramid = FPN((channels,) * len(laterals), channels)
    for layer in [*pyramid.laterals, *pyramid.smooth]:
        nn.init.dirac_(layer.weight)  # each convolution hands on what it gets, so that the sums alone are left
    with torch.no_grad():
        return [level[0] for level in pyramid([level[None] for level in laterals])]


def _maps() -> list[Case]:
    generator = torch.Generator().manual_seed(0)
    lit = [torch.zeros(1, 4, 8), torch.zeros(1, 2, 4), torch.zeros(1, 1, 2)]
    lit[2][0, 0, 1] = 1.0
    return [Case("one level", ([torch.ones(1, 2, 4)],)), Case("two levels, a lit cell on the coarse one", (lit[1:],)),
            Case("three levels, a lit cell on the coarsest", (lit,)),
            Case("three levels at random", ([torch.randn(2, 8 >> k, 16 >> k, generator=generator) for k in range(3)],))]


def _interval(a: np.ndarray, b: np.ndarray, picks: np.ndarray) -> np.ndarray:
    return np.quantile((b - a)[picks].mean(1), [0.025, 0.975])


def _trials() -> list[Case]:
    rng = np.random.default_rng(0)
    a = rng.uniform(0.05, 0.4, 12)
    picks = rng.integers(0, 12, (400, 12))
    return [Case("a gain of 0.1 on every clip", (a, a + 0.1, picks)), Case("a gain that varies", (a, a + rng.normal(0.02, 0.03, 12), picks)),
            Case("a loss", (a, a - rng.uniform(0, 0.05, 12), picks))]


EXERCISES = (
    Exercise("fpn-merge", _merged,
             ("Begin at the coarsest level, the last of the list. It stays as it is.",
              "Each finer level gets the next coarser one *as merged*, twice as high and wide, so that knowledge is handed down all the way.",
              "Nearest upsampling repeats each cell: `repeat_interleave(2, -2).repeat_interleave(2, -1)`."),
             "one lit cell of the coarsest map is a block of 4 x 4 cells on the finest: this is all that the pyramid adds, and section 2 shows it "
             "at work.", _maps),
    Exercise("focal", (_focal, _gradient),
             ("The loss: `torch.log_softmax(logits, -1)`, of which each anchor keeps the entry of its class; alpha[0] for background, alpha[1] for "
              "the rest.",
              "The gradient is a chain: d loss / d log p of an anchor, times d log p / d logits, which is (1 at the class, 0 elsewhere) - softmax.",
              "d loss / d log p = alpha (gamma p (1 - p)^(gamma - 1) log p - (1 - p)^gamma). With gamma 0 that leaves -alpha."),
             "look at the factor (1 - p)^gamma in the gradient: an anchor that is nearly right hardly moves the weights. That is the whole idea.",
             _logits),
    Exercise("bias-prior", _background_bias,
             ("With all other scores at 0, softmax gives background e^b / (e^b + K). Set that to 1 - prior.",
              "Solve for b. K classes share the rest.",
              "b = log((1 - prior) K / prior)."),
             "log(99) alone, the paper's number for a sigmoid, would start eight classes at a foreground of 0.07 instead of 0.01.",
             lambda: [Case("a prior of 0.01 and 8 classes", (0.01, 8)), Case("a prior of 0.5 and 1 class", (0.5, 1)),
                      Case("a prior of 0.1 and 3 classes", (0.1, 3))]),
    Exercise("paired-interval", _interval,
             ("`picks` holds a resample of the clips in each row. Both models must meet the same resample.",
              "Subtract clip by clip, then take the mean of each row: `(b - a)[picks].mean(1)`.",
              "The ends are `np.quantile(..., [0.025, 0.975])` of these means."),
             "where b gains the same on every clip, the interval has no width at all, however much the clips differ. Two separate intervals would "
             "overlap.",
             _trials),
    Exercise("no-effect", "b",
             ("What would have happened with the same fill on all six levels?", "Write down the softmax of (z1 + c, z2 + c, ...) and cancel.",
              "A fresh head's softmax is the same before and after. Which answer says so?"),
             "only differences between scores matter. Background alone must be raised, and on every level.",
             pointers={"a": "log(0.99 · 8 / 0.01) is 6.7: on background alone it would have been ample.",
                       "c": "true, but filling all six levels in the same way would have done nothing either.",
                       "d": "a bias acts from the first step on, and this bias alone leaves the softmax of a fresh head as it was.",
                       "e": "Adam scales gradients. What a fresh network says comes before the first of them.",
                       "f": "the fill used p = 0.99 for background, as it should; look at where it went."}),
)
