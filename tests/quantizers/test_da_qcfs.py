"""DA-QCFS: its formula, its limits, and what becomes of corrections when thresholds change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn.quantizers.da_qcfs import DAQCFS, HEIGHTS
from snn.quantizers.qcfs import QCFS

CHANNELS = 3


def made(levels: int = 4, signed: bool = False, axis: int | None = None) -> DAQCFS:
    quantizer = DAQCFS(levels=levels, signed=signed, axis=axis)
    quantizer.set_threshold(torch.tensor([0.5, 1.0, 2.0]))
    return quantizer.double()


def test_without_corrections_it_is_qcfs() -> None:
    plain = QCFS(levels=4)
    plain.set_threshold(torch.tensor([0.5, 1.0, 2.0]))
    x = torch.randn(64, CHANNELS, dtype=torch.float64)
    assert torch.equal(made()(x), plain.double()(x))


@given(
    st.integers(1, 9), st.booleans(), st.sampled_from([(5, CHANNELS), (2, 4, CHANNELS), (2, CHANNELS, 3, 3)])
)
@settings(max_examples=30, deadline=None)
def test_formula(levels: int, signed: bool, shape: tuple[int, ...]) -> None:
    """Written out independently; any shape, channels on axis 1 of pictures and on the last one of tokens."""
    quantizer = made(levels, signed)
    shift, height = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.4, 1.5, 1.9])
    quantizer.correct(shift, height)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(levels))
    view = (-1, 1, 1) if len(shape) == 4 else (-1,)
    theta = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).view(view)
    codes = torch.floor((x + shift.double().view(view)) * levels / theta + 0.5)
    want = codes.clamp(-levels if signed else 0, levels) / levels * height.double().view(view)
    torch.testing.assert_close(quantizer(x), want, rtol=0, atol=1e-6)


def test_a_height_stays_positive_and_finite() -> None:
    quantizer = made()
    quantizer.correct(torch.zeros(CHANNELS), torch.tensor([-3.0, 1.0, 1e6]))
    low, high = HEIGHTS
    torch.testing.assert_close(quantizer.height, torch.tensor([0.5 * low, 1.0, 2.0 * high]).double())
    assert (quantizer(torch.full((1, CHANNELS), 9.0).double()) > 0).all()


def test_new_thresholds_put_corrections_back() -> None:
    quantizer = made()
    quantizer.correct(torch.ones(CHANNELS), torch.ones(CHANNELS))
    quantizer.set_threshold(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(quantizer.shift, torch.zeros(CHANNELS))
    torch.testing.assert_close(quantizer.height.float(), torch.tensor([1.0, 2.0, 3.0]))


def test_state_returns_with_its_channels() -> None:
    quantizer, fresh = made(), DAQCFS(levels=4).double()
    quantizer.correct(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 1.5, 1.9]))
    fresh.load_state_dict(quantizer.state_dict())
    x = torch.randn(16, CHANNELS, dtype=torch.float64)
    assert torch.equal(fresh(x), quantizer(x))


def test_the_threshold_is_trained_and_the_corrections_are_not() -> None:
    quantizer = made()
    quantizer.correct(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 1.5, 1.9]))
    x = torch.rand(8, CHANNELS, dtype=torch.float64, requires_grad=True)
    quantizer(x).sum().backward()
    assert {name for name, _ in quantizer.named_parameters()} == {"threshold"}
    # Where the input lies within the range, the gradient is the height of the output in thresholds.
    inside = ((x + quantizer.shift) > 0) & ((x + quantizer.shift) < quantizer.threshold)
    torch.testing.assert_close(x.grad[inside], quantizer.gain.expand(8, CHANNELS)[inside])


@pytest.mark.parametrize("name", ["shift", "gain"])
def test_corrections_are_saved(name: str) -> None:
    assert name in made().state_dict()
