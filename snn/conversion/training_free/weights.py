"""Solve a linear layer or convolution anew for quantised inputs, by least squares.

Rounding errors of neighbouring inputs are correlated with the inputs, so other weights than the float
network's come nearer to its outputs: with inputs ``X'`` for ``X``,
``argmin_V ||X'V - XW||^2 + ridge |V - W|^2`` after means are taken off. The mean goes to the bias; where there is
none, to the shifts that follow.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn.functional.padding import current_mask

#: Candidates, relative to the mean power of the inputs.
_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def solvable(module: nn.Module) -> bool:
    """Whether the module is a linear layer, or a convolution over pictures that mixes all of its channels."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def input_rows(module: nn.Module, x: Tensor, budget: int, turn: int) -> Tensor:
    """Evenly spaced rows of what the layer weights, ``[rows, inputs]``: tokens without padding, or patches of
    pictures.
    """
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        sizes = module.kernel_size, module.dilation, module.padding, module.stride
        rows = functional.unfold(x, *sizes).transpose(1, 2).flatten(0, 1)
    else:
        mask = current_mask(x)
        rows = x.flatten(0, -2) if mask is None else x[mask.expand(*x.shape[:-1], 1)[..., 0]]
    stride = max(1, -(-rows.shape[0] // budget))
    # A copy: a view would keep all the patches alive.
    return rows[turn % stride :: stride].to(torch.float32, copy=True)


@torch.no_grad()
def solve(module: nn.Module, got: Tensor, wanted: Tensor) -> None:
    """Put new weights into a layer, in place, unless they would be worse.

    The ridge is the one with which the first half of the rows explains the second half best.

    Args:
        module: The layer, with the float network's weights.
        got: Rows of its input when the layers before are quantised, sample after sample.
        wanted: The same rows in the float network.
    """
    assert isinstance(module, nn.Linear | nn.Conv2d)
    weight = module.weight.flatten(1).to(torch.float64, copy=True)
    x, gap = got.double(), (wanted - got).double()
    x, y = x - x.mean(0), (gap - gap.mean(0)) @ weight.T
    half = len(x) // 2
    squares = [part.T @ part for part in (x[:half], x[half:])]
    products = [part.T @ error for part, error in ((x[:half], y[:half]), (x[half:], y[half:]))]
    changes = {ridge: _ridge(squares[0], products[0], ridge) for ridge in _RIDGES}
    # What is left of the squared error of the second half, less what there was.
    gains = {r: ((squares[1] @ c - 2 * products[1]) * c).sum() for r, c in changes.items()}
    best = min(gains, key=lambda ridge: float(gains[ridge]))
    if gains[best] < 0:
        change = _ridge(squares[0] + squares[1], products[0] + products[1], best)
        module.weight.data += change.T.to(module.weight).view_as(module.weight)
    if module.bias is not None:
        left = (wanted.mean(0).double() @ weight.T) - got.mean(0).double() @ module.weight.flatten(
            1
        ).double().T
        module.bias.data += left.to(module.bias)


def _ridge(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    power = square.diagonal().mean().clamp_min(1e-12)
    held = square + ridge * power * torch.eye(len(square), dtype=square.dtype, device=square.device)
    return torch.linalg.solve(held, product)
