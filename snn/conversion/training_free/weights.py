"""Solve a linear layer or convolution anew for quantised inputs, by least squares.

Rounding errors of neighbouring inputs are correlated with the inputs, so other weights than the float
network's come nearer to its outputs: with inputs ``X'`` for ``X``,
``argmin_V ||X'V - XW||^2 + ridge |V - W|^2`` after means are taken off. The mean goes to the bias; where there is
none, to the shifts that follow.
"""

from __future__ import annotations

from collections.abc import Iterator

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


class Moments:
    """Sums over the rows of a layer's input from which least squares are solved, of two halves apart; their size does
    not depend on how many rows there are.
    """

    def __init__(self) -> None:
        self._halves: list[list[Tensor]] = []

    def add(self, got: Tensor, wanted: Tensor) -> None:
        """Rows of the input when the layers before are quantised, and the same rows in the float network.

        Products are summed in float32 over the rows of one call, and in float64 over calls.
        """
        gap, middle = wanted - got, len(got) // 2
        sums = [
            [one.double() for one in (x.new_tensor(len(x)), x.sum(0), gap.sum(0), x.T @ x, x.T @ gap)]
            for x, gap in ((got[:middle], gap[:middle]), (got[middle:], gap[middle:]))
        ]
        before = self._halves or [[torch.zeros_like(one) for one in half] for half in sums]
        self._halves = [[a + b for a, b in zip(*pair)] for pair in zip(before, sums)]

    def means(self) -> tuple[Tensor, Tensor]:
        """Of the input, and of what it lacks."""
        count, x, gap = (torch.stack([half[k] for half in self._halves]).sum(0) for k in range(3))
        return x / count, gap / count

    def centred(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each half ``X'X`` and ``X'G``, means of both halves together taken off."""
        at, lacks = self.means()
        for count, x, gap, squares, products in self._halves:
            off = torch.outer(x, at)
            yield (
                squares - off - off.T + count * torch.outer(at, at),
                products - torch.outer(x, lacks) - torch.outer(at, gap) + count * torch.outer(at, lacks),
            )


@torch.no_grad()
def solve(module: nn.Module, moments: Moments) -> None:
    """Put new weights into a layer, in place, unless they would be worse.

    The ridge is the one with which one half of the rows explains the other best.

    Args:
        module: The layer, with the float network's weights.
        moments: Of its input.
    """
    assert isinstance(module, nn.Linear | nn.Conv2d)
    weight = module.weight.flatten(1).to(torch.float64, copy=True)
    (squares, products), (other_squares, other_products) = (
        (squares, products @ weight.T) for squares, products in moments.centred()
    )
    changes = {ridge: _ridge(squares, products, ridge) for ridge in _RIDGES}
    # What is left of the squared error of the other half, less what there was.
    gains = {r: ((other_squares @ c - 2 * other_products) * c).sum() for r, c in changes.items()}
    best = min(gains, key=lambda ridge: float(gains[ridge]))
    if gains[best] < 0:
        change = _ridge(squares + other_squares, products + other_products, best)
        module.weight.data += change.T.to(module.weight).view_as(module.weight)
    if module.bias is not None:
        got, lacks = moments.means()
        left = weight @ (got + lacks) - module.weight.flatten(1).double() @ got
        module.bias.data += left.to(module.bias)


def _ridge(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    power = square.diagonal().mean().clamp_min(1e-12)
    held = square + ridge * power * torch.eye(len(square), dtype=square.dtype, device=square.device)
    return torch.linalg.solve(held, product)
