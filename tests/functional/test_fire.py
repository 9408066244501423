"""Laws of the neurons in increments, and of the placing of spikes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn.functional import integrate_fire, lsq, parallel_fire, place_spikes, qcfs, st_bif
from snn.functional.fire import SPIKE_ORDERS

steps = st.integers(1, 17)


def trajectories(T: int, order: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts by step 0..T of every possible final count, ``[T + 1, 2T + 1]``, and these final counts."""
    final = torch.arange(-T, T + 1, dtype=torch.float64)
    return place_spikes(final, torch.arange(T + 1), T, order), final  # type: ignore[arg-type]


@given(steps, st.sampled_from(SPIKE_ORDERS))
@settings(max_examples=40, deadline=None)
def test_every_order_emits_the_same_total_one_spike_at_a_time(T: int, order: str) -> None:
    counts, final = trajectories(T, order)
    assert torch.equal(counts[0], torch.zeros_like(final))
    assert torch.equal(counts[-1], final)
    spikes = counts.diff(dim=0)
    assert ((spikes == 0) | (spikes == final.sign())).all()


@given(steps)
@settings(max_examples=20, deadline=None)
def test_late_mirrors_early(T: int) -> None:
    early, final = trajectories(T, "early")
    late, _ = trajectories(T, "late")
    assert torch.equal(late, final - early.flip(0))


@given(steps)
@settings(max_examples=20, deadline=None)
def test_even_prefixes_are_within_one_spike_of_their_share(T: int) -> None:
    counts, final = trajectories(T, "even")
    share = final * torch.arange(T + 1, dtype=torch.float64)[:, None] / T
    assert ((counts - share).abs() < 1).all()


@given(steps, st.sampled_from(SPIKE_ORDERS))
@settings(max_examples=20, deadline=None)
def test_negative_spikes_come_when_positive_ones_would(T: int, order: str) -> None:
    counts, _ = trajectories(T, order)
    assert torch.equal(counts, -counts.flip(1))


def test_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order must be one of early, late, even; got 'soon'"):
        place_spikes(torch.ones(1), torch.arange(2), 2, "soon")  # type: ignore[arg-type]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("order", SPIKE_ORDERS)
def test_time_mean_of_the_parallel_neuron_is_qcfs_of_the_mean(signed: bool, order: str) -> None:
    current = torch.randn(8, 50, 3, dtype=torch.float64)
    threshold = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    spikes = parallel_fire(current, threshold, order=order, signed=signed)  # type: ignore[arg-type]
    want = qcfs(current.mean(0), threshold, 8, signed)
    torch.testing.assert_close(spikes.mean(0), want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("signed", [False, True])
def test_integrate_and_fire_is_qcfs_for_constant_current(signed: bool) -> None:
    current = torch.randn(40, 3, dtype=torch.float64)
    threshold = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    spikes, membrane = integrate_fire(current.expand(8, 40, 3), threshold, signed=signed)
    want = qcfs(current, threshold, 8, signed)
    torch.testing.assert_close(spikes.mean(0), want, rtol=0, atol=1e-14)
    # No charge is lost: what came in is in the spikes or still in the membrane.
    torch.testing.assert_close(spikes.sum(0) + membrane, 8 * current + threshold / 2, rtol=0, atol=1e-12)


def test_st_bif_sums_to_lsq_once_settled() -> None:
    current = torch.zeros(40, 60, dtype=torch.float64)
    current[:10] = torch.randn(10, 60, dtype=torch.float64) * 2
    threshold = torch.tensor(0.4, dtype=torch.float64)
    spikes = st_bif(current, threshold, -16, 15)
    torch.testing.assert_close(spikes.sum(0), lsq(current.sum(0), threshold, -16, 15), rtol=0, atol=1e-12)


@pytest.mark.parametrize("neuron", [parallel_fire, integrate_fire, lambda x, t: st_bif(x, t, 0, 7)])
def test_a_threshold_must_be_positive(neuron) -> None:
    with pytest.raises(ValueError, match=r"threshold must be positive; the smallest is -0\.5"):
        neuron(torch.ones(4, 2), torch.tensor([1.0, -0.5]))


def test_st_bif_needs_a_positive_code() -> None:
    with pytest.raises(ValueError, match="qmax must be at least 1; got 0"):
        st_bif(torch.ones(4, 2), torch.tensor(1.0), -1, 0)
