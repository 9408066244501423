"""Policies of augmentation: which operations are applied to which picture, a group of pictures at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from snn.errors import DataError, did_you_mean

#: Name → name of the table of torchvision.
_TABLES = {
    "autoaugment_cifar10": "cifar10",
    "autoaugment_imagenet": "imagenet",
    "autoaugment_svhn": "svhn",
}
POLICIES = (*_TABLES, "randaugment")
#: What comes in from outside of a picture that is moved, as published for CIFAR.
_FILL = 128
_BINS = 9


def _affine(
    images: Tensor,
    angle: float = 0.0,
    shift: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0, 0),
    centre: list[float] | None = None,
) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    fill = float(_FILL) if images.dtype == torch.uint8 else _FILL / 255
    return F.affine(images, angle, list(shift), 1.0, list(shear), fill=fill, center=centre)


def _shear(images: Tensor, share: float, axis: int) -> Tensor:
    degrees = math.degrees(math.atan(0.3 * share))
    shear = (degrees, 0.0) if axis == 0 else (0.0, degrees)
    return _affine(images, shear=shear, centre=[0.0, 0.0])


def _translate(images: Tensor, share: float, axis: int) -> Tensor:
    length = images.shape[-1 - axis]
    pixels = int(150 / 331 * length * share)
    return _affine(images, shift=(pixels, 0) if axis == 0 else (0, pixels))


def _adjust(images: Tensor, share: float, what: str) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return getattr(F, f"adjust_{what}")(images, 1 + 0.9 * share)


def _plain(images: Tensor, share: float, what: str) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return getattr(F, what)(images)


def _posterize(images: Tensor, share: float) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return F.posterize(images, 8 - round(4 * share))


def _solarize(images: Tensor, share: float) -> Tensor:
    from torchvision.transforms.v2 import functional as F

    return F.solarize(images, (255 if images.dtype == torch.uint8 else 1.0) * (1 - share))


@dataclass(frozen=True)
class Operation:
    """One operation on a group of pictures ``[G, C, H, W]``.

    Args:
        apply: Takes the pictures and the strength, in [-1, 1].
        signed: Whether a strength may be negative.
    """

    apply: Callable[[Tensor, float], Tensor]
    signed: bool = False


#: Cubuk et al., CVPR 2019, table 6: at strength 1 the largest magnitude.
OPERATIONS: dict[str, Operation] = {
    "ShearX": Operation(lambda x, s: _shear(x, s, 0), signed=True),
    "ShearY": Operation(lambda x, s: _shear(x, s, 1), signed=True),
    "TranslateX": Operation(lambda x, s: _translate(x, s, 0), signed=True),
    "TranslateY": Operation(lambda x, s: _translate(x, s, 1), signed=True),
    "Rotate": Operation(lambda x, s: _affine(x, angle=-30 * s), signed=True),
    "Brightness": Operation(lambda x, s: _adjust(x, s, "brightness"), signed=True),
    "Color": Operation(lambda x, s: _adjust(x, s, "saturation"), signed=True),
    "Contrast": Operation(lambda x, s: _adjust(x, s, "contrast"), signed=True),
    "Sharpness": Operation(lambda x, s: _adjust(x, s, "sharpness"), signed=True),
    "Posterize": Operation(_posterize),
    "Solarize": Operation(_solarize),
    "AutoContrast": Operation(lambda x, s: _plain(x, s, "autocontrast")),
    "Equalize": Operation(lambda x, s: _plain(x, s, "equalize")),
    "Invert": Operation(lambda x, s: _plain(x, s, "invert")),
    "Identity": Operation(lambda x, s: x),
}


class Policy(ABC):
    """Chooses operations for pictures."""

    @abstractmethod
    def steps(self, draws: np.ndarray) -> list[list[tuple[str, float] | None]]:
        """For each step, for each picture, an operation and its strength; None: none."""

    def __call__(self, images: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Apply all steps, each operation to all pictures that get it at once.

        Args:
            images: Pixels, uint8 or floats in 0..1.
            draws: Numbers in [0, 1).

        Shape:
            ``[B, H, W, C]`` and ``[B, K]`` to ``[B, H, W, C]``.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        for step in self.steps(draws):
            groups: dict[tuple[str, float], list[int]] = {}
            for number, chosen in enumerate(step):
                if chosen is not None:
                    groups.setdefault(chosen, []).append(number)
            for (name, strength), members in groups.items():
                pixels[members] = OPERATIONS[name].apply(pixels[members], strength)
        return pixels.permute(0, 2, 3, 1).numpy()


class AutoAugment(Policy):
    """One of 25 pairs of operations for each picture, each with a probability of its own.

    Args:
        table: ``cifar10``, ``imagenet`` or ``svhn``: which pairs.

    Reference:
        Cubuk et al., CVPR 2019.
    """

    def __init__(self, table: str):
        from torchvision.transforms import AutoAugmentPolicy
        from torchvision.transforms.autoaugment import AutoAugment as Published

        self.pairs = Published(AutoAugmentPolicy(table)).policies

    def steps(self, draws: np.ndarray) -> list[list[tuple[str, float] | None]]:
        pairs = [self.pairs[number] for number in (draws[:, 0] * len(self.pairs)).astype(int)]
        return [
            [
                _with_sign(pair[step][0], (pair[step][2] or 0) / _BINS, sign)
                if draw < pair[step][1]
                else None
                for pair, draw, sign in zip(pairs, draws[:, 1 + step], draws[:, 3 + step])
            ]
            for step in range(2)
        ]


class RandAugment(Policy):
    """So many operations for each picture, any of them, all of one strength.

    Args:
        operations: How many, 1 to 8.
        strength: Share of the largest magnitude, in [0, 1].

    Reference:
        Cubuk et al., NeurIPS 2020.
    """

    def __init__(self, operations: int, strength: float):
        self.operations, self.strength = operations, strength

    def steps(self, draws: np.ndarray) -> list[list[tuple[str, float] | None]]:
        names = [name for name in OPERATIONS if name != "Invert"]
        return [
            [
                _with_sign(names[int(draw * len(names))], self.strength, sign)
                for draw, sign in zip(draws[:, 2 * step], draws[:, 2 * step + 1])
            ]
            for step in range(self.operations)
        ]


def _with_sign(name: str, strength: float, draw: float) -> tuple[str, float]:
    return name, -strength if OPERATIONS[name].signed and draw < 0.5 else strength


def make_policy(name: str, operations: int, strength: float) -> Policy:
    """A policy by its name.

    Raises:
        DataError: No such name, or an argument out of range.
    """
    if name in _TABLES:
        return AutoAugment(_TABLES[name])
    if name != "randaugment":
        raise DataError(f"dataset.augment_policy: unknown name {name!r}; {did_you_mean(name, POLICIES)}")
    return RandAugment(operations, strength)
