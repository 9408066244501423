"""Neurons of networks that spike by themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from snn.errors import ConfigError
from snn.functional import integrate_fire, parallel_fire, qcfs
from snn.functional.fire import SPIKE_ORDERS
from snn.neurons.lif import LIF, PLIF, NativeIntegrateFire
from snn.neurons.native import neuron_factory
from snn.neurons.parallel_fire import ParallelFire
from snn.neurons.registry import NATIVE_NEURONS

every_neuron = pytest.mark.parametrize("name", NATIVE_NEURONS.names())


def current(*shape: int) -> torch.Tensor:
    return 0.5 + 1.5 * torch.randn(*shape, dtype=torch.float64)


@every_neuron
def test_spikes_are_zeros_and_ones_with_a_gradient(name: str) -> None:
    neuron = neuron_factory(name)(threshold=0.7)
    x = current(6, 3, 40).requires_grad_()
    spikes = neuron(x)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    (grad,) = torch.autograd.grad((spikes * torch.randn_like(spikes)).sum(), x)
    assert grad.isfinite().all()
    assert grad.count_nonzero() > 0


@every_neuron
def test_nothing_is_remembered_between_two_calls(name: str) -> None:
    neuron = neuron_factory(name)()
    x = current(5, 2, 30)
    before = neuron.state_dict().keys()
    first = neuron(x)
    neuron(current(3, 7, 4))
    assert torch.equal(neuron(x), first)
    assert torch.equal(copy.deepcopy(neuron)(x), first)
    assert neuron.state_dict().keys() == before
    assert list(before) == (["weight"] if name == "plif" else [])


@every_neuron
def test_half_precision(name: str) -> None:
    neuron = neuron_factory(name)()
    x = current(5, 2, 30).bfloat16()
    assert neuron(x).dtype == torch.bfloat16
    assert torch.equal(neuron(x).float(), neuron(x.float()))


@pytest.mark.parametrize("name", ["lif", "plif", "integrate_fire"])
def test_steps_make_the_window(name: str) -> None:
    neuron = neuron_factory(name)(threshold=0.6)
    x, state, spikes = current(6, 2, 30), None, []
    for now in x:
        out, state = neuron.step(now, state)
        spikes.append(out)
    assert torch.equal(torch.stack(spikes), neuron(x))


def test_a_single_step_of_para_inf_is_a_window_of_its_own() -> None:
    neuron = ParallelFire(0.8)
    x = current(4, 30)
    for now in x:
        spikes, state = neuron.step(now, None)
        assert state is None
        assert torch.equal(spikes, (now >= 0.4).double())


def test_integrate_fire_is_the_neuron_that_networks_are_converted_to() -> None:
    x, threshold = current(9, 4, 50), 0.75
    want, _ = integrate_fire(x, torch.tensor(threshold, dtype=torch.float64))
    assert torch.equal(NativeIntegrateFire(threshold)(x) * threshold, want)


@pytest.mark.parametrize("order", SPIKE_ORDERS)
def test_para_inf_fires_in_parallel_with_the_gradient_of_qcfs(order) -> None:
    x, threshold, T = current(6, 4, 50).requires_grad_(), 0.75, 6
    theta = torch.tensor(threshold, dtype=torch.float64)
    spikes = ParallelFire(threshold, order)(x)
    assert torch.equal(spikes, parallel_fire(x.detach(), theta, height=torch.ones_like(theta), order=order))
    weight = torch.randn(4, 50, dtype=torch.float64)
    (got,) = torch.autograd.grad((spikes.mean(0) * weight).sum(), x)
    (want,) = torch.autograd.grad((qcfs(x.mean(0), theta, T) / theta * weight).sum(), x)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_the_time_constant_of_plif_is_trained() -> None:
    assert PLIF(tau=2.0).weight.item() == 0
    neuron = PLIF(tau=4.0)
    assert neuron.tau.item() == pytest.approx(4.0)
    x = current(6, 3, 40).float()
    assert torch.equal(PLIF(tau=2.0)(x), LIF(tau=2.0)(x))
    neuron(x).sum().backward()
    assert neuron.weight.grad is not None
    assert neuron.weight.grad != 0
    assert neuron.weight.shape == ()


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        ("lfi", ["neuron", "'lfi'", "did you mean 'lif'"]),
        ({"name": None}, ["neuron.name", "lif", "plif"]),
        ({"name": "lif", "tua": 2.0}, ["neuron.tua", "neuron=lif", "did you mean 'tau'"]),
        ({"name": "lif", "tau": 0.5}, ["neuron=lif", "tau must be at least 1; got 0.5"]),
        ({"name": "lif", "threshold": 0}, ["neuron=lif", "threshold must be positive"]),
        ({"name": "plif", "tau": 1.0}, ["neuron=plif", "tau must be greater than 1"]),
        ({"name": "para_inf", "order": "soon"}, ["neuron=para_inf", "early, late, even", "'soon'"]),
        ({"name": "para_inf", "tau": 2.0}, ["neuron.tau", "neuron=para_inf", "order, threshold"]),
        ({"name": "st_bif"}, ["'st_bif'", "integrate_fire, lif, para_inf, plif"]),
    ],
)
def test_mistakes_are_named(neuron: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        neuron_factory(neuron)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_null_stands_for_not_given() -> None:
    assert neuron_factory({"name": "para_inf", "coding": None, "order": "late"})().order == "late"  # type: ignore[attr-defined]


@every_neuron
def test_every_option_changes_something(name: str) -> None:
    other: dict[str, Any] = {
        "threshold": 0.4,
        "tau": 3.0,
        "reset": "soft" if name != "integrate_fire" else "hard",
        "detach_reset": False,
        "decay_input": False,
        "surrogate": "arctan",
        "alpha": 2.0,
        "detach_membrane": True,
        "initial": 0.25,
        "order": "even",
    }
    from snn.registry import accepted

    x = current(6, 3, 40)
    weight = torch.randn_like(x)

    def response(**options: Any) -> torch.Tensor:
        y = x.clone().requires_grad_()
        spikes = neuron_factory({"name": name, **options})()(y)
        (grad,) = torch.autograd.grad((spikes * weight).sum(), y)
        return torch.cat([spikes.detach(), grad])

    plain = response()
    for key in accepted(NATIVE_NEURONS.get(name)):
        assert not torch.equal(response(**{key: other[key]}), plain), key
