"""The neurons in aggregate coordinates, spike for spike against the same neurons in increments."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn.functional import integrate_fire, lsq, parallel_fire, qcfs, st_bif
from snn.functional.fire import SPIKE_ORDERS
from snn.neurons.integrate_fire import IntegrateFire
from snn.neurons.para_inf import ParaInf
from snn.neurons.st_bif import STBIF
from snn.quantizers.lsq import LSQ

from .drive import aggregates, counts, spikes

CHANNELS = 3
law = settings(max_examples=60, deadline=None)


@st.composite
def drives(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Currents ``[T, 2, C]`` and thresholds, per tensor or per channel.

    The charge is a multiple of an eighth of the threshold plus a sixty-fourth, so that it lies on no border between two
    counts and rounding in float64 decides nothing.
    """
    T = draw(st.integers(1, 12))
    size = T * 2 * CHANNELS
    eighths = draw(st.lists(st.integers(-24, 24), min_size=size, max_size=size))
    number = st.floats(0.05, 20)
    threshold = draw(
        st.one_of(number.map(lambda x: [x]), st.lists(number, min_size=CHANNELS, max_size=CHANNELS))
    )
    theta = torch.tensor(threshold, dtype=torch.float64)
    unit = torch.tensor(eighths, dtype=torch.float64).reshape(T, 2, CHANNELS) / 8
    unit[0] += 1 / 64
    return unit * theta, theta


@given(drives(), st.booleans(), st.sampled_from(SPIKE_ORDERS))
@law
def test_para_inf(drive: tuple[Tensor, Tensor], signed: bool, order) -> None:
    current, theta = drive
    T = len(current)
    neuron = ParaInf(theta, None, -T if signed else 0, T, order=order)
    got = spikes(neuron, current, "mean")
    assert torch.equal(got * theta, parallel_fire(current, theta, order=order, signed=signed))


@given(drives(), st.booleans(), st.integers(1, 5))
@law
def test_integrate_fire(drive: tuple[Tensor, Tensor], signed: bool, chunk: int) -> None:
    current, theta = drive
    neuron = IntegrateFire(theta, None, -1 if signed else 0, len(current))
    want, _ = integrate_fire(current, theta, signed=signed)
    assert torch.equal(spikes(neuron, current, "mean") * theta, want)
    assert torch.equal(spikes(neuron, current, "mean", chunk) * theta, want)


@given(drives(), st.booleans(), st.integers(1, 5), st.booleans(), st.data())
@law
def test_an_offset_is_a_current_beside_the_input(
    drive: tuple[Tensor, Tensor], signed: bool, chunk: int, once: bool, data: st.DataObject
) -> None:
    current, theta = drive
    T, sixteenths = len(current), st.integers(-16, 16)
    size = (1 if once else T) * CHANNELS
    drawn = data.draw(st.lists(sixteenths, min_size=size, max_size=size))
    neuron = IntegrateFire(theta, None, -1 if signed else 0, T)
    neuron.offset = torch.tensor(drawn, dtype=torch.float64).reshape(-1, CHANNELS) / 16
    beside = neuron.offset.diff(dim=0, prepend=torch.zeros(1, CHANNELS, dtype=torch.float64))
    more = current.clone()
    more[: len(beside)] += (beside * theta)[:, None]
    want, _ = integrate_fire(more, theta, signed=signed)
    assert torch.equal(spikes(neuron, current, "mean") * theta, want)
    assert torch.equal(spikes(neuron, current, "mean", chunk) * theta, want)


@given(drives(), st.integers(-8, 0), st.integers(1, 8), st.integers(1, 5))
@law
def test_st_bif(drive: tuple[Tensor, Tensor], qmin: int, qmax: int, chunk: int) -> None:
    current, theta = drive
    neuron = STBIF(theta, None, qmin, qmax)
    want = st_bif(current, theta, qmin, qmax)
    assert torch.equal(spikes(neuron, current, "sum") * theta, want)
    assert torch.equal(spikes(neuron, current, "sum", chunk) * theta, want)


@given(
    st.lists(st.floats(-50, 50), min_size=6, max_size=6),
    st.floats(0.01, 9),
    st.integers(1, 40),
    st.booleans(),
)
@law
def test_para_inf_is_qcfs_at_T_to_the_last_bit(
    values: list[float], theta: float, T: int, signed: bool
) -> None:
    aggregate = torch.tensor(values).reshape(1, 2, 3).expand(T, 2, 3)
    neuron = ParaInf(torch.tensor([theta]), None, -T if signed else 0, T)
    final = counts(neuron, aggregate, "mean")[-1]
    want = qcfs(aggregate[0], torch.tensor(theta), T, signed)
    assert torch.equal(final * (torch.tensor(theta) / T), want)


@given(drives(), st.randoms(use_true_random=False))
@law
def test_para_inf_counts_do_not_depend_on_the_order_of_the_input(
    drive: tuple[Tensor, Tensor], random
) -> None:
    current, theta = drive
    shuffled = current[random.sample(range(len(current)), len(current))]
    neuron = ParaInf(theta, None, -1, len(current))
    assert torch.equal(spikes(neuron, current, "mean"), spikes(neuron, shuffled, "mean"))


@given(drives(), st.data())
@law
def test_causal_neurons_do_not_see_the_future(drive: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    current, theta = drive
    seen = data.draw(st.integers(0, len(current)))
    changed = current.clone()
    changed[seen:] = changed[seen:].flip(0) * -3 + 1
    for neuron, coding in ((IntegrateFire(theta, None, -1, 1), "mean"), (STBIF(theta, None, -3, 4), "sum")):
        assert neuron.causal
        assert torch.equal(spikes(neuron, current, coding)[:seen], spikes(neuron, changed, coding)[:seen])


def test_para_inf_does() -> None:
    current = torch.zeros(4, 1, 1)
    changed = current.clone()
    changed[3] = 3.0
    neuron = ParaInf(torch.ones(1), None, 0, 4)
    assert not neuron.causal
    assert not torch.equal(spikes(neuron, current, "mean")[:3], spikes(neuron, changed, "mean")[:3])


@given(drives(), st.integers(-8, 0), st.integers(1, 8), st.randoms(use_true_random=False))
@law
def test_st_bif_settles_at_lsq_of_the_sum_whatever_the_order(drive, qmin: int, qmax: int, random) -> None:
    current, theta = drive
    shuffled = current[random.sample(range(len(current)), len(current))]
    settling = torch.zeros(qmax - qmin, 2, CHANNELS, dtype=current.dtype)
    neuron = STBIF(theta, None, qmin, qmax)
    want = lsq(current.sum(0), theta, qmin, qmax)
    for order in (current, shuffled):
        aggregate = aggregates(torch.cat([order, settling]), "sum")
        # As many steps after the last input as there are codes but one: then nothing moves any more.
        emitted = counts(neuron, torch.cat([aggregate, aggregate[-1:].expand(3, -1, -1)]), "sum")
        assert torch.equal(emitted[-4:], emitted[-1:].expand(4, -1, -1))
        torch.testing.assert_close(emitted[-1] * theta, want, rtol=0, atol=1e-9)


@given(drives(), st.integers(2, 16), st.booleans(), st.integers(1, 12), st.integers(1, 5))
@law
def test_spread_input_gives_the_same_spikes_and_settles_at_the_same_code(
    drive: tuple[Tensor, Tensor], levels: int, signed: bool, spread: int, chunk: int
) -> None:
    current, theta = drive
    quantizer = LSQ(max(levels, 4) if signed else levels, signed=signed)
    quantizer.set_threshold(theta)
    quantizer, levels = quantizer.double(), quantizer.levels
    theta = quantizer.positive_threshold().detach()
    neuron = STBIF.from_quantizer(quantizer)
    whole = current[0]
    # All has arrived at step K; L - 1 steps later nothing moves any more.
    given = torch.zeros(spread + levels - 1, *whole.shape, dtype=whole.dtype)
    given[:spread] = whole / spread
    arrived = torch.arange(1, len(given) + 1).clamp_max(spread) / spread
    emitted = counts(neuron, whole * arrived[:, None, None].to(whole.dtype), "sum", chunk)
    fired = emitted.diff(dim=0, prepend=torch.zeros_like(emitted[:1]))
    want = st_bif(given, theta, *quantizer.bounds)
    assert torch.equal(fired, (want / theta).round())
    with torch.no_grad():
        assert torch.equal(emitted[-1] * theta, quantizer(whole))


@given(drives(), st.booleans())
@law
def test_integrate_fire_is_qcfs_for_constant_input(drive: tuple[Tensor, Tensor], signed: bool) -> None:
    current, theta = drive
    T = len(current)
    constant = (current[:1] / 4).expand(T, 2, CHANNELS)
    final = counts(IntegrateFire(theta, None, -1 if signed else 0, T), constant, "mean")[-1]
    torch.testing.assert_close(final * theta / T, qcfs(constant[0], theta, T, signed), rtol=0, atol=1e-12)


@pytest.mark.parametrize("signed", [False, True])
def test_all_fire_at_the_threshold_and_stay_silent_at_zero(signed: bool) -> None:
    """Halves of the threshold: the membrane, which starts at a half, lies on a border at every other value."""
    grid = torch.arange(-6, 7) / 2
    current = torch.cartesian_prod(grid, grid).T.reshape(2, -1, 1).double()
    theta = torch.ones(1, dtype=torch.float64)
    spikes_of = {
        ParaInf(theta, None, -int(signed), 2): ("mean", parallel_fire(current, theta, signed=signed)),
        IntegrateFire(theta, None, -int(signed), 2): (
            "mean",
            integrate_fire(current, theta, signed=signed)[0],
        ),
        STBIF(theta, None, -4 * signed, 4): ("sum", st_bif(current, theta, -4 * signed, 4)),
    }
    for neuron, (coding, want) in spikes_of.items():
        assert torch.equal(spikes(neuron, current, coding), want)
        assert want[0][current[0] == 0.5].min() == 1 or neuron.name == "para_inf"
        assert (want[0][current[0] == -0.5] == 0).all() or neuron.name == "para_inf"


@pytest.mark.parametrize("axis", [None, 1])
def test_channels_of_pictures_lie_on_axis_one(axis: int | None) -> None:
    current = torch.randn(4, 2, 3, 2, 2, dtype=torch.float64)
    theta = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    want, _ = integrate_fire(current, theta.reshape(3, 1, 1))
    got = spikes(IntegrateFire(theta, axis, 0, 4), current, "mean")
    assert torch.equal(got, (want / theta.reshape(3, 1, 1)).round())
