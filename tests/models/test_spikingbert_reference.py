"""SpikingBERT against reference arrays: spikes exact; rates, scores, logits and the analog network close."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from snn.models import create_model
from snn.models.spikingbert.layers import Noise
from snn.models.spikingbert.model import SpikingBert

pytestmark = pytest.mark.reference
FOLDER = Path(__file__).parents[3] / "shared" / "golden" / "spikingbert"
PLACES = {
    "emb": "embedding",
    "key": "key",
    "value": "value",
    "attn": "context",
    "attn_out": "attention_output",
    "ffn_in": "intermediate",
    "ffn_out": "output",
}
PARAMETERS = {
    "key.dense": "key",
    "value.dense": "value",
    "attn.query": "query",
    "attn_out.dense": "attention_output",
    "attn_out.LayerNorm": "attention_norm",
    "ffn_in.dense": "intermediate",
    "ffn_out.dense": "output",
    "ffn_out.LayerNorm": "output_norm",
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.norm",
    "classification": "classifier",
}
#: Not part of our network: an adapter of the distillation, and feedback that was switched off.
FOREIGN = ("fit_dense", "feedback")


def arrays(name: str) -> dict[str, Tensor]:
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no reference arrays at {path}")
    with np.load(path) as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def place(name: str) -> str:
    """Our name of a layer of neurons: ``enc0.attn`` is ``layers.0.context``."""
    layer, _, kind = name.rpartition(".")
    return PLACES[kind] if not layer else f"layers.{layer.removeprefix('enc')}.{PLACES[kind]}"


def parameter(name: str) -> str:
    head, _, kind = name.rpartition(".")
    if head.startswith("enc"):
        layer, _, rest = head.partition(".")
        return f"layers.{layer.removeprefix('enc')}.{PARAMETERS[rest]}.{kind}"
    return f"{PARAMETERS[head]}.{kind}"


@pytest.fixture
def network() -> SpikingBert:
    state = {k: v for k, v in arrays("l2_params").items() if not k.startswith(FOREIGN)}
    model = create_model(
        "spikingbert",
        num_classes=3,
        T=8,
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    model.load_state_dict({parameter(name): tensor for name, tensor in state.items()})
    return model.eval()


class Trace:
    """What every layer of neurons emits at every step."""

    def __init__(self, network: SpikingBert):
        self.spikes: dict[str, list[Tensor]] = {}
        encode = network.encode

        def traced(drive, mask, fire, noise):
            def watched(name: str, current: Tensor) -> Tensor:
                spikes = fire(name, current)
                self.spikes.setdefault(name, []).extend(spikes.unflatten(0, (-1, mask.shape[0])))
                return spikes

            return encode(drive, mask, watched, noise)

        network.encode = traced


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_every_spike(network: SpikingBert, chunk: int) -> None:
    network.chunk = chunk
    inputs, expected = arrays("inputs"), arrays("l2_eval_leak1.0")
    trace = Trace(network)
    with torch.no_grad():
        out = network(**inputs)
    spikes = {place(k.removeprefix("spikes.")): v for k, v in expected.items() if k.startswith("spikes.")}
    assert set(trace.spikes) == set(spikes)
    for name, wanted in spikes.items():
        assert torch.equal(torch.stack(trace.spikes[name]), wanted.float()), name
    for index, tap in enumerate(("emb", "enc0.ffn_out", "enc1.ffn_out")):
        assert torch.equal(out.hidden_states[index], expected[f"asr.{tap}"])
    for index, scores in enumerate(out.attention_scores):
        torch.testing.assert_close(8 * scores, expected[f"attn_scores_sum.enc{index}"], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(out.logits, expected["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.logits_over_time[-1], expected["logits"], rtol=0, atol=1e-5)
    for name, rate in network.last.rates.items():
        counts, real = spikes[name].sum(0), inputs["attention_mask"].bool()
        torch.testing.assert_close(rate, counts[real].float().mean() / 8, msg=name)


def test_representations_are_one_linear_function_of_the_taps(network: SpikingBert) -> None:
    parameters, expected = arrays("l2_params"), arrays("l2_eval_leak1.0")
    with torch.no_grad():
        taps = network(**arrays("inputs")).hidden_states
    for index, tap in enumerate(taps):
        adapted = tap @ parameters["fit_dense.weight"].T + parameters["fit_dense.bias"]
        torch.testing.assert_close(adapted, expected[f"rep{index}"], rtol=0, atol=1e-5)


def test_the_analog_network(network: SpikingBert) -> None:
    inputs, expected = arrays("inputs"), arrays("l2_surrogate")
    rates = {}

    def fire(name: str, drive: Tensor) -> Tensor:
        rates[name] = network.analog(name, drive)
        return rates[name]

    drive = network.embeddings(inputs["input_ids"], inputs["token_type_ids"])
    mask = (1 - inputs["attention_mask"].float())[:, None, None, :] * -10000
    _, scores = network.encode(drive, mask, fire, Noise(training=False, shared=False))
    for name, wanted in expected.items():
        if name.endswith("attn_scores"):
            torch.testing.assert_close(scores[int(name[3])], wanted, rtol=1e-6, atol=1e-5)
        else:
            torch.testing.assert_close(rates[place(name)], wanted, rtol=0, atol=1e-5, msg=name)
    # With a gradient, the scores to be distilled are these.
    for ours, wanted in zip(network(**inputs).attention_scores, scores):
        torch.testing.assert_close(ours, wanted)
