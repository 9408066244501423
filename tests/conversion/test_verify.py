"""Verification can fail, and says what it measured when it cannot promise."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.convert import with_levels
from snn.conversion.quantize import quantizers
from snn.conversion.verify import LayerError, Report
from snn.errors import ConversionError

from .networks import quantised


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_wrong_threshold_fails(place: int) -> None:
    model, inputs = quantised("resnet20")
    network = snn.convert(model, "para_inf", 8)
    name, neuron = list(network.neurons.items())[place]
    neuron.threshold[0] *= 1.3
    report = snn.verify(model, network, [inputs])
    assert not report.passed
    assert report.unexplained > 0
    by_name = {layer.name: layer for layer in report.layers}
    assert by_name[name].differing > by_name[name].ties
    assert all(layer.differing == 0 for layer in report.layers[: list(by_name).index(name)])
    with pytest.raises(
        ConversionError, match=r"verification: FAILED: .* codes differ for no reason of rounding"
    ):
        report.raise_for_tolerance()


def test_a_wrong_weight_behind_the_last_neuron_fails() -> None:
    model, inputs = quantised("resnet20")
    network = snn.convert(model, "para_inf", 8)
    network.model.classifier.weight.mul_(1.001)
    report = snn.verify(model, network, [inputs])
    assert report.differing == 0
    assert not report.passed
    assert snn.verify(model, network, [inputs], tolerance=1e9).passed


def test_too_few_steps_to_settle_are_named() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    short = snn.verify(model, snn.convert(model, "st_bif", 3), [inputs])
    assert short.unsettled > 0
    assert short.verdict.startswith("not settled: ")
    assert short.passed  # a law that speaks of settled networks promises nothing here
    network = snn.convert(model, "st_bif", 64)
    assert snn.verify(model, network, [inputs]).unsettled == 0
    next(iter(network.neurons.values())).threshold[0] *= 1.3
    wrong = snn.verify(model, network, [inputs])
    assert wrong.unsettled == 0
    assert not wrong.passed


def test_a_carried_difference_needs_a_tie_before_it() -> None:
    carried = LayerError("later", elements=10, differing=2, carried=2)
    assert not Report([carried]).passed
    assert Report([LayerError("first", elements=10, differing=1, ties=1), carried]).passed
    assert not Report([carried, LayerError("last", elements=10, differing=1, ties=1)]).passed


def test_a_tie_is_found_and_shown_to_be_one() -> None:
    class Half(nn.Module):
        """Passes its input on; the spiking copy is off by the last bit."""

        scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    model = nn.Sequential(Half(), nn.ReLU(), nn.Linear(3, 2)).eval()
    model = snn.quantize(
        model, [{"type": "ReLU", "do": "replace", "threshold": 1.0, "granularity": "tensor"}]
    )
    # On the border between two codes; and far from any.
    inputs = {"x": torch.tensor([[0.3125, 0.1, 0.9], [0.6, 0.3, 0.2]])}
    network = snn.convert(model, "para_inf", 8)
    network.model[0].scale = 1 - 2**-24
    report = snn.verify(model, network, [inputs])
    assert (report.differing, report.ties, report.unexplained) == (1, 1, 0)
    assert report.passed
    assert 0 <= report.layers[0].margin < 1e-4
    assert "1 ties within rounding among 6 codes" in report.verdict


def test_integrate_fire_promises_nothing() -> None:
    model, inputs = quantised("bert")
    report = snn.verify(model, snn.convert(model, "integrate_fire", 8), [inputs])
    assert not report.exact
    assert report.differing > 0
    report.raise_for_tolerance()
    assert report.verdict.startswith("measured, not exact by law: logits differ by at most")


def test_another_number_of_steps_promises_nothing() -> None:
    model, inputs = quantised("resnet20")
    assert not snn.verify(model, snn.convert(model, "para_inf", 5), [inputs]).exact
    fewer = with_levels(model, 5)
    assert all(q.levels == 8 for q in quantizers(model).values())
    report = snn.verify(fewer, snn.convert(fewer, "para_inf", 5), [inputs])
    assert report.exact
    assert report.differing == 0


def test_the_report_adds_up() -> None:
    model, inputs = quantised("bert")
    network = snn.convert(model, "para_inf", 8)
    one, two = (
        snn.verify(model, network, [inputs]),
        snn.verify(model, network, [inputs, {**inputs, "labels": torch.zeros(3)}]),
    )
    assert (two.samples, two.elements) == (2 * one.samples, 2 * one.elements)
    assert [layer.name for layer in two.layers] == list(network.neurons) or len(two.layers) == len(
        network.neurons
    )
    assert two.logits_mean_error == pytest.approx(one.logits_mean_error)
    table = two.to_markdown()
    assert all(f"`{layer.name}`" in table for layer in two.layers)
    plain = json.loads(json.dumps(two.to_dict()))
    assert plain["passed"] is True
    assert plain["elements"] == two.elements


def test_networks_that_do_not_belong_together() -> None:
    model, inputs = quantised("resnet20")
    other = snn.create_model("resnet20", num_classes=3, widths=[4, 8], blocks=[1, 2]).double().eval()
    smaller = snn.quantize(other, [{"type": "ReLU", "do": "replace"}])
    snn.calibrate(smaller, [inputs])
    with pytest.raises(
        ConversionError, match=r"stages\.2\.0\.act1 has no neuron: these two networks do not belong together"
    ):
        snn.verify(model, snn.convert(smaller, "para_inf", 8), [inputs])
    with pytest.raises(
        ConversionError, match="is not in the quantised network: these two networks do not belong together"
    ):
        snn.verify(smaller, snn.convert(model, "para_inf", 8), [inputs])


def test_no_batch() -> None:
    model, _ = quantised("resnet20")
    with pytest.raises(ConversionError, match="verification needs at least one batch"):
        snn.verify(model, snn.convert(model, "para_inf", 8), [])


def small(*middle: nn.Module) -> tuple[nn.Module, snn.SpikingNetwork, dict[str, Tensor]]:
    model = nn.Sequential(nn.Linear(4, 4), *middle, nn.ReLU(), nn.Linear(4, 2)).eval()
    model = snn.quantize(
        model, [{"type": "ReLU", "do": "replace", "threshold": 1.0, "granularity": "tensor"}]
    )
    return model, snn.convert(model, "para_inf", 8), {"x": torch.randn(5, 4)}


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_mixed_rows_are_refused(samples: int) -> None:
    model, network, inputs = small(nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ConversionError, match="the output of a row depends on the other rows of the batch"):
        snn.verify(model, network, [{"x": inputs["x"][:samples]}])


def test_mixed_texts_are_refused() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.act, self.head = nn.Embedding(9, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.table(input_ids).mean(1)
            return self.head(self.act(x - x.mean(0)))

    model = snn.quantize(
        Mixed().eval(), [{"type": "ReLU", "do": "replace", "threshold": 1.0, "granularity": "tensor"}]
    )
    with pytest.raises(ConversionError, match="the output of a row depends on the other rows of the batch"):
        snn.verify(
            model, snn.convert(model, "para_inf", 8), [{"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}]
        )


def test_randomness_is_refused() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    model, network, inputs = small(Noise())
    with pytest.raises(
        ConversionError, match="two forwards of the same batch differ: the model draws random numbers"
    ):
        snn.verify(model, network, [inputs])
