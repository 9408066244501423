"""Activations of the image models, each place its own module so that a rule can reach it."""

from __future__ import annotations

from typing import Literal

from torch import nn

Activation = Literal["relu", "gelu", "silu"]


def make_activation(name: Activation) -> nn.Module:
    """A new activation module.

    Example:
        >>> make_activation("relu")
        ReLU()
    """
    return {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}[name]()
