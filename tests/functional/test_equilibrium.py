"""Equilibria and their gradients: against dense solutions, finite differences, and iterations run to the end."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from snn.errors import TrainingError
from snn.functional.equilibrium import SolveRecord, equilibrium, implicit_gradient
from snn.functional.fixed_point import METHODS, Solver

every_method = pytest.mark.parametrize("method", METHODS)
TIGHT = {"tolerance": 1e-13, "max_iterations": 400}


def matrices(radius: float, rows: int = 4, width: int = 6) -> Tensor:
    """One matrix per sample, of the given spectral radius."""
    a = torch.randn(rows, width, width, dtype=torch.float64)
    return a * (radius / torch.linalg.eigvals(a).abs().amax(-1))[:, None, None]


def linear(a: Tensor, b: Tensor):
    return lambda x: (a @ x[..., None])[..., 0] + b


@every_method
@pytest.mark.parametrize("radius", [0.1, 0.5, 0.9])
def test_a_linear_system_has_its_dense_solution(method: str, radius: float) -> None:
    a, b = matrices(radius), torch.randn(4, 6, dtype=torch.float64)
    solution = Solver(method, **TIGHT).solve(linear(a, b), b)
    dense = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - a, b)
    assert solution.converged
    torch.testing.assert_close(solution.value, dense, rtol=0, atol=1e-10)
    found = (linear(a, b)(solution.value) - solution.value).norm(dim=1) / linear(a, b)(solution.value).norm(
        dim=1
    )
    torch.testing.assert_close(solution.residual, found, rtol=0, atol=1e-15)


@pytest.mark.parametrize("method", ["anderson", "broyden"])
def test_the_two_with_a_memory_solve_what_plain_iteration_cannot(method: str) -> None:
    a, b = matrices(1.5), torch.randn(4, 6, dtype=torch.float64)
    solution = Solver(method, 1e-12, max_iterations=60).solve(linear(a, b), b)
    dense = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - a, b)
    torch.testing.assert_close(solution.value, dense, rtol=1e-9, atol=1e-9)
    assert not Solver("fixed_point", 1e-12, max_iterations=60).solve(linear(a, b), b).converged


@every_method
def test_a_sample_does_not_depend_on_the_others(method: str) -> None:
    a = torch.cat([matrices(radius, rows=1) for radius in (0.1, 0.8, 0.0, 0.5)])
    b = torch.randn(4, 6, dtype=torch.float64)
    solver = Solver(method, 1e-6)
    together = solver.solve(linear(a, b), b)
    for row in range(4):
        alone = solver.solve(linear(a[row : row + 1], b[row : row + 1]), b[row : row + 1])
        torch.testing.assert_close(alone.value[0], together.value[row], rtol=0, atol=1e-12)
    assert together.iterations > 2


@every_method
def test_nothing_to_solve(method: str) -> None:
    g = torch.randn(2, 3, 4)
    solution = Solver(method).solve(lambda x: g, g)
    assert torch.equal(solution.value, g)
    assert (solution.iterations, solution.residual.tolist()) == (1, [0.0, 0.0])
    zero = Solver(method).solve(lambda x: 0.5 * x, torch.zeros(2, 3))
    assert zero.converged
    assert not zero.value.any()


def network(width: int = 5) -> tuple[Tensor, Tensor]:
    weight = matrices(0.7, rows=1, width=width)[0]
    return weight.requires_grad_(), torch.randn(3, width, dtype=torch.float64, requires_grad=True)


@every_method
def test_the_gradient_is_that_of_finite_differences(method: str) -> None:
    solver = Solver(method, **TIGHT)

    def settled(weight: Tensor, current: Tensor) -> Tensor:
        return equilibrium(lambda z: torch.tanh(z @ weight.T + current), torch.zeros_like(current), solver)

    assert torch.autograd.gradcheck(settled, network(), atol=1e-6)


@every_method
def test_the_gradient_is_that_of_a_long_unrolled_iteration(method: str) -> None:
    weight, current = network()
    cotangent = torch.randn_like(current)
    z = torch.zeros_like(current)
    for _ in range(300):
        z = torch.tanh(z @ weight.T + current)
    wanted = torch.autograd.grad(z, (weight, current), cotangent)
    found = equilibrium(
        lambda z: torch.tanh(z @ weight.T + current), torch.zeros_like(z), Solver(method, **TIGHT)
    )
    torch.testing.assert_close(found, z, rtol=0, atol=1e-10)
    for a, b in zip(torch.autograd.grad(found, (weight, current), cotangent), wanted):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_the_point_is_kept_to_the_last_bit_and_gets_no_gradient() -> None:
    weight, current = network()
    point = torch.rand(3, 5, dtype=torch.float64, requires_grad=True)
    out = implicit_gradient(lambda z: torch.tanh(z @ weight.T + current), point)
    assert torch.equal(out, point)
    out.sum().backward()
    assert point.grad is None
    assert weight.grad is not None
    with torch.no_grad():
        assert implicit_gradient(lambda z: z, point) is point


def test_a_tolerance_that_is_not_reached_is_said_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    weight, current = network()
    record = SolveRecord("model.args.solver")
    solver = Solver("fixed_point", 1e-12, max_iterations=3)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            z = torch.full_like(current, 0.1)
            implicit_gradient(
                lambda z: torch.tanh(z @ weight.T + current), z, solver, record
            ).sum().backward()
    assert (record.solves, record.unconverged, record.iterations) == (5, 5, 3)
    assert record.residual is not None
    assert record.residual > 1e-12
    # At the first, second and fourth time.
    assert [message.split("; ")[1] for message in caplog.messages] == [
        f"{n} of {n} solves so far did not reach it" for n in (1, 2, 4)
    ]
    assert "model.args.solver: relative residual" in caplog.messages[0]
    assert "after 3 iterations, wanted 1.0e-12" in caplog.messages[0]


@pytest.mark.parametrize("slope", [3.0, float("nan")])
def test_a_gradient_that_diverges_is_not_used(slope: float) -> None:
    current = torch.ones(2, 3, requires_grad=True)
    z = implicit_gradient(lambda z: slope * z + current, torch.zeros(2, 3), Solver("fixed_point"))
    with pytest.raises(TrainingError, match=r"diverged.*anderson or broyden"):
        z.sum().backward()
    assert current.grad is None


def test_an_equilibrium_that_is_not_found_is_not_used() -> None:
    with pytest.raises(TrainingError, match="diverged"):
        equilibrium(lambda z: z / 0 * 0, torch.ones(1, 2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "andersen"}, "unknown solver 'andersen'; did you mean 'anderson'"),
        ({"tolerance": 0.0}, "tolerance must be positive; got 0.0"),
        ({"max_iterations": 0}, "max_iterations must be positive; got 0"),
        ({"memory": 0}, "memory must be at least 1; got 0"),
    ],
)
def test_settings_that_cannot_work(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Solver(**settings)
