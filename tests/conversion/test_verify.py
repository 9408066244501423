"""Verification can fail, and says what it measured when it cannot promise."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.agreement import slices
from snn.conversion.call import call_model
from snn.conversion.convert import with_levels
from snn.conversion.layer_error import LayerError
from snn.conversion.quantize import quantizers
from snn.conversion.report import Report
from snn.conversion.surgery import place
from snn.errors import ConversionError
from snn.neurons.run import Event, Run

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
    assert report.first_difference == name
    with pytest.raises(
        ConversionError, match=rf"verification: FAILED: .* differ for no reason of rounding, first in {name};"
    ):
        report.raise_for_tolerance()


def test_a_wrong_weight_behind_the_last_neuron_fails() -> None:
    model, inputs = quantised("resnet20")
    network = snn.convert(model, "para_inf", 8)
    network.model.classifier.weight.mul_(1.001)
    report = snn.verify(model, network, [inputs])
    assert report.differing == 0
    assert not report.passed
    assert report.verdict.startswith("FAILED: every code is equal, but logits differ by")
    assert snn.verify(model, network, [inputs], tolerance=1e9).passed


def test_too_few_steps_to_settle_are_named() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    short = snn.verify(model, snn.convert(model, "st_bif", 3), [inputs])
    assert short.unsettled > 0
    assert short.verdict.startswith("not settled: ")
    assert short.differing > short.layers[0].late > 0
    # What has not settled, and what follows from it, breaks no promise: the law speaks of settled networks.
    assert short.passed
    assert short.unexplained == 0
    network = snn.convert(model, "st_bif", 64)
    assert snn.verify(model, network, [inputs]).unsettled == 0
    next(iter(network.neurons.values())).threshold[0] *= 1.3
    wrong = snn.verify(model, network, [inputs])
    assert wrong.unsettled == 0
    assert not wrong.passed


def test_a_wrong_threshold_fails_before_anything_has_settled() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    network = snn.convert(model, "st_bif", 3)
    next(iter(network.neurons.values())).threshold[0] *= 1.3
    report = snn.verify(model, network, [inputs])
    assert report.unsettled > 0
    assert not report.passed
    assert next(iter(report.unexplained_by_layer)) == report.layers[0].name


def test_settling_may_be_required() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    short = snn.verify(model, snn.convert(model, "st_bif", 3), [inputs], require_settled=True)
    with pytest.raises(ConversionError, match=r"conversion\.require_settled: .* after T = 3, so raise T"):
        short.raise_for_tolerance()
    assert snn.verify(model, snn.convert(model, "st_bif", 64), [inputs], require_settled=True).passed


def test_the_settling_time_is_the_least_T_that_settles() -> None:
    model, inputs = quantised("bert", "lsq", 16)
    report = snn.verify(model, snn.convert(model, "st_bif", 64), [inputs])
    step = report.settled_last
    assert step is not None
    assert 1 < step < 64
    assert f"settled after {step} of 64 steps" in report.verdict
    assert snn.verify(model, snn.convert(model, "st_bif", step), [inputs]).unsettled == 0
    earlier = snn.verify(model, snn.convert(model, "st_bif", step - 1), [inputs])
    late = [layer.name for layer in earlier.layers if layer.differing]
    assert late
    assert [layer.name for layer in report.layers if layer.settled_last == step] == late[-len(late) :]
    for layer in report.layers:
        assert layer.settled_mean is not None
        assert layer.settled_99 is not None
        assert layer.settled_last is not None
        assert 0 < layer.settled_mean <= layer.settled_99 <= layer.settled_last <= step


def test_rates_have_no_settling_time() -> None:
    model, inputs = quantised("resnet20")
    for neuron in ("para_inf", "integrate_fire"):
        report = snn.verify(model, snn.convert(model, neuron, 8), [inputs])
        assert report.settled_last is None
        assert "settled" not in report.to_markdown()


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
    first = next(layer for layer in report.layers if layer.differing)
    assert report.verdict.endswith(f"the first difference arises in {first.name}")


def test_levels_off_are_those_of_the_counts() -> None:
    """Against a plain loop over what the two networks do."""
    model, inputs = quantised("bert")
    network = snn.convert(model, "integrate_fire", 8)
    codes, counts, real = {}, {}, {}
    for name, q in quantizers(model).items():
        q.register_forward_hook(
            lambda q, x, y, name=name: codes.update({name: (y / q.step_size(y)).round().long()})
        )
    names = {neuron: name for name, neuron in network.neurons.items()}
    call_model(model, inputs)
    for q in quantizers(model).values():
        q._forward_hooks.clear()

    def look(_run: Run, event: Event) -> None:
        name, last = names[event.neuron], event.counts[-1].long()
        counts[name], real[name] = last, torch.ones_like(last, dtype=torch.bool)
        if event.mask is not None:
            real[name] &= event.mask

    network(observers=(look,), **inputs)
    report = snn.verify(model, network, [inputs])
    assert len(report.layers) == len(codes)
    for layer, name in zip(report.layers, codes):
        off = (codes[name] - counts[name]).abs()[real[name]]
        assert (layer.name, layer.elements) == (place(name), off.numel())
        assert layer.off_by_one == int((off == 1).sum())
        assert layer.off_by_more == int((off > 1).sum())
        assert layer.mean_levels == pytest.approx(float(off.double().mean()), abs=1e-9)
        assert layer.to_dict()["share_off_by_one"] == layer.off_by_one / off.numel()
    assert report.total("off_by_more") > 0


def test_an_inexact_method_may_be_held_to_limits() -> None:
    model, inputs = quantised("resnet20")
    network = snn.convert(model, "integrate_fire", 8)
    free = snn.verify(model, network, [inputs])
    assert free.passed
    assert snn.verify(model, network, [inputs], max_error=2 * free.max_error).passed
    bad = snn.verify(model, network, [inputs], max_error=0.5 * free.max_error)
    with pytest.raises(
        ConversionError,
        match=r"FAILED: the logit error is larger than conversion\.max_error=.*; logits differ",
    ):
        bad.raise_for_tolerance()
    network.model.classifier.bias.add_(torch.tensor([0.0, 0.0, 1e6]))
    assert snn.verify(model, network, [inputs], min_agreement=0.0).passed
    bad = snn.verify(model, network, [inputs], min_agreement=1.0)
    assert not bad.passed
    assert "of predictions equal, conversion.min_agreement=1.0; logits differ" in bad.verdict


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
    assert [layer.name for layer in two.layers] == [layer.name for layer in one.layers]
    assert len({layer.name for layer in two.layers}) == len(two.layers) == len(network.neurons)
    assert two.logits.mean_error == pytest.approx(one.logits.mean_error)
    table = two.to_markdown()
    assert all(f"`{layer.name}`" in table for layer in two.layers)
    plain = json.loads(json.dumps(two.to_dict()))
    assert plain["passed"] is True
    assert plain["elements"] == two.elements
    rows = list(csv.DictReader(io.StringIO(two.to_csv())))
    assert [row["name"] for row in rows] == [layer.name for layer in two.layers]
    assert [int(row["elements"]) for row in rows] == [layer.elements for layer in two.layers]
    widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_long_runs_go_through_in_parts() -> None:
    """T = 100 leaves room for two of the three samples at once; nothing is lost or counted twice."""
    model, inputs = quantised("bert", "lsq", 16)
    parts = snn.verify(model, snn.convert(model, "st_bif", 100), [inputs])
    whole = snn.verify(model, snn.convert(model, "st_bif", 64), [inputs])
    assert [len(x["input_ids"]) for x in slices(inputs, 100)] == [2, 1]
    assert [len(x["attention_mask"]) for x in slices(inputs, 64)] == [3]
    assert [len(x["input_ids"]) for x in slices(inputs, 999)] == [1, 1, 1]
    assert (parts.samples, parts.elements) == (whole.samples, whole.elements)
    assert parts.differing == whole.differing == 0
    for one, two in zip(parts.layers, whole.layers):
        assert one.settled_mean == pytest.approx(two.settled_mean)
        assert (one.settled_99, one.settled_last) == (two.settled_99, two.settled_last)


class Tagger(nn.Module):
    """Says something of every token."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.table, self.act, self.head = nn.Embedding(9, 6), nn.ReLU(), nn.Linear(6, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.act(self.table(input_ids)))


def tagger(classes: int) -> tuple[nn.Module, snn.SpikingNetwork, dict[str, Tensor]]:
    rules = [{"type": "ReLU", "do": "replace", "threshold": 1.0, "granularity": "tensor"}]
    model = snn.quantize(Tagger(classes).eval(), rules)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    inputs = {"input_ids": torch.randint(9, (2, 4)), "attention_mask": mask}
    return model, snn.convert(model, "para_inf", 8), inputs


def test_predictions_are_counted_by_position_and_padding_is_none() -> None:
    model, network, inputs = tagger(5)
    report = snn.verify(model, network, [inputs])
    assert (report.samples, report.logits.predictions, report.logits.same) == (2, 5, 5)
    assert "same class at 5 of 5 positions of 2 samples" in report.verdict
    network.model.head.bias[3] += 1e6
    report = snn.verify(model, network, [inputs])
    wanted = (model(**inputs).argmax(-1) == 3)[inputs["attention_mask"].bool()]
    assert report.logits.same == int(wanted.sum())


def test_a_single_number_predicts_no_class() -> None:
    model, network, inputs = tagger(1)
    report = snn.verify(model, network, [inputs])
    assert report.logits.share is None
    assert "same" not in report.verdict
    with pytest.raises(ConversionError, match=r"conversion\.min_agreement: the read-out is a single number"):
        snn.verify(model, network, [inputs], min_agreement=0.9)


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


def test_padding_is_not_compared() -> None:
    """The same figures for texts in a batch of longer ones: another padding has other errors."""
    model, inputs = quantised("bert")
    network, found = snn.convert(model, "integrate_fire", 8), []
    longer = {key: nn.functional.pad(values, (0, 3)) for key, values in inputs.items()}
    for batch in (inputs, longer):
        layers = snn.verify(model, network, [batch]).layers
        found.append([(layer.elements, layer.mean_error, layer.max_error) for layer in layers])
    real = int(inputs["attention_mask"].sum())
    assert found[0][0][0] % real == 0
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-9)
