"""Gradients through time against autograd on the same laws, written step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snn.functional.fire import follow
from snn.functional.quantize import lsq
from snn.functional.surrogate import SURROGATES, Surrogate, spike
from snn.functional.through_time import straight_through, surrogate_counts


def step_by_step(charge: Tensor, signed: bool, initial: float, surrogate: Surrogate, alpha: float) -> Tensor:
    """Textbook membrane, unrolled; autograd differentiates the surrogate spikes."""
    count, counts = torch.zeros_like(charge[0]), []
    for arrived in charge:
        membrane = initial + arrived - count
        fired = spike(membrane - 1, surrogate, alpha)
        if signed:
            fired = fired - (1 - spike(membrane, surrogate, alpha))
        count = count + fired
        counts.append(count)
    return torch.stack(counts)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("initial", [0.0, 0.5])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_counts_and_gradients_of_integrate_and_fire(
    surrogate: Surrogate, initial: float, signed: bool
) -> None:
    torch.manual_seed(0)
    current = torch.randn(7, 3, 5, dtype=torch.float64) * (0.8 if signed else 0.5) + 0.2
    weight = torch.randn_like(current)
    found, expected = (current.cumsum(0).requires_grad_() for _ in range(2))
    a = surrogate_counts(
        found, torch.zeros(3, 5, dtype=torch.float64), -1 if signed else 0, initial, surrogate, 1.5
    )
    b = step_by_step(expected, signed, initial, surrogate, 1.5)
    assert torch.equal(a, b)
    assert (a < 0).any() == signed
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-12, atol=1e-12)


def test_time_may_be_cut_into_chunks() -> None:
    torch.manual_seed(0)
    charge = torch.rand(6, 4, dtype=torch.float64).cumsum(0).requires_grad_()
    whole = surrogate_counts(charge, torch.zeros(4, dtype=torch.float64), 0)
    first = surrogate_counts(charge[:2], torch.zeros(4, dtype=torch.float64), 0)
    parts = torch.cat([first, surrogate_counts(charge[2:], first[-1], 0)])
    assert torch.equal(whole, parts)
    weight = torch.randn(6, 4, dtype=torch.float64)
    (one,) = torch.autograd.grad((whole * weight).sum(), charge)
    (two,) = torch.autograd.grad((parts * weight).sum(), charge)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_settled_counts_have_the_gradient_of_lsq() -> None:
    """Of the input exactly; of the step but for the scale that LSQ puts on it."""
    torch.manual_seed(0)
    low, high = -4, 3
    total = torch.randn(2, 50, dtype=torch.float64) * 4
    step = torch.tensor(0.7, dtype=torch.float64)
    weight = torch.randn_like(total)

    x, s = total.clone().requires_grad_(), step.clone().requires_grad_()
    (lsq(x, s, low, high) * weight).sum().backward()

    y, r = total.clone().requires_grad_(), step.clone().requires_grad_()
    charge = (y / r).expand(9, 2, 50)  # all of it at the first step, then eight to settle
    with torch.no_grad():
        counts = follow((charge + 0.5).floor().clamp_(low, high), torch.zeros_like(total), least=-1)
    output = straight_through(charge, counts, low, high) * r
    (output[-1] * weight).sum().backward()

    assert torch.equal(output[-1], lsq(total, step, low, high))
    assert x.grad is not None
    assert y.grad is not None
    assert s.grad is not None
    assert r.grad is not None
    torch.testing.assert_close(y.grad, x.grad)
    torch.testing.assert_close(r.grad * (high * total.numel()) ** -0.5, s.grad)
