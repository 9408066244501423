"""Inputs and biases spread over the first K steps: what is scaled, what stays whole, and that the end is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snn
from snn.conversion.call import call_model
from snn.conversion.spread import SpreadBiases, over_time, shares
from snn.errors import ConfigError, ConversionError
from tests.functional.reference import arrays
from tests.scripts.composing import composed

from .networks import quantised

T, SPREAD = 60, 7
CHUNKS = (1, 2, 5, 11, T)


def spiking(name: str, spread: int = SPREAD, **options) -> tuple[snn.SpikingNetwork, dict[str, Tensor]]:
    model, inputs = quantised(name, "lsq")
    return snn.convert(model, "st_bif", T, spread=spread, **options), inputs


def padded(spikes: Tensor) -> Tensor:
    """``[T, B]``: nothing after the end of the run."""
    return torch.cat([spikes, spikes.new_zeros(T - spikes.shape[0], *spikes.shape[1:])])


@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet20", "vit"])
def test_the_network_settles_at_the_quantised_one_whatever_the_spread(name: str) -> None:
    model, inputs = quantised(name, "lsq")
    want = call_model(model, inputs)
    ways = {}
    for spread in (1, SPREAD, 30):
        network, _ = spiking(name, spread)
        ways[spread] = out = network(**inputs)
        assert snn.verify(model, network, [inputs]).differing == 0
        assert (out.logits[-1] - want).abs().max() <= 1e-12 * max(1, float(want.abs().max()))
        assert ((out.settled >= spread) & (out.settled < T)).all()
        # A network that has settled makes the quantised network's own call.
        assert torch.equal(network(execution="collapsed", **inputs).logits[0], want)
    # The way there is another one.
    for spread in (SPREAD, 30):
        assert (ways[spread].logits[0] - ways[1].logits[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "resnet20"])
def test_the_last_steps_are_the_quantised_networks_own_call(name: str) -> None:
    model, inputs = quantised(name, "lsq")
    one = {k: v[:1] for k, v in inputs.items()}
    network, _ = spiking(name, execution="stepwise")
    assert torch.equal(network(**one).logits[-1], call_model(model, one))


@pytest.mark.parametrize("name", ["bert", "gpt2", "resnet20"])
def test_every_chunk_gives_the_same_result(name: str) -> None:
    network, inputs = spiking(name)
    whole = network(**inputs)
    for chunk in CHUNKS:
        cut = network(chunk=chunk, **inputs)
        scale = max(1, float(whole.logits.abs().max()))
        assert (cut.logits - whole.logits).abs().max() <= 1e-12 * scale
        assert torch.equal(cut.settled, whole.settled)
        for layer, spikes in whole.spikes.items():
            assert torch.equal(padded(cut.spikes[layer].positive), spikes.positive), layer
            assert torch.equal(padded(cut.spikes[layer].negative), spikes.negative), layer
            assert torch.equal(cut.spikes[layer].neurons, spikes.neurons)


def test_continuous_inputs_are_scaled_and_all_others_are_not() -> None:
    x, arrived = torch.randn(2, 3), [0.5, 1.0, 1.0]
    assert torch.equal(over_time("pixel_values", x, arrived), torch.cat([x / 2, x, x]))
    for name, value in (
        ("input_ids", torch.arange(6).reshape(2, 3)),
        ("keep", x > 0),
        ("attention_mask", x),
    ):
        assert torch.equal(over_time(name, value, arrived), torch.cat([value] * 3))
    assert over_time("scale", 3, arrived) == 3
    assert shares(range(3, 6), 4) == [0.75, 1.0, 1.0]


class Affine(nn.Module):
    """Every affine function, a table that passes through one, and functions that stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(6, 4), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.transposed = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2)
        self.table = nn.Linear(2, 4)
        self.layer_norm = nn.LayerNorm(4)
        for module in (self.norm, self.layer_norm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        self.norm.running_mean.normal_()
        self.places = torch.randn(1, 4, 2, dtype=torch.float64)

    def affine(self, x: Tensor, share: float = 1.0) -> Tensor:
        """With biases scaled by hand."""
        y = functional.conv2d(x, self.conv.weight, self.conv.bias * share, padding=1)
        y = functional.batch_norm(
            y, self.norm.running_mean * share, self.norm.running_var, self.norm.weight, self.norm.bias * share
        )
        y = functional.conv_transpose2d(y, self.transposed.weight, self.transposed.bias * share)
        y = y.mean(-1) @ self.linear.weight.T + self.linear.bias * share
        y = torch.addmm(self.linear.bias[:4] * share, y.flatten(0, 1), self.linear.weight[:, :4])
        return self.layer_norm(y.view(-1, 4, 4)) + self.table(self.places)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(self.transposed(self.norm(self.conv(x))).mean(-1))
        rows = torch.empty_like(y)
        rows[:] = y
        y = self.linear.bias[:4].addmm(rows.flatten(0, 1), self.linear.weight[:, :4])
        return self.layer_norm(y.view(-1, 4, 4)) + self.table(self.places)


def test_constant_terms_of_affine_functions_are_scaled_and_nothing_else() -> None:
    model = Affine().double().eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    arrived = [0.25, 0.5, 1.0, 1.0]
    want = torch.cat([model.affine(x * share, share) for share in arrived])
    # One row of the table is all there is, and a batch of one would have as many.
    for rows in (slice(None), slice(1)):
        for share in arrived:
            inputs = {"x": x[rows] * share}
            with SpreadBiases(inputs, [share]):
                got = model(**inputs)
            torch.testing.assert_close(got, model.affine(x[rows] * share, share), rtol=0, atol=1e-12)
    inputs = {"x": over_time("x", x, arrived)}
    with SpreadBiases(inputs, arrived):
        got = model(**inputs)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert torch.equal(got[4:], model(torch.cat([x, x])))
    assert (got[:2] - model(x * 0.25)).abs().max() > 1e-3


@pytest.mark.reference
def test_a_spread_bias_is_that_of_the_method() -> None:
    data = arrays("spikezip/linear_unfold_bias")
    for spread, key in ((1, "out_bias_first_step"), (int(data["level"]), "out_bias_over_level_steps")):
        arrived = shares(range(1, 13), spread)
        inputs = {"x": data["x"].double().cumsum(0).flatten(0, 1)}
        with SpreadBiases(inputs, arrived):
            total = functional.linear(inputs["x"], data["weight"].double(), data["bias"].double())
        emitted = total.unflatten(0, (12, 2)).diff(dim=0, prepend=torch.zeros(1, 2, 3, 5))
        torch.testing.assert_close(emitted, data[key].double(), rtol=0, atol=1e-6)


def test_what_hides_its_biases_is_refused() -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval().requires_grad_(False)
    inputs = {"x": torch.randn(2, 3, 4)}
    with (
        SpreadBiases(inputs, [0.5]),
        pytest.raises(ConversionError, match="multi_head_attention_forward hides its biases"),
    ):
        attention(inputs["x"], inputs["x"], inputs["x"])


def test_steps_that_cannot_be_told_apart_are_refused() -> None:
    inputs = {"x": torch.randn(4, 3, 5)}
    with (
        SpreadBiases(inputs, [0.5, 1.0]),
        pytest.raises(ConversionError, match="linear got 3 rows, and steps times samples are 4"),
    ):
        functional.linear(inputs["x"].transpose(0, 1), torch.randn(2, 5), torch.randn(2))


@pytest.mark.parametrize(
    ("neuron", "spread", "message"),
    [
        ("st_bif", 0, "neuron.spread must be a whole number of steps, at least 1; got 0"),
        ("st_bif", 2.5, "neuron.spread must be a whole number of steps, at least 1; got 2.5"),
        ("st_bif", 13, "neuron.spread=13 needs T of at least 13 for the whole input to arrive; got T=12"),
        ("para_inf", 2, r"neuron.spread=2 needs coding sum \(neuron=st_bif\); under coding mean"),
    ],
)
def test_spreads_that_cannot_be(neuron: str, spread: int, message: str) -> None:
    model, _ = quantised("resnet20", "lsq" if neuron == "st_bif" else "qcfs")
    with pytest.raises(ConfigError, match=message):
        snn.convert(model, neuron, 12, spread=spread)
    with pytest.raises(ConfigError, match=message):
        composed("train", f"neuron={neuron}", "T=12", f"++neuron.spread={spread}")


def test_a_checkpoint_keeps_the_spread(tmp_path: Path) -> None:
    network, inputs = spiking("resnet20")
    network.save(tmp_path)
    again = snn.load(tmp_path)
    assert isinstance(again, snn.SpikingNetwork)
    assert again.spread == SPREAD
    assert torch.equal(again(**inputs).logits, network(**inputs).logits)
