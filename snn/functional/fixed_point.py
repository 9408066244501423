"""Solvers of ``x = f(x)``: plain iteration, Anderson's mixing, Broyden's quasi-Newton method.

Every sample (row of the first axis) is a system of its own, with its own coefficients and its own end, so that its
solution does not depend on the others in the batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from snn.errors import did_you_mean

Method = Literal["fixed_point", "anderson", "broyden"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Args:
        value: For each sample the iterate of the smallest residual.
        residual: ``|f(x) - x|`` of each sample, relative to the system's scale, ``[B]``; infinite where nothing
            finite was found.
        iterations: Evaluations of ``f``.
        tolerance: What the residual was to be.
    """

    value: Tensor
    residual: Tensor
    iterations: int
    tolerance: float

    @property
    def converged(self) -> bool:
        """Whether every sample reached the tolerance."""
        return bool((self.residual <= self.tolerance).all())


@dataclass(frozen=True)
class Solver:
    """How ``x = f(x)`` is solved.

    Args:
        method: ``fixed_point``, ``anderson`` or ``broyden``.
        tolerance: Relative residual at which a sample is done, > 0.
        max_iterations: Most evaluations of ``f``.
        memory: Past steps that Anderson's method uses, and after which Broyden's starts anew.

    Raises:
        ValueError: An unknown method, or a value out of range.

    Example:
        >>> import torch
        >>> solution = Solver("anderson", tolerance=1e-12).solve(torch.cos, torch.ones(1, 1).double())
        >>> round(solution.value.item(), 6), solution.converged
        (0.739085, True)
    """

    method: Method = "anderson"
    tolerance: float = 1e-5
    max_iterations: int = 50
    memory: int = 20

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown solver {self.method!r}; {did_you_mean(str(self.method), METHODS)}")
        for name, value in (("tolerance", self.tolerance), ("max_iterations", self.max_iterations)):
            if not value > 0:
                raise ValueError(f"{name} must be positive; got {value}")
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1; got {self.memory}")

    @torch.no_grad()
    def solve(
        self, function: Callable[[Tensor], Tensor], start: Tensor, scale: Tensor | None = None
    ) -> Solution:
        """Find a fixed point, beginning at ``start``.

        Args:
            function: From ``[B, ...]`` to the same shape; must not mix samples.
            start: First iterate.
            scale: In the shape of ``start``; its size in each sample is what the residual is relative to. None:
                ``f(x)``.
        """
        rule = _RULES[self.method](self.memory)
        x = start.flatten(1)
        best, least = x, x.new_full((len(x), 1), torch.inf)
        iterations = 0
        while iterations < self.max_iterations:
            iterations += 1
            image = function(x.view_as(start)).flatten(1)
            residual = _relative(image - x, image if scale is None else scale.flatten(1))
            better = residual < least
            best, least = torch.where(better, x, best), torch.where(better, residual, least)
            done = least <= self.tolerance
            if bool(done.all()):
                break
            # A sample that is done stays where it is; its further steps would depend on how long others take.
            x = torch.where(done, x, rule.step(x, image))
        return Solution(best.view_as(start), least[:, 0], iterations, self.tolerance)


def _relative(difference: Tensor, scale: Tensor) -> Tensor:
    """``|difference| / |scale|`` per sample, 0 where both are."""
    size = difference.norm(dim=1, keepdim=True)
    return torch.where(size == 0, size, size / scale.norm(dim=1, keepdim=True))


class _Rule(Protocol):
    def step(self, x: Tensor, image: Tensor) -> Tensor:
        """The next iterate from the last one and its image."""


class _FixedPoint:
    def __init__(self, memory: int):
        pass

    def step(self, x: Tensor, image: Tensor) -> Tensor:
        return image


class _Anderson:
    """``x' = f(x) - (dX + dG) c`` with ``c`` from least squares ``dG c = g``, ``g = f(x) - x``.

    Reference:
        Anderson, 1965; Walker and Ni, 2011.
    """

    def __init__(self, memory: int):
        self.last: tuple[Tensor, Tensor] | None = None
        self.moves: deque[Tensor] = deque(maxlen=memory)
        self.changes: deque[Tensor] = deque(maxlen=memory)

    def step(self, x: Tensor, image: Tensor) -> Tensor:
        g = image - x
        if self.last is not None:
            self.moves.append(x - self.last[0])
            self.changes.append(g - self.last[1])
        self.last = x, g
        if not self.moves:
            return image
        moves, changes = torch.stack(tuple(self.moves), -1), torch.stack(tuple(self.changes), -1)
        # Columns of size 1, and a touch of the identity: directions that are exhausted make the system singular.
        size = changes.norm(dim=1, keepdim=True)
        size = torch.where(size > 0, size, torch.ones_like(size))
        unit = changes / size
        gram = unit.mT @ unit
        gram.diagonal(dim1=1, dim2=2).add_(10 * torch.finfo(x.dtype).eps)
        coefficients, _ = torch.linalg.solve_ex(gram, unit.mT @ g[..., None])
        return image - ((moves / size + unit) @ coefficients)[..., 0]


class _Broyden:
    """``x' = x - B g`` with the inverse Jacobian ``B = -1 + U V^T`` of ``g = f(x) - x``, updated at every step.

    Reference:
        Broyden, 1965 («good» form).
    """

    def __init__(self, memory: int):
        self.memory = memory
        self.last: tuple[Tensor, Tensor] | None = None
        self.left: list[Tensor] = []
        self.right: list[Tensor] = []

    def step(self, x: Tensor, image: Tensor) -> Tensor:
        g = image - x
        if len(self.left) == self.memory:
            # An update builds on all before it, so that the oldest cannot be left out: a new start.
            self.left, self.right, self.last = [], [], None
        if self.last is not None:
            move, change = x - self.last[0], g - self.last[1]
            row = self.times(move, self.right, self.left)
            scale = (row * change).sum(1, keepdim=True)
            column = move - self.times(change, self.left, self.right)
            # A sample that stands still teaches nothing.
            self.left.append(torch.where(scale == 0, torch.zeros_like(column), column / scale))
            self.right.append(row)
        self.last = x, g
        return x - self.times(g, self.left, self.right)

    @staticmethod
    def times(y: Tensor, left: list[Tensor], right: list[Tensor]) -> Tensor:
        """``-y + left (right^T y)``."""
        result = -y
        for u, v in zip(left, right):
            result = result + u * (v * y).sum(1, keepdim=True)
        return result


_RULES: dict[str, Callable[[int], _Rule]] = {
    "fixed_point": _FixedPoint,
    "anderson": _Anderson,
    "broyden": _Broyden,
}
