"""Energy by hand under every convention, what a table says, and profiles that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml
from torch import nn

import snn
from snn.conversion.products import Product
from snn.errors import ConfigError
from snn.evaluation.energy import Energy, energy
from snn.evaluation.energy_profile import EnergyProfile
from snn.evaluation.evaluate import evaluate
from snn.evaluation.neurobench import neurobench
from snn.evaluation.operations import OperationCounts, ProductCount
from snn.launch import CONF
from snn.tracking.energy_report import energy_section
from tests.conversion.networks import quantised

PROFILES = sorted(path.stem for path in (CONF / "energy").glob("*.yaml"))


def profile(name: str = "horowitz_45nm", **changed: object) -> EnergyProfile:
    return EnergyProfile(**{**yaml.safe_load((CONF / "energy" / f"{name}.yaml").read_text()), **changed})


#: Two steps: a first layer, one on spikes, one on sums of spikes, an attention product, and an analog one.
COUNTS = OperationCounts(
    T=2,
    samples=1,
    products=[
        ProductCount(Product("first", "mm", "input", "weight", 10), 10, [10, 10], ([0, 0], [0, 0])),
        ProductCount(Product("second", "mm", "spikes", "weight", 20), 20, [20, 20], ([4, 6], [0, 0])),
        ProductCount(
            Product("sum", "mm", "spikes", "weight", 30), 30, [30, 30], ([7, 8], [0, 0]), alone=False
        ),
        ProductCount(Product("scores", "bmm", "spikes", "spikes", 40), 40, [40, 40], ([1, 2], [3, 1])),
        ProductCount(Product("last", "mm", "analog", "weight", 50), 50, [50, 50], ([0, 0], [0, 0])),
    ],
    analog=[("norm", "layer norm", 5, [5, 5])],
    membranes={"layer": [3, 3]},
    input_steps=2,
)


def of(found: Energy, module: str) -> float:
    """Energy of one operator in the spiking network, in picojoules."""
    return sum(next(o for o in found.operators if o.module == module).spiking_pj)


def test_by_hand() -> None:
    found = energy(COUNTS, profile())
    assert {o.module: sum(o.spiking_pj) for o in found.operators} == pytest.approx(
        {
            "first": 20 * 4.6,
            "second": 10 * 0.9,
            "sum": 15 * 0.9,
            "scores": 7 * 0.9,
            "last": 100 * 4.6,
            "norm": 10 * 4.6,
            "layer": 6 * 0.9,
        }
    )
    whole, quantised, spiking = found.networks
    assert whole["energy_uj"] == pytest.approx(155 * 4.6 / 1e6)
    assert found.bits == 2
    share = 2 / 32  # a 2-bit multiplier is a sixteenth of a 32-bit one in one direction
    one, two = 0.9 + 3.7 * share, 0.9 + 3.7 * share**2
    assert quantised["energy_uj"] == pytest.approx((65 * 4.6 + 50 * one + 40 * two) / 1e6)
    assert (spiking["macs"], spiking["acs"], spiking["membrane_updates"]) == (130, 32, 6)
    assert sum(found.per_timestep) == pytest.approx(spiking["energy_uj"])
    assert sum(row["spiking_uj"] for row in found.parts()) == pytest.approx(spiking["energy_uj"])
    assert whole["of_float"] == 1


@pytest.mark.parametrize(
    ("changed", "module", "expected"),
    [
        ({"first_layer": "once"}, "first", 10 * 4.6),
        ({"non_binary": "macs"}, "sum", 60 * 4.6),
        ({"non_binary": "macs"}, "second", 10 * 0.9),
        ({"attention": "one_factor"}, "scores", (1 + 1) * 0.9),
        ({"attention": "running_sums_overlap"}, "scores", (7 + 2) * 0.9),
        ({"zero_skipping": False}, "second", 40 * 0.9),
        ({"zero_skipping": False}, "scores", 160 * 0.9),
        ({"analog": 2.0}, "norm", 20 * 4.6),
        ({"membrane": 0.0}, "layer", 0),
        ({"ac_memory": 15.0}, "second", 10 * 15.9),
        ({"mac_memory": 10.0}, "last", 100 * 14.6),
    ],
)
def test_conventions(changed: dict[str, object], module: str, expected: float) -> None:
    assert of(energy(COUNTS, profile(**changed)), module) == pytest.approx(expected)


def test_input_that_is_given_once_is_multiplied_once() -> None:
    assert of(energy(replace(COUNTS, input_steps=1), profile()), "first") == pytest.approx(10 * 4.6)


@pytest.mark.parametrize(("T", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (15, 4), (16, 5)])
def test_bits_that_hold_every_count(T: int, bits: int) -> None:
    assert energy(replace(COUNTS, T=T), profile()).bits == bits


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_says_what_it_rests_on(name: str) -> None:
    found = energy(COUNTS, profile(name))
    text = "\n".join(found.assumptions())
    for said in ("4.6 pJ per MAC", "0.9 pJ per AC", "Attention:", "Sums of several", "bits per activation"):
        assert said in text
    assert name in found.verdict
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ac": None}, "energy.ac: the profile horowitz_45nm has no such constant"),
        ({"membrane": None}, "energy.membrane: "),
        ({"mac": 0.0}, "energy.mac must be positive; got 0.0"),
        ({"ac_memory": -1.0}, "energy.ac_memory must be at least 0; got -1.0"),
        (
            {"attention": "running_sum"},
            "energy.attention: unknown name 'running_sum'; did you mean 'running_sums'",
        ),
        ({"first_layer": "twice"}, "energy.first_layer: unknown name 'twice'"),
    ],
)
def test_profiles_that_cannot_be_used(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile(**changed).check()


def test_a_measured_network_and_its_report() -> None:
    model, inputs = quantised("bert")
    network = snn.convert(model, "para_inf", 8)
    batch = {**inputs, "labels": torch.zeros(3, dtype=torch.long)}
    measured = evaluate(network, [batch])
    assert measured.operations is not None
    found = energy(measured.operations, profile())
    short = neurobench(network, measured)
    assert short["effective_acs"] == pytest.approx(found.networks[2]["acs"])
    assert short["effective_macs"] == 0  # every product takes spikes
    text = energy_section({"energy": found.to_dict(), "neurobench": short})
    for said in ("## Energy", "float ANN", "quantised ANN, 4 bits", "spiking network, T = 8", "NeuroBench"):
        assert said in text
    assert energy_section({}) == ""


def test_connections_that_are_zero() -> None:
    layer = nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[0.0, 1, 2, 3], [0, 0, 1, 1]])
    model = snn.quantize(nn.Sequential(layer, nn.ReLU(), nn.Linear(2, 2)), [{"type": "ReLU"}], threshold=1.0)
    network = snn.convert(model.eval(), "para_inf", 8)
    found = evaluate(network, [{"input": torch.ones(1, 4), "labels": torch.zeros(1, dtype=torch.long)}])
    short = neurobench(network, found)
    assert short["connection_sparsity"] == pytest.approx(3 / 12)
    assert short["parameters"] == 4 * 2 + 2 + 2 * 2 + 2
    assert short["footprint_bytes"] >= 4 * (16 + 1), "and the threshold"
    # At a threshold of 1 both neurons are given far more, and fire at each of 8 steps.
    assert short["activation_sparsity"] == pytest.approx(float((layer(torch.ones(4)) < 0.5 / 8).sum()) / 2)


def test_no_spikes_at_all() -> None:
    """A network that never fires costs its input, its dense work and its membranes, and no accumulate."""
    silent = nn.Linear(2, 3)
    nn.init.zeros_(silent.weight)
    nn.init.constant_(silent.bias, -1.0)
    model = snn.quantize(
        nn.Sequential(silent, nn.ReLU(), nn.Linear(3, 2)), [{"type": "ReLU", "do": "replace"}], threshold=1.0
    )
    network = snn.convert(model.eval(), "para_inf", 8)
    found = evaluate(network, [{"input": torch.ones(1, 2), "labels": torch.zeros(1, dtype=torch.long)}])
    assert found.layers[0]["silent"] == 1
    assert found.operations is not None
    spiking = energy(found.operations, profile()).networks[2]
    assert (spiking["acs"], spiking["macs"], spiking["membrane_updates"]) == (0, 8 * 6, 8 * 3)
    assert neurobench(network, found)["activation_sparsity"] == 1
