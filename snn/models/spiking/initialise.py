"""Initial weights as the published networks draw them."""

from __future__ import annotations

from torch import nn


def draw_normal(module: nn.Module) -> None:
    """Weights of all linear and convolutional layers in ``module`` from a normal distribution of deviation
    0.02, biases zero.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
