"""Random variants of recordings: all frames of one are changed alike, so that motion stays what it is."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from snn.data.schema import DatasetConfig

#: Magnitudes of a change are one of so many, evenly spaced.
_BINS = 31
#: Shear along the width, moves in pixels, degrees of a turn, and share of the area that a square takes.
_SHEAR, _MOVE, _TURN, _SQUARE = 0.3, 5.0, 30.0, (0.01, 0.11)
_CHANGES = ("none", "shear", "move across", "move down", "turn", "square")


class EventAugmentation:
    """What varies the recordings of one epoch.

    The draws for a row depend on (seed, epoch, row) alone, so neither the batch size, nor the number of workers, nor a
    start in the middle of an epoch changes them.

    Args:
        config: Which changes, and how strong.
        seed: The run's seed.
        epoch: Counted from 0.
        rows: Number of rows in the split.

    Reference:
        Zhou et al., Spikformer, ICLR 2023, for ``wide`` with a mirror image of every other recording.
    """

    def __init__(self, config: DatasetConfig, seed: int, epoch: int, rows: int):
        self.config, self.seed, self.epoch = config, seed, epoch

    @staticmethod
    def wanted(config: DatasetConfig) -> bool:
        """Whether the config asks for any change."""
        events = config.events
        asked = events is not None and (events.augment != "none" or events.rotate > 0)
        return asked or config.augment_crop > 0 or config.augment_flip

    def __call__(self, frames: Tensor, rows: np.ndarray) -> Tensor:
        """Change a batch.

        Shape:
            ``[B, T, 2, H, W]`` to the same.
        """
        return torch.stack([self.changed(clip, int(row)) for clip, row in zip(frames, rows)])

    def changed(self, clip: Tensor, row: int) -> Tensor:
        """Change one recording, ``[T, 2, H, W]``."""
        rng = np.random.default_rng([self.seed, self.epoch, row])
        crop, events = self.config.augment_crop, self.config.events
        assert events is not None
        if crop:
            height, width = clip.shape[-2:]
            top, left = rng.integers(0, 2 * crop + 1, size=2)
            padded = torch.nn.functional.pad(clip, (crop, crop, crop, crop))
            clip = padded[..., top : top + height, left : left + width]
        if self.config.augment_flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        if events.rotate:
            clip = _moved(clip, degrees=rng.uniform(-events.rotate, events.rotate))
        return _wide(clip, rng) if events.augment == "wide" else clip


def _wide(clip: Tensor, rng: np.random.Generator) -> Tensor:
    change = _CHANGES[rng.integers(len(_CHANGES))]
    share = rng.integers(_BINS) / (_BINS - 1)
    signed = share if rng.random() < 0.5 else -share
    if change == "shear":
        return _moved(clip, shear=math.degrees(math.atan(_SHEAR * signed)))
    if change == "move across":
        return _moved(clip, across=round(_MOVE * signed))
    if change == "move down":
        return _moved(clip, down=round(_MOVE * signed))
    if change == "turn":
        return _moved(clip, degrees=_TURN * signed)
    return _without_square(clip, share, rng) if change == "square" else clip


def _moved(clip: Tensor, degrees: float = 0.0, across: int = 0, down: int = 0, shear: float = 0.0) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.affine(clip, degrees, [across, down], 1.0, [shear, 0.0])


def _without_square(clip: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    height, width = clip.shape[-2:]
    least, most = _SQUARE
    side = math.sqrt((least + share * (most - least)) * height * width)
    y, x = rng.random(2) * (height, width)
    top, left = (max(0, round(centre - side / 2)) for centre in (y, x))
    clip = clip.clone()
    clip[..., top : round(y + side / 2), left : round(x + side / 2)] = 0
    return clip
