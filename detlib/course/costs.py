"""Exercises of notebook 07: what a layer costs, what a table counts, and what a time is the time of."""
import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .exercise import Case, Exercise

BATCH, BATCH_MS, GAP_MS = 32, 130.88, 40.0  # the report's batch and its baseline's time; a camera with 25 pictures a second


def _layer(channels_in: int, channels_out: int, kernel: int, grid_hw: tuple[int, int]) -> np.ndarray:
    """Parameters from torch's own layer, multiply-adds from torch's own counter, which counts each as two operations."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding="same")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, channels_in, *grid_hw))
    return np.array([sum(p.numel() for p in layer.parameters()), counter.get_total_flops() / 2])


def _speeds(batch_ms: list[float], batch: int) -> np.ndarray:
    times = np.asarray(batch_ms)
    return np.array([np.median(times), np.quantile(times, 0.95), 1000 * batch * len(times) / times.sum()])


EXERCISES = (
    Exercise("conv-cost", _layer,
             ("One filter has kernel x kernel weights for each input channel, and one bias.",
              "Every weight is used once in every cell of the map that comes out; biases are added, not multiplied.",
              "Parameters: out (in kernel² + 1). Multiply-adds: out in kernel² rows columns."),
             "the grid is only in the second number. Halve the stride, and the parameters stay while the work is four times as much.",
             lambda: [Case("1 x 1, 3 channels to 5, on 2 x 4 cells", (3, 5, 1, (2, 4))),
                      Case("3 x 3, 4 channels to 4, on 1 x 1 cell", (4, 4, 3, (1, 1))),
                      Case("3 x 3, 16 channels to 54, on 8 x 32 cells", (16, 54, 3, (8, 32)))]),
    Exercise("trained-parameters", 48_198_602.0 - 65_856 * 4 - (2048 * 1000 + 1000),
             ("Which numbers of the 48,198,602 does no step of training ever change?", "Each anchor is stored as four numbers.",
              "fc is a linear layer: 2,048 x 1,000 weights, and 1,000 biases. Subtract both."),
             "the table's header says parameters, its sums say numbers in memory. Both are worth knowing, under their own names.", tolerance=1e-9,
             pointers={48_198_602.0: "the report's own number.", 48_198_602.0 - 65_856 * 4: "still with the layer that is never called.",
                       48_198_602.0 - 2_049_000: "still with the anchors, which are stored and not trained.",
                       48_198_602.0 - 65_856 - 2_049_000: "with the anchors counted once each; a box is four numbers.",
                       48_198_602.0 - 65_856 * 4 - 2_048_000: "still with the biases of fc."}),
    Exercise("oldest-picture", (BATCH - 1) * GAP_MS + BATCH_MS,
             ("When is a batch of 32 complete? Think of the picture that came first.", "25 pictures a second are 40 ms from one to the next.",
              "The first waits for 31 gaps of 40 ms, then for the batch: 130.88 ms."),
             "more than a second, on a row whose table says 4.09 ms. At 50 km/h that is 19 m of road. A rate is no wait.", tolerance=1e-4,
             pointers={BATCH_MS / BATCH: "batch time over batch size: how often a picture comes out, not how old it is.",
                       BATCH_MS: "only the wait after the last picture has come.",
                       BATCH * GAP_MS + BATCH_MS: "one gap too many: between 32 pictures there are fewer gaps than pictures.",
                       (BATCH - 1) * GAP_MS: "the wait until the batch is full; then it has still to be computed.",
                       GAP_MS + BATCH_MS: "what the last but one waits. The first waits for all that come after it."}),
    Exercise("speeds", _speeds,
             ("A call answers for its whole batch, so its time is the wait of every picture in it.",
              "Throughput is pictures by time, over all calls together.",
              "`np.median(t)`, `np.quantile(t, 0.95)`, and 1000 x batch x number of calls / sum of times."),
             "one slow call hardly moves the median, moves the 95th percentile much, and the throughput a little. So print all three.",
             lambda: [Case("two calls of one picture", ([20.0, 20.0], 1)),
                      Case("five calls of a batch of 4, one of them slow", ([40.0, 42, 41, 200, 40], 4)),
                      Case("100 calls of a batch of 32", (np.random.default_rng(0).gamma(9, 15, 100).tolist(), 32))]),
)
