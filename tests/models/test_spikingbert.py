"""SpikingBERT: its neuron, its simulation, what it answers, and what it refuses."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import snn
from snn.errors import ConfigError
from snn.functional import integer_products
from snn.functional.integer_products import Digits
from snn.functional.rates import clamped_rate, rate_weight
from snn.models import create_model
from snn.models.spikingbert import simulation
from snn.models.spikingbert.layers import NEURON_LAYERS, Noise
from snn.models.spikingbert.model import SpikingBert
from snn.models.spikingbert.neurons import Law
from snn.models.spikingbert.simulation import Stopping
from snn.models.spikingbert.teacher import initialize_from_teacher
from snn.training.loop import stop_dropout
from tests.needs import needs_integer_units

from .small import SMALL, batch, lively_spikingbert


def network(**more) -> SpikingBert:
    return lively_spikingbert(**{"T": 12, **more})


@torch.no_grad()
def run(model: SpikingBert, inputs: dict[str, Tensor]):
    return model(**inputs)


drives = st.lists(st.floats(-3, 3), min_size=1, max_size=40)


@settings(deadline=None)
@given(drives, st.floats(0.1, 2), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_spikes_account_for_the_charge(drive: list[float], threshold: float, leak: float) -> None:
    """Both identities between spikes, charge, and the membranes ``m`` after reset and before leak."""
    law, m, spikes, membranes = Law(threshold, leak, weighted=False), None, [], []
    for current in torch.tensor(drive, dtype=torch.float64):
        s, m = law.step(current, m)
        spikes.append(s)
        membranes.append(m)
    T, current, s, m = (
        len(drive),
        torch.tensor(drive, dtype=torch.float64),
        torch.stack(spikes),
        torch.stack(membranes),
    )
    weights = leak ** torch.arange(T - 1, -1, -1, dtype=torch.float64)
    close = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(threshold * (weights * s).sum(), (weights * current).sum() - m[-1], **close)
    leaked = (1 - leak) * m[:-1].sum()
    torch.testing.assert_close(threshold * s.sum(), current.sum() - leaked - m[-1], **close)
    assert set(s.tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(torch.tensor(rate_weight(T, leak)), weights.sum(), check_dtype=False)


@settings(deadline=None)
@given(st.floats(-1, 2), st.floats(0.1, 2), st.integers(1, 50))
def test_a_constant_drive_becomes_the_clamped_rate(fraction: float, threshold: float, T: int) -> None:
    law, m, count = Law(threshold, 1.0, weighted=False), None, 0.0
    current = torch.tensor(fraction * threshold, dtype=torch.float64)
    for _ in range(T):
        s, m = law.step(current, m)
        count += float(s)
    rate = float(clamped_rate(current, threshold))
    # Between silence at 0 and a spike at every step, less than one spike is missing.
    assert abs(count / T - rate) < 1 / T + 1e-9
    if not 0 < fraction < 1:
        assert count / T == rate


@pytest.mark.parametrize("neuron", [{}, {"leak": 0.9}, {"leak": 0.9, "rate": "weighted"}])
@pytest.mark.parametrize("chunk", [5, 12])
def test_steps_run_at_once_are_the_same_steps(neuron: dict, chunk: int) -> None:
    model = network(**neuron)
    inputs = batch(model)
    one_by_one = run(model, inputs)
    rates = model.last.rates
    model.chunk = chunk
    at_once = run(model, inputs)
    for a, b in zip(one_by_one.hidden_states, at_once.hidden_states):
        assert torch.equal(a, b)
    torch.testing.assert_close(one_by_one.logits_over_time, at_once.logits_over_time, rtol=0, atol=1e-12)
    assert model.last.rates == rates
    assert 0.01 < min(rates.values()) < max(rates.values()) < 0.9


def test_rates_are_read_after_every_step() -> None:
    model = network(leak=0.9, rate="weighted")
    inputs = batch(model)
    over_time = run(model, inputs).logits_over_time
    assert over_time.shape == (12, 3, 3)
    for T in (1, 5, 12):
        model.T = T
        out = run(model, inputs)
        torch.testing.assert_close(out.logits, over_time[T - 1], rtol=0, atol=1e-12)


def test_rates_are_those_of_real_tokens_and_padding_changes_nothing() -> None:
    model = network()
    inputs = batch(model)
    together = run(model, inputs)
    for row, length in enumerate(inputs["attention_mask"].sum(1).tolist()):
        alone = run(model, {k: v[row : row + 1, :length] for k, v in inputs.items()})
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=0, atol=1e-12)
        for a, b in zip(alone.hidden_states, together.hidden_states):
            assert torch.equal(a[0], b[row, :length])
    tap = together.hidden_states[-1][inputs["attention_mask"].bool()]
    run(model, inputs)
    torch.testing.assert_close(model.last.rates["layers.1.output"], tap.mean())
    assert list(model.last.rates) == [
        "embedding",
        *(f"layers.{layer}.{name}" for layer in range(2) for name in NEURON_LAYERS),
    ]


@needs_integer_units
@pytest.mark.parametrize("feedback", [False, True])
def test_training_multiplies_long_simulations_as_integers(
    feedback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "_MANY_ROWS", 1)
    monkeypatch.setattr(integer_products, "_FEWEST_ROWS", 1)
    calls: list[int] = []
    linear = Digits.linear

    def noted(self: Digits, counts: Tensor, *arguments) -> Tensor:
        calls.append(len(counts))
        return linear(self, counts, *arguments)

    monkeypatch.setattr(Digits, "linear", noted)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = network(feedback=feedback, **none).float()
    inputs = batch(model)
    expected = run(model, inputs).hidden_states
    assert not calls, "what is measured must not depend on the size of a batch"
    found = model.train()(**inputs).hidden_states
    # Six linear layers on spikes in each encoder layer, at each step; what feeds back stays in floating point.
    assert len(calls) == 12 * 6 * len(model.layers)
    for ours, theirs in zip(found, expected):
        assert (ours.detach() - theirs).abs().mean() < 1e-3


def test_training_without_dropout_multiplies_as_integers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(simulation, "integer_products", lambda drive, T: asked.append(T))
    model = network().train()
    stop_dropout(model)
    model(**batch(model))
    assert asked == [12]
    run(model, batch(model))
    assert asked == [12], "what is measured is not"


def test_feedback_comes_one_step_late() -> None:
    model = network(feedback=True)
    silent = network()
    silent.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("feedback")})
    inputs = batch(model)
    for T, same in ((1, True), (2, False)):
        model.T = silent.T = T
        taps = zip(run(model, inputs).hidden_states, run(silent, inputs).hidden_states)
        assert all(torch.equal(a, b) for a, b in taps) == same


def test_a_sample_stops_once_its_rates_have_converged() -> None:
    model = network(T=200, stop_tolerance=0.008, stop_every=10)
    inputs = batch(model, rows=5)
    early = run(model, inputs)
    steps = model.last.steps
    assert len(set(steps.tolist())) > 1
    assert max(steps) < 200
    assert not (steps % 10).any()
    model.stopping = Stopping()
    whole = run(model, inputs)
    assert model.last.steps.tolist() == [200] * 5
    model.stopping = Stopping(0.008, 10)
    for row in range(5):
        alone = run(model, {k: v[row : row + 1] for k, v in inputs.items()})
        assert model.last.steps.tolist() == [steps[row]]
        torch.testing.assert_close(alone.logits[0], early.logits[row], rtol=0, atol=1e-12)
        # What stopped is the beginning of the whole run.
        until = slice(steps[row])
        torch.testing.assert_close(
            early.logits_over_time[until, row], whole.logits_over_time[until, row], rtol=0, atol=1e-12
        )
        assert len(alone.logits_over_time) == 200
        torch.testing.assert_close(
            alone.logits_over_time[:, 0], early.logits_over_time[:, row], rtol=0, atol=1e-12
        )
        held = early.logits_over_time[steps[row] :, row]
        torch.testing.assert_close(held, early.logits[row].expand_as(held), rtol=0, atol=1e-12)


class Operations(TorchDispatchMode):
    """Counts the operations below autograd by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def test_the_host_waits_for_the_device_at_checks_only() -> None:
    model = network(T=12)
    inputs = batch(model)
    with Operations() as watched:
        run(model, inputs)
    assert watched.counts["_softmax"] == 2 * 12
    assert "_local_scalar_dense" not in watched.counts
    model = network(T=12, stop_tolerance=1e-9, stop_every=4)
    with Operations() as watched:
        run(model, inputs)
    # Checks after 4 and 8 steps, and the first has nothing to compare with.
    assert watched.counts["_local_scalar_dense"] == 1


class LiveBytes(TorchDispatchMode):
    """The most bytes that results of operations took at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[weakref.ref, int, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.alive[id(tensor)] = weakref.ref(tensor), storage.data_ptr(), storage.nbytes()
        self.alive = {key: entry for key, entry in self.alive.items() if entry[0]() is not None}
        self.most = max(self.most, sum({place: size for _, place, size in self.alive.values()}.values()))
        return out


@pytest.mark.parametrize(
    "args",
    [{}, {"leak": 0.9, "rate": "weighted"}, {"feedback": True}, {"chunk": 4}, {"gradient": "bptt"}],
)
def test_memory_is_flat_in_T_unless_the_gradient_runs_through_time(args: dict) -> None:
    def most(T: int) -> int:
        model = network(T=T, **args)
        inputs = batch(model)
        with LiveBytes() as watched:
            model(**inputs).logits.sum().backward()
        return watched.most

    if args.get("gradient") == "bptt":
        assert most(8) > 2 * most(2)
    else:
        assert most(125) <= 1.1 * most(8)


def test_half_precision_counts_in_single() -> None:
    law = Law(1.0, 1.0, weighted=False)
    membrane = None
    with torch.no_grad():
        for _ in range(3):
            spikes, membrane = law.step(torch.full((1,), 0.40039, dtype=torch.bfloat16), membrane)
    assert (spikes.dtype, membrane.dtype) == (torch.bfloat16, torch.float32)
    model = network(T=300).float()
    inputs = batch(model)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        taps = model(**inputs).hidden_states
    counts = torch.stack(taps) * 300
    assert counts.dtype == torch.float32
    assert counts.max() > 256
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)


def test_dropout_is_drawn_anew_or_shared() -> None:
    x = torch.ones(6, 50)
    anew, shared = Noise(True, shared=False), Noise(True, shared=True)
    assert not torch.equal(*(anew("place", x, 0.5, 2) for _ in range(2)))
    one = shared("place", x, 0.5, 2)
    assert torch.equal(one, shared("place", x, 0.5, 2))
    assert torch.equal(one[:2], one[4:])
    assert not torch.equal(one[:2], shared("other", x, 0.5, 2)[:2])
    shared.select(torch.tensor([False, True]))
    assert torch.equal(shared("place", x[:1], 0.5, 1), one[1:2])
    assert Noise(False, shared=False)("place", x, 0.5, 2) is x


@pytest.mark.parametrize("shared", [False, True])
def test_dropout_acts_while_training_only(shared: bool) -> None:
    model = network(shared_dropout=shared)
    inputs = batch(model)
    assert torch.equal(run(model, inputs).logits, run(model, inputs).logits)
    model.train()
    assert not torch.equal(run(model, inputs).logits, run(model, inputs).logits)


@pytest.mark.parametrize(("layers", "count"), [(4, 52_188_672), (2, 38_012_928)])
def test_published_sizes_have_the_published_number_of_parameters(layers: int, count: int) -> None:
    with torch.device("meta"):
        model = create_model("spikingbert", num_classes=2, num_hidden_layers=layers)
    assert sum(p.numel() for p in model.parameters()) == count + 768 * 2 + 2
    assert sum(p.numel() for p in model.embeddings.parameters()) == 23_837_184
    assert {sum(p.numel() for p in layer.parameters()) for layer in model.layers} == {7_087_872}


def test_a_checkpoint_holds_it(tmp_path: Path) -> None:
    model = network(feedback=True, leak=0.9, rate="weighted")
    snn.save(model, tmp_path)
    inputs = batch(model)
    assert torch.equal(run(snn.load(tmp_path), inputs).logits, run(model, inputs).logits)


def test_weights_are_drawn_as_published() -> None:
    model = create_model("spikingbert", num_classes=2, hidden_size=64, num_attention_heads=4, vocab_size=500)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert 0.015 < parameter.std() < 0.025, name
        else:
            assert set(parameter.tolist()) == {1.0 if name.endswith("norm.weight") else 0.0}, name
    assert model.embeddings.words.weight[0].any()


def test_it_starts_from_a_teachers_layers() -> None:
    sizes = {k: v for k, v in SMALL["spikingbert"].items() if k not in ("T", "num_hidden_layers")}
    teacher = create_model("bert", num_hidden_layers=4, **sizes)
    student = create_model("spikingbert", num_hidden_layers=2, T=3, **sizes)
    initialize_from_teacher(student, teacher)
    for ours, index in zip(student.layers, (1, 3)):
        theirs = teacher.bert.encoder.layer[index]
        assert torch.equal(ours.query.weight, theirs.attention.self.query.weight)
        assert torch.equal(ours.output.bias, theirs.output.dense.bias)
    initialize_from_teacher(student, teacher.bert, layers=[2, 0])
    assert torch.equal(student.layers[0].key.weight, teacher.bert.encoder.layer[2].attention.self.key.weight)
    texts = {k: batch(student)[k] for k in ("input_ids", "token_type_ids")}
    torch.testing.assert_close(student.embeddings(*texts.values()), teacher.eval().bert.embeddings(**texts))


@pytest.mark.parametrize(
    ("teacher", "layers", "words"),
    [
        ({"num_hidden_layers": 3}, None, ["model.args.num_hidden_layers", "2 layers do not divide", "3"]),
        ({"num_hidden_layers": 4}, [1], ["expected 2 of its layers 0 to 3", "[1]"]),
        ({"num_hidden_layers": 4}, [1, 4], ["expected 2 of its layers 0 to 3", "[1, 4]"]),
        ({"vocab_size": 41}, None, ["word_embeddings.weight", "[41, 16]", "[40, 16]", "same tokenizer"]),
        ({"name": "distilbert"}, None, ["model=bert", "DistilBertForSequenceClassification"]),
    ],
)
def test_teachers_that_do_not_fit(teacher: dict, layers: list[int] | None, words: list[str]) -> None:
    given_ = dict(teacher)
    name = given_.pop("name", "bert")
    student = create_model("spikingbert", **SMALL["spikingbert"])
    before = {k: v.clone() for k, v in student.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        initialize_from_teacher(student, create_model(name, **{**SMALL[name], **given_}), layers)
    assert all(word in str(error.value) for word in words), error.value
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"threshold": 0.0}, ["model.args.threshold", "> 0", "0.0"]),
        ({"threshold": -1.0}, ["model.args.threshold", "> 0", "-1.0"]),
        ({"leak": 0.0}, ["model.args.leak", "(0, 1]", "0.0"]),
        ({"leak": 1.5}, ["model.args.leak", "(0, 1]", "1.5"]),
        ({"rate": "weighted"}, ["model.args.rate", "model.args.leak below 1", "model.args.rate=mean"]),
        ({"rate": "wieghted"}, ["model.args.rate", "did you mean 'weighted'"]),
        (
            {"num_attention_heads": 3},
            ["model.args.num_attention_heads", "3 heads do not divide", "1, 2, 4, 8"],
        ),
        ({"T": 0}, ["model.args.T", ">= 1"]),
        ({"chunk": 0}, ["model.args.chunk", ">= 1"]),
        ({"stop_tolerance": 0.0}, ["model.args.stop_tolerance", "> 0"]),
        ({"stop_every": 0}, ["model.args.stop_every", ">= 1"]),
        ({"gradient": "implict"}, ["model.args.gradient", "did you mean 'implicit'"]),
        ({"solver": "andersen"}, ["model.args.solver", "did you mean 'anderson'"]),
        ({"solver_tolerance": 0.0}, ["model.args.solver_tolerance", "> 0"]),
        ({"solver_iterations": 0}, ["model.args.solver_iterations", ">= 1"]),
        ({"surrogate": "sigmoit"}, ["model.args.surrogate", "did you mean 'sigmoid'"]),
        ({"hidden_act": "gleu"}, ["model.args.hidden_act", "did you mean 'gelu'"]),
    ],
)
def test_one_line_names_the_key_and_what_would_work(args: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        create_model("spikingbert", **{**SMALL["spikingbert"], **args})
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_text_that_is_too_long() -> None:
    model = create_model("spikingbert", **SMALL["spikingbert"])
    with pytest.raises(ConfigError, match=r"max_length.*13 tokens.*max_position_embeddings is 12"):
        model(torch.ones(1, 13, dtype=torch.long))
