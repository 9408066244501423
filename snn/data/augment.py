"""Random variants of training pictures, a batch at a time."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn.data.pictures import Box
from snn.data.policies import Policy, make_policy
from snn.data.schema import DatasetConfig

#: Height to width of a random part, from and to.
_RATIOS = (3 / 4, 4 / 3)
#: Share of a picture that random erasing takes, and height to width of it (Zhong et al., AAAI 2020).
_ERASED, _ERASED_RATIOS = (0.02, 1 / 3), (0.3, 10 / 3)
_DRAWS = {"resized_crop": 4, "crop": 2, "flip": 1, "policy": 16, "cutout": 2, "erasing": 5}


class Augmentation:
    """What varies the pictures of one epoch.

    The draws for a row depend on (seed, epoch, row) alone, and those of one kind of change not on which others are
    switched on. So neither the batch size, nor the number of workers, nor a start in the middle of an epoch
    changes a picture.

    Args:
        config: Which changes, and how strong.
        seed: The run's seed.
        epoch: Counted from 0.
        rows: Number of rows in the split.
    """

    def __init__(self, config: DatasetConfig, seed: int, epoch: int, rows: int):
        self.config, self.seed, self.epoch, self.rows = config, seed, epoch, rows
        self._drawn: dict[str, np.ndarray] = {}

    @staticmethod
    def wanted(config: DatasetConfig) -> bool:
        """Whether the config asks for any change."""
        c = config
        asked = (c.augment_crop, c.augment_flip, c.augment_resized_crop, c.augment_policy)
        return any(map(bool, (*asked, c.augment_cutout, c.augment_erasing)))

    @cached_property
    def policy(self) -> Policy | None:
        c = self.config
        if c.augment_policy is None:
            return None
        return make_policy(c.augment_policy, c.augment_operations, c.augment_strength)

    def draws(self, kind: str, rows: np.ndarray) -> np.ndarray:
        """Numbers in [0, 1) for one kind of change.

        Shape:
            ``[B, K]``.
        """
        if kind not in self._drawn:
            rng = np.random.default_rng([self.seed, self.epoch, list(_DRAWS).index(kind)])
            self._drawn[kind] = rng.random((self.rows, _DRAWS[kind]), dtype=np.float32)
        return self._drawn[kind][rows]

    def box(self, row: int, width: int, height: int) -> Box | None:
        """The part of a picture that is taken, if parts are: an area at random, of a shape at random.

        Reference:
            Szegedy et al., CVPR 2015.
        """
        if not self.config.augment_resized_crop:
            return None
        area, shape, across, down = self.draws("resized_crop", np.array([row]))[0].tolist()
        smallest, largest = self.config.augment_resized_crop
        pixels = width * height * (smallest + area * (largest - smallest))
        low, high = np.log(_RATIOS)
        ratio = math.exp(_between(low, high, shape))
        wide, high = min(width, math.sqrt(pixels * ratio)), min(height, math.sqrt(pixels / ratio))
        left, top = across * (width - wide), down * (height - high)
        return left, top, left + wide, top + high

    def pixels(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Change pixels as they were decoded.

        Shape:
            ``[B, H, W, C]`` to the same.
        """
        if self.config.augment_crop:
            images = self._cropped(images, rows)
        if self.config.augment_flip:
            mirrored = self.draws("flip", rows)[:, 0] < 0.5
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if self.policy is not None:
            images = self.policy(images, self.draws("policy", rows))
        return images

    def normalised(self, pixels: Tensor, rows: np.ndarray) -> Tensor:
        """Erase parts of pictures that have been normalised: what is erased becomes the mean.

        Shape:
            ``[B, C, H, W]`` to the same.

        Reference:
            DeVries and Taylor, 2017 (Cutout); Zhong et al., AAAI 2020 (random erasing).
        """
        height, width = pixels.shape[-2:]
        if self.config.augment_cutout:
            centre = self.draws("cutout", rows) * (height, width)
            half = np.full(2, self.config.augment_cutout / 2)
            pixels = _erased(pixels, np.floor(centre) - half, np.floor(centre) + half)
        if self.config.augment_erasing:
            draws = self.draws("erasing", rows)
            area = height * width * _between(*_ERASED, draws[:, 0])
            low, high = np.log(_ERASED_RATIOS)
            ratio = np.exp(_between(low, high, draws[:, 1]))
            sides = np.stack(
                [np.sqrt(area * ratio).clip(max=height), np.sqrt(area / ratio).clip(max=width)], 1
            )
            start = np.floor(draws[:, 2:4] * ((height, width) - sides))
            start[draws[:, 4] >= self.config.augment_erasing] = (height, width)  # outside: nothing is erased
            pixels = _erased(pixels, start, start + sides)
        return pixels

    def _cropped(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        margin = self.config.augment_crop
        frame = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        corners = (self.draws("crop", rows) * (2 * margin + 1)).astype(int)
        height, width = images.shape[1:3]
        cropped = np.empty_like(images)
        # A slice for each picture is several times as fast as one gather for all.
        for number, (top, left) in enumerate(corners.tolist()):
            cropped[number] = frame[number, top : top + height, left : left + width]
        return cropped


def _between(low: Any, high: Any, share: Any) -> Any:
    return low + share * (high - low)


def _erased(pixels: Tensor, start: np.ndarray, end: np.ndarray) -> Tensor:
    """Zero in ``[start, end)`` of each picture, both ``[B, 2]``: rows, columns."""
    low, high = torch.from_numpy(start), torch.from_numpy(end)
    down, across = (torch.arange(length) for length in pixels.shape[-2:])
    inside_rows = (down >= low[:, :1]) & (down < high[:, :1])
    inside_columns = (across >= low[:, 1:]) & (across < high[:, 1:])
    return pixels.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0.0)
