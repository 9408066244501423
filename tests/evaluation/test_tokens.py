"""Spikes by token: against the counts of the layer, alone and padded, in any chunks; attention; correlation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from snn.conversion.convert import convert
from snn.conversion.network import SpikingNetwork, SpikingOutput
from snn.conversion.quantize import calibrate, quantize
from snn.errors import ConversionError
from snn.evaluation.attention_received import AttentionReceived
from snn.evaluation.read_out import decision_times
from snn.evaluation.token_spikes import TokenSpikes, block_of
from snn.evaluation.token_statistics import AttentionCorrelation, TokenRates
from snn.evaluation.tokens import Found, TokenAnalysis, look_at_batch
from snn.evaluation.words import WordJoiner
from snn.models.registry import architecture_of, create_model
from snn.tracking.sentences import Sentence
from tests.models.small import SMALL, batch

PROJECTIONS = [
    {"match": r"re:.*embeddings\.LayerNorm", "do": "append", "signed": True},
    {"match": r"re:.*attention\.self\.(query|key|value)", "do": "append", "signed": True},
    {"match": r"re:.*\.intermediate_act_fn", "do": "append", "signed": True},
    {"match": r"re:.*pooler\.activation", "do": "append", "signed": True},
]
SOFTMAX = [{"match": r"re:.*attention\.self", "call": "softmax", "do": "append", "signed": False}]
LENGTHS = (7, 3, 9, 1, 5)
NEURONS = [("para_inf", "qcfs", 4, 4), ("integrate_fire", "qcfs", 4, 4), ("st_bif", "lsq", 8, 12)]


def texts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(1, 40, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask}


def quantised(rules: list[dict], quantizer: str, levels: int) -> nn.Module:
    """In double precision, where no code hangs on the order of a sum."""
    torch.manual_seed(0)
    model = create_model("bert", weights=None, num_classes=3, **SMALL["bert"]).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5)
    made = quantize(model, rules, name=quantizer, levels=levels).double().eval()
    calibrate(made, [texts()])
    return made.double()


@pytest.fixture(scope="module", params=NEURONS, ids=lambda param: param[0])
def network(request: pytest.FixtureRequest) -> SpikingNetwork:
    neuron, quantizer, levels, T = request.param
    return convert(quantised(PROJECTIONS + SOFTMAX, quantizer, levels), neuron, T)


def look(network: SpikingNetwork, **options: object) -> tuple[SpikingOutput, TokenSpikes, dict[str, Tensor]]:
    spikes = TokenSpikes(network)
    with torch.no_grad(), AttentionReceived(network) as attention:
        out = network(observers=(spikes,), **options)
    return out, spikes, attention.received


def test_the_spikes_of_the_tokens_are_those_of_the_layer(network: SpikingNetwork) -> None:
    out, found, _ = look(network, **texts())
    assert set(out.spikes) - set(found.spikes) == {"bert.pooler.activation"}  # which has no tokens
    for name, spikes in found.spikes.items():
        layer = out.spikes[name]
        computed = len(layer.total)
        assert spikes.sum(2)[:computed] == pytest.approx(layer.total, abs=1e-9), name
        assert found.neurons[name].sum(1) == pytest.approx(layer.neurons), name
        assert (found.neurons[name] > 0).tolist() == texts()["attention_mask"].bool().tolist()
        assert spikes[:, found.neurons[name] == 0].abs().sum() == 0
    assert sum(float(spikes.sum()) for spikes in found.spikes.values()) > 0


def test_a_sentence_alone_is_the_same_as_padded_in_a_batch(network: SpikingNetwork) -> None:
    together, spikes, received = look(network, **texts())
    for row, length in enumerate(LENGTHS):
        alone = {k: v[row : row + 1, :length] for k, v in texts().items()}
        out, own, seen = look(network, **alone)
        torch.testing.assert_close(out.logits[:, 0], together.logits[:, row], rtol=1e-9, atol=1e-10)
        for name in spikes.spikes:
            assert torch.equal(own.spikes[name][:, 0], spikes.spikes[name][:, row, :length]), name
            assert torch.equal(own.neurons[name][0], spikes.neurons[name][row, :length]), name
        for name in out.spikes:
            assert torch.equal(out.spikes[name].total[:, 0], together.spikes[name].total[:, row]), name
        for name in received:
            torch.testing.assert_close(seen[name][0], received[name][row, :, :length], rtol=1e-9, atol=1e-12)


def test_chunks_of_time_and_samples_that_leave_change_nothing() -> None:
    network = convert(quantised(PROJECTIONS + SOFTMAX, "lsq", 8), "st_bif", 60)
    out, whole, received = look(network, **texts())
    assert len(out.settled.unique()) > 1  # samples leave at different steps
    for chunk in (1, 7):
        _, cut, seen = look(network, chunk=chunk, execution="stepwise", **texts())
        for name in whole.spikes:
            assert torch.equal(cut.spikes[name], whole.spikes[name]), name
        for name in received:
            torch.testing.assert_close(seen[name], received[name], rtol=1e-9, atol=1e-12)


def test_attention_is_that_of_the_quantised_network_over_valid_queries() -> None:
    """The library's own probabilities; softmax is left alone, so that they are not quantised."""
    made = quantised(PROJECTIONS, "qcfs", 4)
    inputs = texts()
    _, _, received = look(convert(made, "para_inf", 4), **inputs)
    with torch.no_grad():
        expected = made(**inputs, output_attentions=True).attentions
    assert list(received) == [f"bert.encoder.layer.{i}.attention.self" for i in range(len(expected))]
    for found, probabilities in zip(received.values(), expected, strict=True):
        for row, length in enumerate(LENGTHS):
            mean = probabilities[row, :, :length, :length].mean(1)
            torch.testing.assert_close(found[row, :, :length], mean, rtol=1e-9, atol=1e-12)
            assert found[row, :, length:].abs().sum() == 0
            assert found[row].sum(1) == pytest.approx(1.0)


FAMILIES = [
    name for name in SMALL if architecture_of(name).input_kind == "text" and not architecture_of(name).native
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_shows_its_attention(name: str) -> None:
    model = create_model(name, weights=None, num_classes=3, **SMALL[name]).eval()
    inputs = batch(model)
    made = quantize(model, [{"type": "Linear", "do": "append", "signed": True}], name="qcfs", levels=4).eval()
    network = convert(calibrate(made, [inputs]), "para_inf", 4)
    _, spikes, received = look(network, **inputs)
    assert len(received) == SMALL[name]["num_hidden_layers"]
    mask = inputs["attention_mask"].bool()
    for layer, attention in received.items():
        assert attention.shape == (3, SMALL[name]["num_attention_heads"], mask.shape[1]), layer
        assert attention.sum(2).flatten().tolist() == pytest.approx(
            [1.0] * attention[..., 0].numel(), abs=1e-5
        )
    correlation = AttentionCorrelation()
    correlation.update(received, spikes, mask, mask)
    heads = correlation.heads()
    assert len(heads) == len(received) * SMALL[name]["num_attention_heads"]
    assert len({block_of(head.layer) for head in heads}) == len(received)
    assert all(head.correlation is not None for head in heads)


def test_watching_leaves_nothing_behind(network: SpikingNetwork) -> None:
    def hooks() -> list[int]:
        return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules()]

    def fail() -> None:
        with AttentionReceived(network):
            network(**texts())
            raise RuntimeError("on the way")

    before, present = network(**texts()).logits, hooks()
    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert hooks() == present
    assert torch.equal(network(**texts()).logits, before)


def test_a_network_without_neurons_on_tokens_is_refused() -> None:
    network = convert(quantised(PROJECTIONS[-1:], "qcfs", 4), "para_inf", 4)
    _, spikes, _ = look(network, **texts())
    with pytest.raises(ConversionError, match="no neuron of this network belongs to a token"):
        spikes.of()


def test_blocks_of_all_families() -> None:
    assert block_of("encoder.block.0.layer.1.DenseReluDense.wi (input)") == "encoder.block.0"
    assert block_of("distilbert.transformer.layer.12.attention.q_lin#1") == "distilbert.transformer.layer.12"
    assert block_of("roberta.encoder.layer.1") == "roberta.encoder.layer.1"
    assert block_of("classifier") == "classifier"


@pytest.mark.parametrize("cut", [5, 2, 1])
def test_rates_by_place_and_token_against_loops(network: SpikingNetwork, cut: int) -> None:
    inputs = texts()
    mask, T = inputs["attention_mask"].bool(), network.T
    rates = TokenRates(vocabulary=40, longest=max(LENGTHS))
    for start in range(0, len(LENGTHS), cut):
        part = {k: v[start : start + cut] for k, v in inputs.items()}
        rates.update(look(network, **part)[1], part["input_ids"], part["attention_mask"].bool())
    _, whole, _ = look(network, **inputs)
    fired, neurons = whole.of()
    for place, row in enumerate(rates.places()):
        there = [i for i, length in enumerate(LENGTHS) if length > place]
        expected = fired[:, there, place].sum() / (neurons[there, place].sum() * T)
        assert row == {"place": place, "texts": len(there), "rate": pytest.approx(float(expected))}
    rows = {row[0]: row[1:] for row in rates.token_rows()}
    assert set(rows) == set(inputs["input_ids"][mask].tolist())
    for token, (seen, rate, *blocks) in rows.items():
        where = (inputs["input_ids"] == token) & mask
        assert seen == int(where.sum())
        assert rate == pytest.approx(float(fired[:, where].sum() / (neurons[where].sum() * T)))
        own, size = whole.of([name for name in whole.spikes if name.startswith("bert.encoder.layer.1.")])
        expected = float(own[:, where].sum() / (size[where].sum() * T))
        assert blocks[list(rates.by_token).index("bert.encoder.layer.1")] == pytest.approx(expected)
    by_layer = list(rates.place_rows())
    assert {row[0] for row in by_layer} == set(whole.spikes)
    assert [row[1] for row in by_layer[: max(LENGTHS)]] == list(range(max(LENGTHS)))


def test_the_correlation_is_pearsons_within_texts(network: SpikingNetwork) -> None:
    inputs = texts()
    words = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    words[:, 0] = False
    _, spikes, received = look(network, **inputs)
    whole, parts = AttentionCorrelation(), AttentionCorrelation()
    whole.update(received, spikes, inputs["attention_mask"].bool(), words)
    for start in range(len(LENGTHS)):
        part = {k: v[start : start + 1] for k, v in inputs.items()}
        _, own, seen = look(network, **part)
        parts.update(seen, own, part["attention_mask"].bool(), words[start : start + 1])
    for one, other in zip(whole.heads(), parts.heads(), strict=True):
        assert one[:2] == other[:2]
        assert one[2:] == pytest.approx(other[2:])
    for head in whole.heads():
        block = head.layer.removesuffix(".attention.self")
        fired, neurons = spikes.of([name for name in spikes.spikes if name.startswith(f"{block}.")])
        rate = fired.sum(0) / (neurons * network.T)
        for first, found in ((0, head.correlation), (1, head.correlation_words)):
            x, y = [], []
            for row, length in enumerate(LENGTHS):
                if length <= first:
                    continue
                attention = received[head.layer][row, head.head, first:length].numpy() * length
                x += list(attention - attention.mean())
                own = rate[row, first:length].numpy()
                y += list(own - own.mean())
            assert found == pytest.approx(np.corrcoef(x, y)[0, 1])


class Constant(TokenSpikes):
    """As if every neuron had fired alike, in one text of three tokens."""

    def __init__(self) -> None:
        self.T = 2
        self.spikes = {"a.0.x": torch.full((2, 1, 3), 0.7, dtype=torch.float64)}
        self.neurons = {"a.0.x": torch.full((1, 3), 7.0, dtype=torch.float64)}


def test_places_are_counted_from_the_first_real_token() -> None:
    rates = TokenRates(vocabulary=9, longest=3)
    rates.update(Constant(), torch.tensor([[0, 5, 6]]), torch.tensor([[False, True, True]]))
    expected = [{"place": i, "texts": 1, "rate": pytest.approx(0.1)} for i in range(2)]
    assert rates.places() == expected
    assert list(rates.token_rows()) == [[t, 1, pytest.approx(0.1), pytest.approx(0.1)] for t in (5, 6)]


def test_what_does_not_vary_correlates_with_nothing() -> None:
    correlation = AttentionCorrelation()
    everything = torch.ones(1, 3, dtype=torch.bool)
    correlation.update({"a.0": torch.rand(1, 1, 3).double()}, Constant(), everything, everything)
    assert correlation.heads() == [("a.0", 0, None, None)]


def sentences(classes: list[str], labels: Tensor) -> tuple[Found, list[Sentence]]:
    """The texts through a fresh network, as one batch."""
    vocabulary = {
        word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *(f"w{i}" for i in range(37))])
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
    )
    found = Found(TokenAnalysis(pages=4), WordJoiner(tokenizer), TokenRates(40, max(LENGTHS)))
    network = convert(quantised(PROJECTIONS, "qcfs", 4), "para_inf", 4)
    with torch.no_grad():
        made = look_at_batch(found, texts() | {"labels": labels}, network, classes)
    for sentence in made:
        found.add(sentence)
    return found, made


def test_sentences_say_what_the_network_says() -> None:
    network = convert(quantised(PROJECTIONS, "qcfs", 4), "para_inf", 4)
    out, spikes, _ = look(network, **texts())
    said = out.logits.argmax(-1)
    labels = said[-1].clone()
    labels[1] = (labels[1] + 1) % 3
    found, made = sentences(["x", "y", "z"], labels)
    fired, neurons = spikes.of()
    for row, (sentence, length) in enumerate(zip(made, LENGTHS, strict=True)):
        assert sentence.predictions == ["xyz"[value] for value in said[:, row].tolist()]
        assert sentence.decision_time == int(decision_times(out.logits)[row])
        assert sentence.right is (row != 1)
        assert len(sentence.words) == length  # each token of this vocabulary is a word
        for place, word in enumerate(sentence.words):
            expected = (fired[:, row, place] / neurons[row, place]).tolist()
            assert word.rate_per_timestep == pytest.approx(expected)
    assert [s.number for s in found.chosen()] == [0, 1, 2, 3]  # one is wrong, three of the others
    assert sum(found.decisions["right"]) == 4
    assert sum(found.decisions["wrong"]) == 1


def test_measurements_are_neither_right_nor_decided() -> None:
    found, made = sentences([], torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5]))
    assert [s.label for s in made] == ["0.500", "1.000", "1.500", "2.000", "2.500"]
    assert {(s.right, s.decision_time) for s in made} == {(None, None)}
    assert found.decisions == {}
    assert len(found.chosen()) == 4


def test_decision_times_against_a_search() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 50, 3, generator=generator)
    said = logits.argmax(-1)
    expected = [next(t for t in range(1, 7) if len(set(said[t - 1 :, i].tolist())) == 1) for i in range(50)]
    assert decision_times(logits).tolist() == expected
    assert set(expected) >= {2, 3, 4, 5, 6}
    assert decision_times(logits[:1]).tolist() == [1] * 50
