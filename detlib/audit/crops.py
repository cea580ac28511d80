"""A small network that looks at the crop under a box: which class it shows, and whether the box is right, at a wrong place, or beside its object.

It is R-CNN's second half (Girshick et al. 2014) in small: boxes come from the annotations, every crop has the same size, and what is learned are
the annotations of other clips, each once as it is, once where it does not belong, and once shifted, with the shift as a target.
"""
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, smooth_l1_loss
from torchvision.ops import roi_align

from ..data.coco import Split
from ..data.loader import Cache
from ..data.planting import BOX, SHIFT, whole

SIDE = 12  # px of a crop
CONTEXT, LEAST = 0.3, 2.0  # around a box: shares of its sides, but so many px at least
STATES = ("right", "spurious", "shifted")
STEPS, EPOCHS, BATCH = 630, (6, 40), 128  # about so many steps, in at least and at most so many epochs
RATE, DECAY = 6e-3, 1e-2
FRESH = 4  # epochs after which wrong boxes are drawn anew
MOVE = 3.0  # weight of the shift's loss

Look = Callable[[np.ndarray, np.ndarray], np.ndarray]  # frames (M,), boxes (M, 4) -> (M, K + 5): chances of classes and STATES, shift x, y in sides


class Crops:
    """Crops of a split's frames; the seam of a panorama is no edge."""

    def __init__(self, split: Split, panorama: bool):
        self.sizes = torch.tensor([frame.image_hw for frame in split.frames], dtype=torch.float32).reshape(-1, 2)
        self.mode, self.images = "circular" if panorama else "constant", Cache(split)
        self.channels = self.images[0].shape[0]

    def __call__(self, frame: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
        """Crops (M, C, SIDE, SIDE) of boxes (M, 4) xyxy px in frames (M,), and numbers on each box's shape and place (M, 5)."""
        corners, height = torch.from_numpy(np.asarray(boxes, float)).float(), self.sizes[torch.from_numpy(np.asarray(frame, int)), 0]
        sides = (corners[:, 2:] - corners[:, :2]).clamp(min=0.5)
        wide, tall = (sides / height[:, None]).log().unbind(1)
        numbers = torch.stack([wide + 2, tall + 2, 4 * corners[:, 3] / height - 2.5, 4 * corners[:, 1] / height - 2, wide - tall], dim=1)
        around = (CONTEXT * sides).clamp(min=LEAST)
        grown = torch.cat([corners[:, :2] - around, corners[:, 2:] + around], dim=1)
        pieces = torch.zeros(len(corners), self.channels, SIDE, SIDE)
        for index in np.unique(frame):
            rows, image = np.flatnonzero(frame == index), self.images[int(index)].float()[None] / 128 - 1
            margin = image.shape[-1] // 4
            wider = pad(image, (margin, margin, 0, 0), mode=self.mode)
            pieces[rows] = roi_align(wider, [grown[rows] + torch.tensor([margin, 0, margin, 0])], SIDE, sampling_ratio=2, aligned=True)
        return pieces, numbers


class _Network(nn.Module):
    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.picture = nn.Sequential(nn.Conv2d(channels, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
                                     nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(48 * (SIDE // 4) ** 2 + 5, 96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, outputs))

    def forward(self, pieces: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.picture(pieces), numbers], dim=1))


def learn(crops: Crops, split: Split, rows: np.ndarray, seed: int) -> Look:
    """Train a network on these rows of the split's table of boxes; -> the function that looks at crops with it."""
    draws, classes, count = np.random.default_rng(seed), len(split.categories), len(rows)
    label = torch.from_numpy(np.tile(split.boxes["label"].to_numpy()[rows] - 1, 3))
    state = torch.arange(3).repeat_interleave(count)
    batches = -(-3 * count // BATCH)
    epochs = int(np.clip(STEPS / batches, *EPOCHS))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Network(crops.channels, classes + len(STATES) + 2)
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * batches)
        for epoch in range(epochs):
            if epoch % FRESH == 0:
                pieces, numbers, move = _examples(crops, split, rows, draws)
            for chosen in torch.from_numpy(draws.permutation(3 * count)).split(BATCH):
                mirrored = draws.random() < 0.5
                out = network(pieces[chosen].flip(-1) if mirrored else pieces[chosen], numbers[chosen])
                loss = _loss(out, label[chosen], state[chosen], move[chosen] * torch.tensor([-1.0 if mirrored else 1.0, 1.0]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    network.eval()
    @torch.no_grad()
    def look(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        names, states, moves = network(*crops(frame, boxes)).split([classes, len(STATES), 2], dim=1)
        return torch.cat([names.softmax(1), states.softmax(1), moves], dim=1).double().numpy()

    return look


def _loss(out: Tensor, label: Tensor, state: Tensor, move: Tensor) -> Tensor:
    names, states, moves = out.split([out.shape[1] - len(STATES) - 2, len(STATES), 2], dim=1)
    there = (state != STATES.index("spurious")).float()
    of_objects = cross_entropy(names, label, reduction="none") + MOVE * smooth_l1_loss(moves, move, beta=0.1, reduction="none").mean(1)
    return cross_entropy(states, state) + (of_objects * there).sum() / there.sum().clamp(min=1)


def _examples(crops: Crops, split: Split, rows: np.ndarray, draws: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Crops, numbers and shifts of the rows' boxes as they are, at a random column of a random frame of these, and shifted."""
    frame, boxes = split.boxes["frame"].to_numpy()[rows], split.boxes[BOX].to_numpy(float)[rows]
    other = draws.choice(np.unique(frame), size=len(rows))
    width = crops.sizes.numpy()[other, 1]
    wide = np.minimum(boxes[:, 2] - boxes[:, 0], width)
    x1 = np.floor(draws.uniform(0, width - wide))
    axis = draws.integers(2, size=len(rows))[:, None] == [[0, 1]]
    sides = boxes[:, 2:] - boxes[:, :2]
    move = axis * sides * draws.uniform(*SHIFT, size=(len(rows), 1)) * draws.choice([-1, 1], size=(len(rows), 1))
    if whole(split):
        move = np.sign(move) * np.maximum(np.round(np.abs(move)), axis)
    elsewhere = np.stack([x1, boxes[:, 1], x1 + wide, boxes[:, 3]], axis=1)
    pieces, numbers = crops(np.concatenate([frame, other, frame]), np.concatenate([boxes, elsewhere, boxes + np.tile(move, 2)]))
    return pieces, numbers, torch.from_numpy(np.concatenate([np.zeros((2 * len(rows), 2)), move / sides])).float()
