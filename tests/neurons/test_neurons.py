"""What holds for every registered neuron: its twin, its state, what it refuses; and the counting of spikes."""

from __future__ import annotations

import copy

import pytest
import torch

from snn.errors import ConfigError, ConversionError
from snn.functional.fire import SPIKE_ORDERS, follow
from snn.functional.padding import valid_positions
from snn.functional.time_axis import fold, unfold
from snn.neurons.base import Neuron
from snn.neurons.integrate_fire import IntegrateFire
from snn.neurons.para_inf import ParaInf
from snn.neurons.recorder import SpikeRecorder
from snn.neurons.registry import NEURONS
from snn.neurons.run import Run, running
from snn.neurons.settling import Settling
from snn.neurons.st_bif import STBIF
from snn.quantizers.base import Quantizer
from snn.quantizers.registry import QUANTIZERS

from .drive import aggregates, counts

every_neuron = pytest.mark.parametrize("name", NEURONS.names())


def twin(name: str, **arguments) -> Quantizer:
    quantizer = QUANTIZERS.get(NEURONS.get(name).twins[0])(**{"levels": 6, "signed": True, **arguments})
    quantizer.set_threshold(torch.tensor([0.5, 1.0, 2.0]))
    return quantizer


def make(name: str, **arguments) -> Neuron:
    return NEURONS.get(name).from_quantizer(twin(name, **arguments))


@every_neuron
@pytest.mark.parametrize("signed", [False, True])
def test_constant_input_settles_at_the_twin(name: str, signed: bool) -> None:
    quantizer = twin(name, signed=signed)
    neuron = NEURONS.get(name).from_quantizer(quantizer)
    x = torch.randn(20, 3).double()
    T, coding = 6, neuron.codings[0]
    quantizer, neuron = quantizer.double(), neuron.double()
    run = Run(T, coding)
    with running(run):
        run.start_chunk(range(1, T + 1))
        out = neuron(x.repeat(T, 1))
    torch.testing.assert_close(unfold(out, T)[-1], quantizer(x), rtol=0, atol=1e-12)


@every_neuron
def test_outside_of_a_network_it_raises(name: str) -> None:
    with pytest.raises(
        ConversionError, match="works only inside a SpikingNetwork: call the network, not its parts"
    ):
        make(name)(torch.zeros(4, 3))


@every_neuron
def test_the_state_is_the_runs(name: str) -> None:
    neuron = make(name)
    aggregate = aggregates(torch.randn(6, 2, 3), neuron.codings[0])
    before = {k: v.clone() for k, v in vars(neuron).items() if isinstance(v, torch.Tensor)}
    state = {k: v.clone() for k, v in neuron.state_dict().items()}
    first = counts(neuron, aggregate, neuron.codings[0])
    assert {"threshold", "bounds"} <= state.keys() == neuron.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in neuron.state_dict().items())
    assert {k for k, v in vars(neuron).items() if isinstance(v, torch.Tensor)} == set(before)
    assert torch.equal(counts(neuron, aggregate, neuron.codings[0]), first)
    assert torch.equal(counts(copy.deepcopy(neuron), aggregate, neuron.codings[0]), first)


@every_neuron
def test_threshold_and_bounds_are_in_the_state(name: str) -> None:
    neuron, other = make(name, levels=6), make(name, levels=12, signed=False)
    other.threshold.mul_(2)
    other.load_state_dict(neuron.state_dict())
    assert (other.qmin, other.qmax, other.signed) == (neuron.qmin, neuron.qmax, neuron.signed)
    aggregate = aggregates(torch.randn(6, 2, 3), neuron.codings[0])
    coding = neuron.codings[0]
    assert torch.equal(counts(other, aggregate, coding), counts(neuron, aggregate, coding))


@every_neuron
def test_two_calls_in_one_forward_are_two_trajectories(name: str) -> None:
    neuron = make(name)
    coding, T = neuron.codings[0], 6
    inputs = [aggregates(torch.randn(T, 2, 3), coding) for _ in range(2)]
    chunk = 2 if neuron.causal else T
    alone = [counts(neuron, x, coding) for x in inputs]
    together: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    run = Run(T, coding, observers=[lambda _run, event: together[event.call].append(event.counts.clone())])
    with running(run):
        for start in range(1, T + 1, chunk):
            run.start_chunk(range(start, start + chunk))
            for x in inputs:
                neuron(fold(x[start - 1 : start - 1 + chunk]))
    for call in (0, 1):
        assert torch.equal(torch.cat(together[call]), alone[call])


@every_neuron
def test_half_precision_is_integrated_in_single(name: str) -> None:
    neuron = make(name)
    aggregate = aggregates(torch.randn(6, 2, 3), neuron.codings[0]).bfloat16()
    coding = neuron.codings[0]
    assert torch.equal(counts(neuron, aggregate, coding), counts(neuron, aggregate.float(), coding))


@every_neuron
def test_another_twin_is_refused(name: str) -> None:
    kind = NEURONS.get(name)
    for other in set(QUANTIZERS.names()) - set(kind.twins):
        quantizer = QUANTIZERS.get(other)(levels=8, threshold=1.0)
        with pytest.raises(
            ConversionError, match=f"neuron={name} needs quantization={' or '.join(kind.twins)}; got {other}"
        ):
            kind.from_quantizer(quantizer)


@every_neuron
def test_no_threshold_yet(name: str) -> None:
    kind = NEURONS.get(name)
    with pytest.raises(ConversionError, match="has no threshold yet: calibrate first"):
        kind.from_quantizer(QUANTIZERS.get(kind.twins[0])(levels=8))


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="neuron: unknown name 'para_inff'; did you mean 'para_inf'"):
        NEURONS.get("para_inff")
    with pytest.raises(ConfigError, match=r"neuron.order must be one of early, late, even; got 'soon'"):
        ParaInf(torch.ones(1), None, 0, 4, order="soon")  # type: ignore[arg-type]


def record(neuron: Neuron, aggregate: torch.Tensor, collapsed: bool = False) -> SpikeRecorder:
    recorder = SpikeRecorder({neuron: "here"})
    T = len(aggregate)
    run = Run(T, neuron.codings[0], collapsed=collapsed, observers=[recorder])
    with running(run):
        run.start_chunk(range(T, T + 1) if collapsed else range(1, T + 1))
        neuron(fold(aggregate[-1:] if collapsed else aggregate))
    return recorder


MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])
RECORDED = [(n, None) for n in NEURONS.names() if n != "para_inf"] + [
    ("para_inf", order) for order in SPIKE_ORDERS
]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("name", "order"), RECORDED)
def test_recorded_spikes_are_those_of_each_sample(name: str, order: str | None, padded: bool) -> None:
    neuron = make(name)
    if order:
        neuron.order = order  # type: ignore[assignment]
    aggregate = aggregates(torch.randn(6, 2, 3, 3), neuron.codings[0])
    emitted = counts(neuron, aggregate, neuron.codings[0])
    spikes = emitted.diff(dim=0, prepend=torch.zeros_like(emitted[:1]))
    real = MASK[:, :, None] if padded else torch.ones(2, 3, 1)
    with valid_positions(MASK if padded else None):
        layer = record(neuron, aggregate).layers()["here"]
    assert torch.equal(layer.positive, ((spikes > 0) * real).sum((2, 3)).double())
    assert torch.equal(layer.negative, ((spikes < 0) * real).sum((2, 3)).double())
    assert torch.equal(layer.neurons, real.expand(2, 3, 3).sum((1, 2)).double())
    assert torch.equal(layer.total, layer.positive + layer.negative)


class SilentIntegrateFire(IntegrateFire):
    def counts(self, charge: torch.Tensor, previous: torch.Tensor, run: Run) -> torch.Tensor:
        return follow((charge + self.initial).floor_(), previous)


class SilentSTBIF(STBIF):
    def count_chunk(
        self, over_time: torch.Tensor, unit: torch.Tensor, previous: torch.Tensor, run: Run
    ) -> torch.Tensor:
        return follow(self.final_count(over_time, unit, run), previous)


@pytest.mark.parametrize("kinds", [(IntegrateFire, SilentIntegrateFire), (STBIF, SilentSTBIF)])
def test_neurons_that_do_not_show_their_spikes_are_watched_all_the_same(
    kinds: tuple[type[Neuron], ...],
) -> None:
    coding = kinds[0].codings[0]
    aggregate = aggregates(2 * torch.randn(6, 2, 3, 3), coding)
    aggregate[:, 1] = aggregate[:1, 1]
    found = []
    for kind in kinds:
        neuron = kind(torch.ones(1), None, -4, 4)
        recorder, settling = SpikeRecorder({neuron: "here"}), Settling(torch.arange(2), 0)
        run = Run(6, coding, rows=torch.arange(2), observers=[recorder, settling])
        with running(run):
            for times in (range(1, 5), range(5, 7)):
                run.start_chunk(times)
                neuron(fold(aggregate[times.start - 1 : times.stop - 1]))
                settling.end_chunk(run)
        layer = recorder.layers()["here"]
        found.append((layer.positive, layer.negative, layer.silent, layer.always, settling.steps))
    assert found[0][1].sum() > 0
    assert all(torch.equal(*both) for both in zip(*found))


def test_what_is_no_number_never_settles() -> None:
    neuron, settling = STBIF(torch.ones(1), None, -4, 4), Settling(torch.arange(2), 0)
    aggregate = torch.ones(3, 2, 4)
    aggregate[:, 1, 0] = torch.nan
    run = Run(3, "sum", rows=torch.arange(2), observers=[settling])
    with running(run):
        run.start_chunk(range(1, 4))
        neuron(fold(aggregate))
        settling.end_chunk(run)
    assert settling.steps.tolist() == [1, 3]


def test_collapsed_runs_record_what_the_counts_decide_and_nothing_else() -> None:
    neuron = make("para_inf")
    aggregate = aggregates(torch.randn(6, 2, 3), "mean")
    whole, collapsed = (record(neuron, aggregate, collapsed=c).layers()["here"] for c in (False, True))
    assert torch.equal(whole.positive, collapsed.positive)
    assert torch.equal(whole.negative, collapsed.negative)
    causal = make("st_bif")
    assert record(causal, aggregates(torch.randn(6, 2, 3), "sum"), collapsed=True).layers() == {}
