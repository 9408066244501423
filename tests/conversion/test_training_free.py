"""Conversion without training: both branches, the rules, the orders, any architecture, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.checkpoint import load_checkpoint, save_checkpoint
from snn.conversion.quantize import quantizers
from snn.conversion.training_free.balance import balance
from snn.conversion.training_free.branches import reference_branch, run
from snn.conversion.training_free.correct import correct
from snn.conversion.training_free.pairs import keep_rows
from snn.conversion.training_free.reference import REFERENCES, reference_activation
from snn.conversion.training_free.rules import RULES
from snn.errors import ConfigError, ConversionError
from snn.quantizers.da_qcfs import DAQCFS
from tests.conversion.networks import quantised
from tests.models.small import SMALL

Batch = dict[str, Tensor]
LEVELS = 4
ACTIVATIONS = [{"type": "ReLU", "do": "replace", "signed": False}]


class Tokens(nn.Module):
    """A small network of tokens with an attention mask, as padding is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.act1 = nn.Linear(6, 8), nn.ReLU()
        self.two, self.act2 = nn.Linear(8, 8), nn.ReLU()
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.out(self.act2(self.two(self.act1(self.one(x))))[:, 0])


class Shared(nn.Module):
    """One activation, called at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.two(self.act(self.one(x)))))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    model = snn.create_model("resnet20", num_classes=3, **{**SMALL["resnet20"], "in_channels": 3})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.uniform_(-0.5, 0.5)
    return model.eval()


def pictures(count: int = 3, rows: int = 8) -> list[Batch]:
    """Smooth noise: neighbouring pixels have to do with each other, as those of pictures do."""
    generator = torch.Generator().manual_seed(1)
    coarse = [torch.randn(rows, 3, 4, 4, generator=generator) for _ in range(count)]
    return [{"pixel_values": nn.functional.interpolate(x, scale_factor=2, mode="bilinear")} for x in coarse]


def tokens(count: int = 3, padded: float = 0.0) -> list[Batch]:
    """Padding holds enormous numbers: whatever looked at them would show it."""
    generator = torch.Generator().manual_seed(2)
    batches = []
    for _ in range(count):
        x = torch.randn(8, 5, 6, generator=generator)
        mask = torch.ones(8, 5, dtype=torch.long)
        if padded:
            x = torch.cat([x, torch.full((8, 2, 6), padded)], 1)
            mask = torch.cat([mask, torch.zeros(8, 2, dtype=torch.long)], 1)
        batches.append({"x": x, "attention_mask": mask})
    return batches


def vectors(count: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    return [{"x": torch.randn(64, 6, generator=generator)} for _ in range(count)]


def ready(model: nn.Module, batches: list[Batch], levels: int = LEVELS, name: str = "da_qcfs") -> nn.Module:
    made = snn.quantize(model, ACTIVATIONS, name=name, levels=levels).eval()
    return snn.calibrate(made, batches)


def gaps(model: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Mean over channels of the mean gap before each quantiser, after its shift; and of that behind it."""
    ideal = reference_branch(model, reference_activation("relu"))
    before, behind = [], []
    for name, quantizer in quantizers(model).items():
        got: list[Tensor] = []
        wanted: list[Tensor] = []
        for batch in batches:
            run(model, batch, {name: keep_rows(got, 10**6, 0)})
            run(ideal, batch, {name: keep_rows(wanted, 10**6, 0)})
        a, r = torch.cat(got), torch.cat(wanted)
        assert isinstance(quantizer, DAQCFS)
        before.append((r - a - quantizer.shift).mean(0).abs().mean())
        behind.append((r.clamp_min(0) - quantizer(a).detach()).mean(0).abs().mean())
    return float(torch.stack(before).mean()), float(torch.stack(behind).mean())


@pytest.mark.parametrize("order", ["layerwise", "online"])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule_in_every_order_closes_the_gaps(rule: str, order: str) -> None:
    batches = pictures()
    model = ready(resnet(), batches)
    start = gaps(model, batches)
    correct(model, batches, rule=rule, order=order, rows=10**6, decay=0.5)
    before, behind = gaps(model, batches)
    # A height that keeps the spread leaves the mean to the shifts behind it, which come later only layer by layer.
    if (rule, order) != ("spread", "online"):
        assert before < start[0]
    if rule in ("closed_form", "integral"):
        assert behind < start[1]


def test_closed_form_layer_by_layer_leaves_no_mean_gap() -> None:
    batches = pictures()
    model = ready(resnet(), batches)
    correct(model, batches, rule="closed_form", rows=10**6)
    before, behind = gaps(model, batches)
    assert before < 1e-6
    # Of heights that the limits hold back, some of the gap remains.
    held = torch.cat([q.gain for q in quantizers(model).values() if isinstance(q, DAQCFS)])
    assert behind < (1e-5 if bool(((held > 0.2501) & (held < 3.999)).all()) else 0.02)


def test_the_first_shift_is_zero() -> None:
    """Nothing before the first quantiser rounds."""
    batches = pictures()
    model = ready(resnet(), batches)
    correct(model, batches)
    first = next(iter(quantizers(model).values()))
    assert isinstance(first, DAQCFS)
    assert torch.equal(first.shift, torch.zeros_like(first.shift))


def test_leaky_is_the_published_recursion() -> None:
    """Two layers, written out: both branches, alpha per batch from zero, heights updated behind the output."""
    batches, decay = vectors(4), 0.9
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    quantised = ready(model, batches)
    correct(
        quantised, batches, rule="leaky", order="online", reference="clipped_relu", rows=10**6, decay=decay
    )
    theta = [quantised[i].positive_threshold().detach() for i in (1, 3)]
    psi, phi = [torch.zeros(5), torch.zeros(4)], [torch.zeros(5), torch.zeros(4)]
    with torch.no_grad():
        for batch in batches:
            a = r = batch["x"]
            for i, layer in enumerate((model[0], model[2])):
                a, r = layer(a), layer(r)
                psi[i] = decay * psi[i] + (1 - decay) * (r - a).mean(0)
                codes = ((a + psi[i]) * LEVELS / theta[i] + 0.5).floor().div(LEVELS).clamp(0, 1)
                y0, y1 = codes * (theta[i] + phi[i]), r.clamp_min(0).minimum(theta[i])
                phi[i] = decay * phi[i] + (1 - decay) * (y1 - y0).mean(0)
                a, r = y0, y1
    for i, position in enumerate((1, 3)):
        torch.testing.assert_close(quantised[position].shift, psi[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(quantised[position].height.detach(), theta[i] + phi[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("reference", REFERENCES)
def test_references(reference: str) -> None:
    x, theta = torch.tensor([-0.4, 0.24, 0.26, 3.0]), torch.tensor(2.0)
    want = {"relu": [0, 0.24, 0.26, 3], "clipped_relu": [0, 0.24, 0.26, 2], "qcfs": [0, 0.0, 0.5, 2]}[
        reference
    ]
    got = reference_activation(reference, levels=4)(x, theta, False)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float32))
    signed = reference_activation(reference, levels=4)(-x, theta, True)
    assert signed[-1] == (-3 if reference == "relu" else -2)


@pytest.mark.parametrize("order", ["layerwise", "online"])
def test_padding_is_left_out(order: str) -> None:
    torch.manual_seed(0)
    model = Tokens().eval()
    made = []
    for batches in (tokens(), tokens(padded=1e4)):
        quantised = ready(model, batches)
        made.append(correct(quantised, batches, order=order, weights=order == "layerwise", rows=10**6))
    for (name, one), two in zip(made[0].state_dict().items(), made[1].state_dict().values()):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "vit"])
@pytest.mark.parametrize("order", ["layerwise", "online"])
def test_transformers_with_every_operand_in_spikes(name: str, order: str) -> None:
    """Calls inside a forward, signed codes, masks, tuples: corrected like anything else, and exact."""
    network, inputs = quantised(name, "da_qcfs", LEVELS)
    model = correct(copy.deepcopy(network), [inputs, inputs], order=order, rule="closed_form")
    assert any(bool((q.shift != 0).any()) for q in quantizers(model).values() if isinstance(q, DAQCFS))
    report = snn.verify(model, snn.convert(model, "para_inf_channelwise", T=LEVELS), [inputs])
    assert report.exact
    assert report.differing == 0


def test_a_dead_channel_is_harmless() -> None:
    torch.manual_seed(0)
    model = Tokens().eval()
    model.one.bias.data[2] = -100.0
    batches = tokens()
    quantised = correct(ready(model, batches), batches)
    network = snn.convert(quantised, "para_inf_channelwise", T=LEVELS)
    assert all(tensor.isfinite().all() for tensor in quantised.state_dict().values())
    report = snn.verify(quantised, network, batches[:1])
    assert report.passed


def test_weights_are_solved_for_quantised_inputs() -> None:
    """Nearer to the float network than without, on batches that were not looked at."""
    model, batches, fresh = resnet(), pictures(6, 16), pictures(8, 16)[6:]
    errors = {}
    for weights in (False, True):
        quantised = correct(ready(model, batches), batches, weights=weights, rows=10**6)
        with torch.no_grad():
            errors[weights] = sum(float((quantised(**b) - model(**b)).square().mean()) for b in fresh)
    assert errors[True] < errors[False]
    analog = quantised.get_submodule("stem.conv").weight
    torch.testing.assert_close(analog, model.get_submodule("stem.conv").weight)


def test_solved_weights_are_no_reference_any_more() -> None:
    batches = vectors()
    quantised = correct(ready(Shared().eval(), batches), batches, weights=True)
    with pytest.raises(ConversionError, match="weights were solved anew for 4 levels"):
        correct(quantised, batches)


def test_a_module_that_is_called_twice_is_corrected_for_both_calls() -> None:
    torch.manual_seed(0)
    batches = vectors()
    quantised = correct(ready(Shared().eval(), batches), batches, rule="closed_form", rows=10**6)
    ideal = reference_branch(quantised, reference_activation("relu"))
    plain = copy.deepcopy(quantised)
    plain.act.correct(torch.zeros(6), plain.act.positive_threshold())
    # The shift is the mean gap over both calls, of which the first has none.
    gap = []
    for batch in batches:
        got: list[Tensor] = []
        wanted: list[Tensor] = []
        run(plain, batch, {"act": keep_rows(got, 10**6, 0)})
        run(ideal, batch, {"act": keep_rows(wanted, 10**6, 0)})
        assert len(got) == 2
        gap.append((torch.cat(wanted) - torch.cat(got)).mean(0))
    torch.testing.assert_close(quantised.act.shift, torch.stack(gap).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("neuron", ["para_inf_channelwise", "integrate_fire"])
def test_converts_verifies_and_returns_from_a_checkpoint(neuron: str, tmp_path) -> None:
    batches = pictures()
    quantised = correct(ready(resnet(), batches), batches)
    network = snn.convert(quantised, neuron, T=LEVELS)
    report = snn.verify(quantised, network, batches, dtype=torch.float64)
    assert report.passed
    if neuron == "para_inf_channelwise":
        assert report.exact
        assert report.differing == 0
        collapsed = network(execution="collapsed", **batches[0]).logits[-1]
        torch.testing.assert_close(collapsed, quantised(**batches[0]).detach(), rtol=0, atol=1e-5)
    save_checkpoint(network, tmp_path / "made")
    again = load_checkpoint(tmp_path / "made")
    assert torch.equal(again(**batches[0]).logits, network(**batches[0]).logits)


def test_membranes_start_where_the_config_says(tmp_path) -> None:
    batches = pictures()
    network = snn.convert(ready(resnet(), batches, name="qcfs"), "integrate_fire", T=LEVELS, initial=0.0)
    save_checkpoint(network, tmp_path / "made")
    again = load_checkpoint(tmp_path / "made")
    assert {neuron.initial for neuron in again.neurons.values()} == {0.0}


@pytest.mark.parametrize("name", ["qcfs", "da_qcfs"])
def test_balancing_lowers_the_error_of_spiking_inputs(name: str) -> None:
    batches = pictures()
    model = resnet()
    quantised = ready(model, batches, name=name)
    with torch.no_grad():
        want = torch.cat([model(**b) for b in batches])

        def error() -> float:
            network = snn.convert(quantised, "integrate_fire", T=LEVELS)
            return float((torch.cat([network(**b).logits[-1] for b in batches]) - want).square().mean())

        before = error()
        balance(quantised, batches, LEVELS, rows=10**5)
        assert error() < before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rule": "closedform"},
            r"conversion.correction.rule: unknown name 'closedform'; did you mean 'closed_form'",
        ),
        ({"order": "backwards"}, r"conversion.correction.order: unknown name 'backwards'"),
        ({"reference": "gelu"}, r"conversion.correction.reference: unknown name 'gelu'"),
        ({"order": "online", "weights": True}, r"weights needs conversion.correction.order=layerwise"),
    ],
)
def test_refused(options: dict[str, object], message: str) -> None:
    batches = vectors()
    with pytest.raises(ConfigError, match=message):
        correct(ready(Shared().eval(), batches), batches, **options)  # type: ignore[arg-type]


def test_refused_networks() -> None:
    batches = vectors()
    with pytest.raises(ConversionError, match="quantization=qcfs has no shift and height"):
        correct(ready(Shared().eval(), batches, name="qcfs"), batches)
    with pytest.raises(ConversionError, match="no batch"):
        correct(ready(Shared().eval(), batches), [])
    with pytest.raises(ConversionError, match="act has no threshold yet"):
        correct(snn.quantize(Shared().eval(), ACTIVATIONS, name="da_qcfs"), batches)
    with pytest.raises(ConversionError, match="no quantiser"):
        correct(Shared().eval(), batches)


def test_a_failing_forward_leaves_no_hook_behind() -> None:
    batches = vectors()
    model = ready(Shared().eval(), batches)
    broken = [{"x": torch.randn(4, 6)}, {"x": torch.randn(4, 7)}]
    with pytest.raises(RuntimeError, match="shapes"):
        correct(model, broken)
    assert not any(module._forward_pre_hooks for module in model.modules())
