"""Learning rates at marked steps, against values worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from snn.errors import ConfigError
from snn.training import schedule


def rates(kind: str, total: int, **options: float) -> list[float]:
    """The rate that each step uses, and that after the last."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler: LambdaLR = getattr(schedule, kind)(optimizer, total, **options)
    found = []
    for _ in range(total):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [*found, scheduler.get_last_lr()[0]]


def test_linear() -> None:
    found = rates("linear", 20, warmup=0.2)
    # Four steps of warm-up, of which none is at zero or at the top; then from the top to zero after the last.
    assert found[:5] == pytest.approx([2 / 5, 4 / 5, 6 / 5, 8 / 5, 2.0])
    assert found[4:] == pytest.approx([2 * (1 - i / 16) for i in range(17)])
    assert found[-1] == 0


def test_cosine() -> None:
    found = rates("cosine", 12, warmup=0.0)
    assert found == pytest.approx([1 + math.cos(math.pi * i / 12) for i in range(13)])
    assert found[6] == pytest.approx(1.0)


def test_what_is_left_of_the_rate() -> None:
    assert rates("linear", 4, warmup=0.0, final=0.2) == pytest.approx([2.0, 1.6, 1.2, 0.8, 0.4])
    assert rates("cosine", 2, warmup=0.0, final=0.5) == pytest.approx([2.0, 1.5, 1.0])
    # A stage that ends where the next one starts: together they are one straight line.
    whole, first = rates("linear", 10, warmup=0.0), rates("linear", 6, warmup=0.0, final=0.4)
    assert first == pytest.approx(whole[:7])
    assert [0.4 * rate for rate in rates("linear", 4, warmup=0.0)] == pytest.approx(whole[6:])


def test_constant() -> None:
    assert rates("constant", 5) == [2.0] * 6
    assert rates("constant", 4, warmup=0.5) == pytest.approx([2 / 3, 4 / 3, 2, 2, 2])


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 40])
def test_it_rises_once_and_never_again(kind: str, warmup: float, total: int) -> None:
    found = rates(kind, total, warmup=warmup)
    assert all(0 < rate <= 2.0 for rate in found[:-1])
    warm = round(total * warmup)
    assert all(a < b for a, b in pairwise(found[: warm + 1]))
    # Where all steps are warm-up, the one after the last is the top.
    assert all(a >= b for a, b in pairwise(found[warm:]))
    assert found[warm] == 2.0


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 3.0, float("nan")])
def test_a_warm_up_that_cannot_be(warmup: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    with pytest.raises(ConfigError, match=r"scheduler.warmup must be in \[0, 1\); got"):
        schedule.linear(optimizer, 10, warmup)


@pytest.mark.parametrize("final", [-0.1, 1.1, float("nan")])
def test_a_share_that_cannot_be_left(final: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    with pytest.raises(ConfigError, match=r"scheduler.final must be in \[0, 1\].*got"):
        schedule.cosine(optimizer, 10, final=final)
