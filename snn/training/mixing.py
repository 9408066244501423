"""Mixed training pictures: mixup and CutMix, with shares of classes for labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from snn.config import TrainingConfig


@dataclass(frozen=True)
class Mixing:
    """Mixes every picture of a batch with the one at the same place from the end, all in the same proportion.

    What is drawn depends on (seed, epoch, batch) alone, so a run that starts again goes on bit for bit.

    Args:
        mixup: Both parameters of the beta distribution that the share is drawn from; 0: no mixup.
        cutmix: The same for CutMix, where a rectangle of that share is pasted; 0: no CutMix.
        probability: Share of the batches that are mixed, in [0, 1]. With both, half of them each.
        classes: Number of classes.
        seed: The run's seed.

    Reference:
        Zhang et al., ICLR 2018 (mixup); Yun et al., ICCV 2019 (CutMix).
    """

    mixup: float
    cutmix: float
    probability: float
    classes: int
    seed: int

    @classmethod
    def of(cls, training: TrainingConfig, classes: int, seed: int) -> Mixing | None:
        """As the config says; None: no mixing."""
        if not training.mixup and not training.cutmix:
            return None
        return cls(training.mixup, training.cutmix, training.mix_probability, classes, seed)

    def __call__(self, batch: Mapping[str, Tensor], epoch: int, number: int) -> dict[str, Tensor]:
        """Mix a batch.

        Args:
            batch: With ``pixel_values`` and ``labels``.
            epoch: Counted from 0.
            number: Of the batch in its epoch.

        Shape:
            ``pixel_values`` ``[B, C, H, W]`` to the same; ``labels`` ``[B]`` to shares ``[B, classes]``.
        """
        rng = np.random.default_rng([self.seed, epoch, number])
        mixes, cuts = rng.random() < self.probability, rng.random() < 0.5
        cuts = bool(self.cutmix) and (cuts or not self.mixup)
        parameter = self.cutmix if cuts else self.mixup
        share = rng.beta(parameter, parameter) if mixes else 1.0
        pixels = batch["pixel_values"]
        if cuts:
            pixels, share = _pasted(pixels, share, *rng.random(2))
        else:
            pixels = pixels.lerp(pixels.flip(0), 1 - share)
        labels = functional.one_hot(batch["labels"], self.classes).to(pixels.dtype)
        return {**batch, "pixel_values": pixels, "labels": labels.lerp(labels.flip(0), 1 - share)}


def _pasted(pixels: Tensor, share: float, down: float, across: float) -> tuple[Tensor, float]:
    """Paste a rectangle of ``1 - share`` of the area, clipped at the borders; return what share is left, too."""
    height, width = pixels.shape[-2:]
    half = np.sqrt(1 - share) / 2
    top, bottom = (int(np.clip(round(height * (down + sign * half)), 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(round(width * (across + sign * half)), 0, width)) for sign in (-1, 1))
    pasted = pixels.clone()
    pasted[..., top:bottom, left:right] = pixels.flip(0)[..., top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)
