"""Shift and height in aggregate coordinates: the same spikes as in increments, and DA-QCFS at T."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snn.errors import ConfigError, ConversionError
from snn.functional import integrate_fire, parallel_fire
from snn.functional.time_axis import fold, unfold
from snn.neurons.integrate_fire import IntegrateFire
from snn.neurons.para_inf import ParaInf
from snn.neurons.para_inf_channelwise import ParaInfChannelwise
from snn.neurons.run import Run, running
from snn.quantizers.da_qcfs import DAQCFS
from tests.functional.reference import arrays, cases

from .drive import aggregates, spikes

CHANNELS = 3
law = settings(max_examples=40, deadline=None)


def quantiser(levels: int, signed: bool = False) -> DAQCFS:
    """Thresholds, shifts and heights are such that rounding decides nothing for eighths of the threshold."""
    made = DAQCFS(levels=levels, signed=signed)
    made.set_threshold(torch.tensor([0.5, 1.0, 2.0]))
    made.correct(torch.tensor([1 / 32, -1 / 64, 3 / 64]), torch.tensor([0.75, 1.0, 1.5]))
    return made.double()


@st.composite
def currents(draw: st.DrawFn) -> Tensor:
    T = draw(st.integers(1, 10))
    size = T * 2 * CHANNELS
    eighths = draw(st.lists(st.integers(-12, 24), min_size=size, max_size=size))
    return torch.tensor(eighths, dtype=torch.float64).reshape(T, 2, CHANNELS) / 8


@given(currents(), st.booleans(), st.sampled_from(["early", "late", "even"]))
@law
def test_spikes_in_both_coordinates(current: Tensor, signed: bool, order) -> None:
    quantizer = quantiser(len(current), signed)
    neuron = ParaInfChannelwise.from_quantizer(quantizer, order=order)
    got = spikes(neuron, current, "mean") * quantizer.height.detach()
    threshold = quantizer.positive_threshold().detach()
    want = parallel_fire(
        current,
        threshold,
        shift=quantizer.shift,
        height=quantizer.height.detach(),
        order=order,
        signed=signed,
    )
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@given(currents(), st.booleans(), st.sampled_from([0.0, 0.25, 0.5]), st.integers(1, 4))
@law
def test_integrate_and_fire_in_both_coordinates(
    current: Tensor, signed: bool, initial: float, chunk: int
) -> None:
    """The shift is a current at every step; a spike takes a threshold away, and is worth the height."""
    quantizer = quantiser(len(current), signed)
    neuron = IntegrateFire.from_quantizer(quantizer, initial=initial)
    threshold = quantizer.positive_threshold().detach()
    want, _ = integrate_fire(current + quantizer.shift, threshold, initial, signed)
    for got in (spikes(neuron, current, "mean"), spikes(neuron, current, "mean", chunk)):
        torch.testing.assert_close(got * threshold, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("collapsed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_da_qcfs_at_T_to_the_last_bit(collapsed: bool, dtype: torch.dtype) -> None:
    T = 7
    quantizer = quantiser(T).to(dtype)
    quantizer.correct(torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5)
    neuron = ParaInfChannelwise.from_quantizer(quantizer)
    mean = torch.randn(50, CHANNELS, 2, 2, dtype=dtype)
    run = Run(T, "mean", collapsed=collapsed)
    with running(run), torch.no_grad():
        run.start_chunk(range(T, T + 1) if collapsed else range(1, T + 1))
        steps = 1 if collapsed else T
        got = unfold(neuron(fold(mean.expand(steps, *mean.shape))), steps)[-1]
    assert torch.equal(got, quantizer(mean).detach())


@pytest.mark.reference
def test_reference_arrays_through_the_neuron() -> None:
    data = arrays("parallel_conversion/parainf_cw_nd")
    for prefix in cases(data, "_psi"):
        T = int(prefix.split("_T")[1])
        current = unfold(data[f"{prefix}_x"], T)
        quantizer = DAQCFS(levels=T)
        channels = current.shape[2]
        quantizer.set_threshold(data[f"{prefix}_up"].flatten().expand(channels).clone())
        post = data[f"{prefix}_up"].flatten().expand(channels) + data[f"{prefix}_phi"].flatten()
        quantizer.correct(data[f"{prefix}_psi"].flatten().expand(channels), post)
        torch.testing.assert_close(
            quantizer(current.mean(0)).detach(), data[f"{prefix}_da_qcfs_of_mean_x"], rtol=0, atol=1e-6
        )
        neuron = ParaInfChannelwise.from_quantizer(quantizer)
        emitted = spikes(neuron, aggregates_exact(current), "mean") * quantizer.height.detach().view(-1, 1, 1)
        torch.testing.assert_close(fold(emitted), data[f"{prefix}_y"], rtol=0, atol=1e-6)


def aggregates_exact(current: Tensor) -> Tensor:
    """A constant current with the same mean: the count depends on nothing else, and no running sum rounds."""
    mean = current.mean(0, keepdim=True).expand_as(current)
    torch.testing.assert_close(aggregates(mean, "mean")[-1], mean[-1])
    return mean


def test_a_quantiser_with_corrections_needs_a_neuron_that_has_them() -> None:
    with pytest.raises(ConversionError, match="neuron=para_inf needs quantization=qcfs; got da_qcfs"):
        ParaInf.from_quantizer(quantiser(4))


@pytest.mark.parametrize("initial", [-0.1, 1.0])
def test_the_membrane_starts_below_the_threshold(initial: float) -> None:
    with pytest.raises(ConfigError, match=r"neuron.initial must be in \[0, 1\)"):
        IntegrateFire.from_quantizer(quantiser(4), initial=initial)
