"""A sample leaves the run once it has settled; nothing of what it would have done is missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.errors import ConversionError
from snn.neurons.run import Event, Run

from .networks import quantised

T = 60
TEXTS = ("bert", "t5", "gpt2")


def spiking(name: str) -> tuple[snn.SpikingNetwork, dict[str, Tensor]]:
    model, inputs = quantised(name, "lsq")
    return snn.convert(model, "st_bif", T), inputs


def in_force(
    network: snn.SpikingNetwork, inputs: dict[str, Tensor], **options
) -> tuple[snn.SpikingOutput, list]:
    """What a run gives, and which samples it computed in each chunk."""
    first, seen = next(iter(network.neurons.values())), []

    def look(run: Run, event: Event) -> None:
        if event.neuron is first:
            seen.append(run.rows.tolist())

    return network(observers=(look,), **options, **inputs), seen


def same(cut: snn.SpikingOutput, whole: snn.SpikingOutput) -> None:
    torch.testing.assert_close(cut.logits, whole.logits, rtol=1e-12, atol=1e-12)
    assert torch.equal(cut.settled, whole.settled)
    assert cut.spikes.keys() == whole.spikes.keys()
    for layer, spikes in whole.spikes.items():
        computed = cut.spikes[layer].total.shape[0]
        assert torch.equal(cut.spikes[layer].positive, spikes.positive[:computed]), layer
        assert torch.equal(cut.spikes[layer].negative, spikes.negative[:computed]), layer
        assert spikes.total[computed:].sum() == 0
        assert torch.equal(cut.spikes[layer].neurons, spikes.neurons)


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("name", [*TEXTS, "resnet20"])
def test_samples_that_have_settled_leave_and_nothing_is_missing(name: str, chunk: int) -> None:
    network, inputs = spiking(name)
    whole = network(**inputs)
    cut, seen = in_force(network, inputs, chunk=chunk)
    same(cut, whole)
    settled = whole.settled.tolist()
    assert len(set(settled)) > 1, "all settle at once: nothing to see"
    # A chunk is computed for those whose counts changed in the last step of the one before.
    for number, rows in enumerate(seen):
        assert rows == [i for i, step in enumerate(settled) if number == 0 or step >= number * chunk]
    assert cut.steps == len(seen) * chunk <= T
    assert len(seen) == max(settled) // chunk + 1


@pytest.mark.parametrize("name", ["bert", "resnet20"])
def test_a_sample_takes_as_long_alone_as_in_a_batch(name: str) -> None:
    network, inputs = spiking(name)
    together = network(execution="stepwise", **inputs)
    for index in range(3):
        alone = network(execution="stepwise", **{k: v[index : index + 1] for k, v in inputs.items()})
        assert alone.settled.tolist() == together.settled[index : index + 1].tolist()
        torch.testing.assert_close(alone.logits[:, 0], together.logits[:, index], rtol=0, atol=1e-11)
        # The step that shows that nothing changes is computed too.
        assert alone.steps == alone.settled + 1


def test_padding_settles_nothing() -> None:
    """A text takes as long in a batch of longer ones as alone, however long its padding goes on."""
    network, inputs = spiking("bert")
    mask = inputs["attention_mask"]
    assert mask.sum(1).min() < mask.shape[1]
    found = network(execution="stepwise", **inputs).settled.tolist()
    alone = []
    for index, length in enumerate(mask.sum(1).tolist()):
        one = {key: values[index : index + 1, :length] for key, values in inputs.items()}
        alone.append(network(execution="stepwise", **one).settled.item())
    assert found == alone


@pytest.mark.parametrize("name", ["resnet20", "vit"])
def test_settling_is_the_step_of_the_last_spike(name: str) -> None:
    network, inputs = spiking(name)
    out = network(**inputs)
    active = torch.stack([spikes.total for spikes in out.spikes.values()]).sum(0) > 0
    assert out.settled.tolist() == [int(column.nonzero().max()) + 1 for column in active.T]


def test_a_run_that_ends_before_it_has_settled() -> None:
    model, inputs = quantised("resnet20", "lsq")
    long = snn.convert(model, "st_bif", T)(**inputs)
    short = snn.convert(model, "st_bif", 3, execution="stepwise")(**inputs)
    assert long.settled.min() > 3
    assert short.settled.tolist() == [3] * len(short.settled)
    assert short.steps == 3
    torch.testing.assert_close(short.logits, long.logits[:3], rtol=0, atol=1e-11)


def test_where_nothing_settles() -> None:
    model, inputs = quantised("resnet20", "qcfs")
    for execution in ("parallel", "stepwise"):
        out = snn.convert(model, "integrate_fire", 8, execution=execution)(**inputs)
        assert (out.steps, out.settled.tolist()) == (8, [8] * 3)
    network, inputs = spiking("resnet20")
    collapsed = network(execution="collapsed", **inputs)
    assert (collapsed.steps, collapsed.settled.tolist()) == (1, [T] * 3)


class Windows(nn.Module):
    """A picture cut into windows, which are rows of their own for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.act, self.outside = nn.Linear(8, 6), nn.ReLU(), nn.Linear(24, 5)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        windows = self.act(self.inside(x.reshape(-1, 8)))
        return self.last(self.outside(windows.reshape(x.shape[0], -1)))


def test_samples_of_several_rows() -> None:
    torch.manual_seed(0)
    inputs = {"x": 2 * torch.randn(5, 32, dtype=torch.float64)}
    model = snn.quantize(
        Windows().double().eval(), [{"type": "ReLU", "do": "replace"}], name="lsq", levels=12
    )
    network = snn.convert(snn.calibrate(model, [inputs]), "st_bif", T)
    whole = network(**inputs)
    assert network.neurons.keys() == whole.spikes.keys() == {"act", "last"}
    assert whole.spikes["act"].total.shape == (T, 5)
    assert whole.spikes["act"].neurons.tolist() == [24] * 5
    for chunk in (1, 3):
        same(network(chunk=chunk, **inputs), whole)
    for index in range(5):
        alone = network(x=inputs["x"][index : index + 1])
        assert torch.equal(alone.spikes["act"].total[:, 0], whole.spikes["act"].total[:, index])


def test_windows_of_a_third_party_model() -> None:
    from transformers import SwinConfig, SwinForImageClassification

    torch.manual_seed(0)
    config = SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[2], num_heads=[2], window_size=4)
    model = SwinForImageClassification(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    inputs = {"pixel_values": torch.randn(6, 3, 16, 16, dtype=torch.float64)}
    rules = [
        {"match": r"re:.*layernorm_(before|after)", "signed": True},
        {
            "match": r"re:.*\.attention\.(self\.)?(query|key|value|[qkv]_proj)",
            "signed": True,
            "optional": True,
        },
        {"type": "GELUActivation", "signed": True},
    ]
    quantised = snn.calibrate(snn.quantize(model, rules, name="lsq", levels=16), [inputs])
    for spread in (1, 5):
        network = snn.convert(quantised, "st_bif", T, spread=spread)
        whole = network(**inputs)
        assert all(spikes.total.shape == (T, 6) for spikes in whole.spikes.values())
        cut, seen = in_force(network, inputs, chunk=1)
        same(cut, whole)
        assert min(map(len, seen)) < 6
        assert snn.verify(quantised, network, [inputs]).differing == 0


class Table(nn.Module):
    """A neuron that is given something else than samples."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.act, self.last = nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.act(self.table(torch.ones(2, 2))).sum(0))


def test_rows_that_are_no_samples_are_refused() -> None:
    inputs = {"x": torch.randn(3, 4)}
    model = snn.quantize(Table().eval(), [{"type": "Tanh", "signed": True}], name="lsq")
    network = snn.convert(snn.calibrate(model, [inputs]), "st_bif", 8, execution="stepwise")
    with pytest.raises(ConversionError, match="a neuron met 2 rows in a batch of 3: the first axis"):
        network(**inputs)


def test_inputs_must_have_one_row_per_sample() -> None:
    network, inputs = spiking("bert")
    with pytest.raises(
        ConversionError, match="one row per sample; got rows of input_ids: 3, attention_mask: 2"
    ):
        network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"][:2])
    with pytest.raises(ConversionError, match="got rows of none"):
        network()
