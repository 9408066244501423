"""Attribution switches off one source of error at a time, and measures what is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.attribution import SOURCES, Attribution, held, quantizing
from snn.conversion.call import call_model
from snn.errors import ConversionError
from snn.quantizers.da_qcfs import DAQCFS

from .networks import quantised

VALUES = torch.tensor([[0.3, 2.0], [0.9, -1.0], [0.55, 0.12]])


class Plain(nn.Module):
    """Its logits are its activations."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x)


def plain(signed: bool = False) -> nn.Module:
    rule = {"match": "activation", "do": "replace", "signed": signed, "threshold": 1.0}
    return snn.quantize(
        Plain(nn.ReLU()).eval(), [{**rule, "granularity": "tensor"}], name="qcfs", levels=4
    ).requires_grad_(False)


def by_name(found: Attribution) -> dict[str, Any]:
    return {variant.name: variant for variant in found.variants}


@pytest.mark.parametrize(
    ("clip", "round", "wanted"),
    [
        (False, False, [[0.3, 2.0], [0.9, 0.0], [0.55, 0.12]]),
        (True, False, [[0.3, 1.0], [0.9, 0.0], [0.55, 0.12]]),
        (False, True, [[0.25, 2.0], [1.0, 0.0], [0.5, 0.0]]),
        (True, True, [[0.25, 1.0], [1.0, 0.0], [0.5, 0.0]]),
    ],
)
def test_each_part_of_a_quantiser_can_be_switched_off(clip: bool, round: bool, wanted: list[Any]) -> None:
    model = plain()
    before = model(VALUES)
    with quantizing(model, clip, round):
        assert torch.equal(model(VALUES), torch.tensor(wanted))
    assert torch.equal(model(VALUES), before)


def test_signed_values_keep_their_sign() -> None:
    model = plain(signed=True)
    x = torch.tensor([[-2.0, -0.3]])
    for clip, round, wanted in (
        (False, False, [-2.0, -0.3]),
        (True, False, [-1.0, -0.3]),
        (False, True, [-2.0, -0.25]),
    ):
        with quantizing(model, clip, round):
            assert model(x).tolist() == [pytest.approx(wanted)]


def test_corrections_act_as_long_as_an_error_does() -> None:
    rule = {"match": "activation", "do": "replace", "threshold": 1.0}
    model = snn.quantize(Plain(nn.ReLU()).eval(), [rule], name="da_qcfs", levels=4)
    quantizer = model.activation
    assert isinstance(quantizer, DAQCFS)
    quantizer.correct(shift=torch.tensor([0.1]), height=torch.tensor([2.0]))
    x = torch.tensor([[0.2, 1.7]])
    for clip, round, wanted in (
        (False, False, [0.2, 1.7]),
        (True, False, [0.6, 2.0]),
        (False, True, [0.5, 3.5]),
        (True, True, [0.5, 2.0]),
    ):
        with quantizing(model, clip, round):
            assert model(x).tolist() == [pytest.approx(wanted)]


def test_errors_are_those_of_the_arithmetic() -> None:
    model = plain()
    network = snn.convert(model, "integrate_fire", 4)
    found = snn.attribute(model, network, [{"x": VALUES, "labels": torch.tensor([1, 0, 1])}])
    at = by_name(found)
    error = {name: variant.logits.mean_error for name, variant in at.items()}
    rounding = (0.05 + 0.1 + 0.05 + 0.12) / 6
    assert error["float"] == 0
    assert error["clipped only"] == pytest.approx(1.0 / 6)
    assert error["rounded only"] == pytest.approx(rounding, rel=1e-5)
    assert error["quantised"] == pytest.approx(1.0 / 6 + rounding, rel=1e-5)
    # The input of the only neuron is constant, so nothing arrives unevenly.
    assert (
        error["spiking"] == error["spiking, inputs held at their means"] == pytest.approx(error["quantised"])
    )
    assert found.sources == pytest.approx(
        {"clipping": 1.0 / 6, "rounding": rounding, "time steps": 0.0, "unevenness": 0.0}, rel=1e-5
    )
    assert "mostly from clipping" in found.verdict
    assert [variant.accuracy for variant in found.variants] == [pytest.approx(2 / 3)] * 6
    assert {variant.logits.same for variant in found.variants} == {3}


def test_without_clipping_and_rounding_it_is_the_float_network() -> None:
    torch.manual_seed(0)
    float_network = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()
    model = snn.quantize(float_network, [{"type": "ReLU", "do": "replace"}])
    inputs = {"x": torch.randn(6, 4)}
    snn.calibrate(model, [inputs])
    with quantizing(model, clip=False, round=False):
        assert torch.equal(model(inputs["x"]), float_network(inputs["x"]))


@pytest.mark.parametrize("name", ["bert", "resnet20"])
def test_unevenness_is_what_integrate_fire_adds(name: str) -> None:
    model, inputs = quantised(name)
    wanted = call_model(model, inputs)
    network = snn.convert(model, "integrate_fire", 8)
    # Held at its mean, every neuron is its quantiser: QCFS is IF under constant input.
    torch.testing.assert_close(held(network, inputs), wanted, rtol=0, atol=1e-12)
    found = snn.attribute(model, network, [inputs])
    at = by_name(found)
    assert at["spiking"].logits.max_error > at["quantised"].logits.max_error / 10
    change = found.sources["unevenness"]
    assert change == pytest.approx(at["spiking"].logits.mean_error - at["quantised"].logits.mean_error)
    assert change > 0
    assert found.sources["time steps"] == 0


def test_para_inf_at_other_levels_loses_by_its_steps_alone() -> None:
    model, inputs = quantised("bert")
    exact = snn.attribute(model, snn.convert(model, "para_inf", 8), [inputs])
    other = snn.attribute(model, snn.convert(model, "para_inf", 5), [inputs])
    assert exact.sources["time steps"] == exact.sources["unevenness"] == other.sources["unevenness"] == 0
    assert other.sources["time steps"] != 0
    for source in ("clipping", "rounding"):
        assert other.sources[source] == exact.sources[source] != 0


def test_st_bif_loses_while_it_settles() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    short = snn.attribute(model, snn.convert(model, "st_bif", 3), [inputs])
    assert short.sources["time steps"] != 0
    long = snn.attribute(model, snn.convert(model, "st_bif", 64), [inputs])
    assert long.sources["time steps"] == long.sources["unevenness"] == 0


def test_batches_and_parts_add_up() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    network = snn.convert(model, "st_bif", 100)  # in two parts
    one, two = (snn.attribute(model, network, [inputs] * n) for n in (1, 2))
    for a, b in zip(one.variants, two.variants):
        assert (b.logits.samples, b.logits.same) == (2 * a.logits.samples, 2 * a.logits.same)
        assert b.logits.mean_error == pytest.approx(a.logits.mean_error)
        assert b.logits.max_error == a.logits.max_error
        assert b.accuracy is None  # no labels


def test_the_table() -> None:
    model, inputs = quantised("resnet20")
    found = snn.attribute(model, snn.convert(model, "integrate_fire", 8), [inputs])
    table = found.to_markdown()
    assert all(f"| {variant.name} |" in table for variant in found.variants)
    record = json.loads(json.dumps(found.to_dict()))
    assert record["samples"] == len(next(iter(inputs.values())))
    assert set(record["sources"]) == set(SOURCES)
    assert record["variants"][-1]["name"] == "spiking"


def test_no_batch() -> None:
    model, _ = quantised("resnet20")
    with pytest.raises(ConversionError, match="attribution needs at least one batch"):
        snn.attribute(model, snn.convert(model, "para_inf", 8), [])
