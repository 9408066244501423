"""Equilibria ``z = f(z)``: find one, and differentiate through it without unrolling.

At an equilibrium of ``f(z; w)`` the gradient of a loss with ``g = dL/dz`` is, by the implicit function theorem,

    x = J^T x + g,    dL/dw = x^T df/dw,    J = df/dz

so that the backward pass is an equilibrium of its own, linear, which the same solvers find.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn.errors import TrainingError
from snn.functional.fixed_point import Solution, Solver

log = logging.getLogger(__name__)


@dataclass
class SolveRecord:
    """Keeps account of solved systems, and makes sure that a bad solution is not used silently.

    One that has not reached its tolerance is counted and warned of, at the first, second, fourth, eighth time and
    so on. One that is no better than none at all, with a relative residual of 1 or more, stops the training.

    Args:
        key: What the user calls the solver, for messages.
        solves: Systems so far.
        unconverged: Those that did not reach the tolerance.
        last: The last solution's residual and iterations.
    """

    key: str = "solver"
    solves: int = 0
    unconverged: int = 0
    residual: float | None = None
    iterations: int | None = None

    def __call__(self, solution: Solution) -> None:
        """Take account of one solution.

        Raises:
            TrainingError: It diverged.
        """
        self.solves += 1
        self.residual, self.iterations = float(solution.residual.max()), solution.iterations
        if solution.converged:
            return
        self.unconverged += 1
        found = (
            f"{self.key}: relative residual {self.residual:.1e} after {solution.iterations} iterations, "
            f"wanted {solution.tolerance:.1e}"
        )
        if not self.residual < 1:
            raise TrainingError(
                f"{found}: it diverged, and there is no gradient to be used. Try anderson or broyden, more "
                "iterations, or weaker feedback"
            )
        if self.unconverged & (self.unconverged - 1) == 0:
            log.warning("%s; %d of %d solves so far did not reach it", found, self.unconverged, self.solves)


def implicit_gradient(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    solver: Solver | None = None,
    report: Callable[[Solution], None] | None = None,
) -> Tensor:
    """``point``, with the gradient that an equilibrium of ``function`` at that point has.

    ``function`` is evaluated once, with its graph; everything that it depends on beside its argument receives a
    gradient. It must not mix samples (rows of the first axis).

    Args:
        function: The map.
        point: Its equilibrium, or what is taken for it; gets no gradient itself.
        solver: Of the linear system in the backward pass.
        report: Called with the solution in each backward pass; by default a new :class:`SolveRecord`.

    Shape:
        ``[B, ...]``, as all arguments and results of ``function``.

    Raises:
        TrainingError: In the backward pass, if the system could not be solved at all.

    Reference:
        Bai et al., NeurIPS 2019; Xiao et al., NeurIPS 2021, for spiking networks.
    """
    if not torch.is_grad_enabled():
        return point
    at = point.detach().requires_grad_()
    image = function(at)
    return _ImplicitGradient.apply(image, at, point.detach(), solver or Solver(), report or SolveRecord())


def equilibrium(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    solver: Solver | None = None,
    backward: Solver | None = None,
    report: Callable[[Solution], None] | None = None,
) -> Tensor:
    """Solve ``z = function(z)``; the gradient is that of the implicit function.

    Args:
        function: The map.
        start: Where to begin; gets no gradient.
        solver: Of the forward pass.
        backward: Of the backward pass; as ``solver`` if not given.
        report: Called with every solution; by default a new :class:`SolveRecord`.

    Shape:
        See :func:`implicit_gradient`.

    Raises:
        TrainingError: A system could not be solved at all.

    Example:
        >>> a = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
        >>> z = equilibrium(lambda z: a * z + 1, torch.zeros(1, 1, dtype=torch.float64))
        >>> z.backward()
        >>> round(z.item(), 4), round(a.grad.item(), 4)  # 1/(1 - a), 1/(1 - a)^2
        (2.0, 4.0)
    """
    solver, report = solver or Solver(), report or SolveRecord()
    with torch.no_grad():
        found = solver.solve(function, start.detach())
        report(found)
    return implicit_gradient(function, found.value, backward or solver, report)


class _ImplicitGradient(torch.autograd.Function):
    """From the map's value at a point to the point, with the solution of the linear system as gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        at: Tensor,
        point: Tensor,
        solver: Solver,
        report: Callable[[Solution], None],
    ) -> Tensor:
        ctx.save_for_backward(image, at)
        ctx.solver, ctx.report = solver, report
        return point.view_as(point)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        image, at = ctx.saved_tensors

        def back_and_add(x: Tensor) -> Tensor:
            (back,) = torch.autograd.grad(image, at, x, retain_graph=True, allow_unused=True)
            return grad if back is None else back + grad

        solution = ctx.solver.solve(back_and_add, start=grad, scale=grad)
        ctx.report(solution)
        return solution.value, None, None, None, None
