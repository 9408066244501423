"""Paired rows of a quantiser's input, and how they are collected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.conversion.training_free.branches import Watch
from snn.conversion.training_free.reference import Reference
from snn.quantizers.base import Quantizer
from snn.quantizers.observation import sample_rows


@dataclass
class Pairs:
    """Inputs of one quantiser in both branches, row by row; padding is left out.

    Args:
        got: What arrives when the layers before are quantised.
        wanted: What arrives in the reference branch.
        target: What the reference makes of ``wanted``.

    Shape:
        ``[rows, C]`` each; C is 1 for one threshold per tensor.
    """

    got: Tensor
    wanted: Tensor
    target: Tensor

    @staticmethod
    def join(parts: list[Pairs]) -> Pairs:
        return Pairs(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("got", "wanted", "target"))
        )


def rows_of(quantizer: Quantizer, x: Tensor, budget: int, turn: int) -> Tensor:
    """Evenly spaced rows ``[rows, C]`` of a quantiser's input, the same ones for every ``x`` of the same shape."""
    where = quantizer.resolve_axis(x), quantizer.per_channel, quantizer.over_keys
    return sample_rows(x, *where, budget, turn).transpose(1, 2).flatten(0, 1)


def keep_rows(into: list[Tensor], budget: int, turn: int) -> Watch:
    """A watch that keeps rows of a quantiser's input."""

    def watch(module: nn.Module, x: Tensor) -> None:
        assert isinstance(module, Quantizer)
        into.append(rows_of(module, x, budget, turn))

    return watch


def pair(quantizer: Quantizer, got: Tensor, wanted: Tensor, reference: Reference) -> Pairs:
    """Rows of both branches, and what the reference makes of them."""
    threshold = quantizer.positive_threshold().detach()
    return Pairs(got, wanted, reference(wanted, threshold, quantizer.signed))
