"""Convolutions that must not see the values of a pixel side by side in memory."""

from __future__ import annotations

import torch
from torch import nn

from snn.training.memory_format import guard_narrow_convolutions


def test_a_narrow_strided_convolution_gets_the_ordinary_format() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 8, 1, stride=2), torch.randn(2, 4, 6, 6)
    expected = layer(x)
    model = nn.Sequential(nn.Identity(), layer)
    assert guard_narrow_convolutions(model) == ["1"]
    assert guard_narrow_convolutions(model) == ["1"]  # once for each stage of training
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    found = model(x.to(memory_format=torch.channels_last))
    assert seen[0].is_contiguous()
    assert torch.allclose(found, expected, atol=1e-6)
    assert len(layer._forward_pre_hooks) == 2


def test_others_are_left_alone() -> None:
    layers = [nn.Conv2d(8, 8, 1, stride=2), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, stride=2), nn.Linear(4, 8)]
    model = nn.ModuleList(layers)
    assert guard_narrow_convolutions(model) == []
    assert not any(layer._forward_pre_hooks for layer in layers)
