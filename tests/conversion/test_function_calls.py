"""Calls inside a forward: reached however they are written, by the innermost module that has a rule for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snn
from snn.conversion.quantize import quantizers
from snn.errors import ConfigError, ConversionError

Function = Callable[[Tensor], Tensor]
THRESHOLD = {"threshold": 1.0, "granularity": "tensor"}


class Calling(nn.Module):
    """A linear layer, a function, another linear layer."""

    def __init__(self, function: Function, width: int = 4):
        super().__init__()
        self.first, self.second, self.function = nn.Linear(4, width), nn.Linear(width, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def call(name: str, do: str = "replace", match: str = "", **more: Any) -> dict[str, Any]:
    return {"match": match, "call": name, "do": do, **THRESHOLD, **more}


def ignoring_the_result(x: Tensor) -> Tensor:
    functional.relu(x, inplace=True)
    return x


RELUS: dict[str, Function] = {
    "F.relu": functional.relu,
    "F.relu in place": lambda x: functional.relu(x, inplace=True),
    "F.relu in place by position": lambda x: functional.relu(x, True),
    "result ignored": ignoring_the_result,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "module made on the spot": lambda x: nn.ReLU()(x),
    "module in place": lambda x: nn.ReLU(inplace=True)(x),
    "by name": lambda x: functional.relu(input=x),
    "out": lambda x: torch.clamp(x, min=0, out=x),
}


@pytest.mark.parametrize("how", RELUS)
@pytest.mark.parametrize("do", ["replace", "append"])
def test_a_function_is_reached_however_it_is_written(how: str, do: str) -> None:
    name = "clamp" if how == "out" else "relu"
    model = Calling(RELUS[how]).eval().requires_grad_(False)
    network = snn.quantize(model, [call(name, do)])
    ((found, quantizer),) = quantizers(network).items()
    assert found == f"quantizer_calls.{name}"
    x = 2 * torch.randn(8, 4)
    assert torch.equal(network(x), model.second(quantizer.quantize(model.first(x))))
    spiking = snn.convert(network, "para_inf", 8)
    assert snn.verify(network, spiking, [{"x": x}]).passed
    assert set(spiking(x=x).spikes) == {f"{name}()"}


@pytest.mark.parametrize(
    "functions",
    [
        (functional.gelu, nn.GELU()),
        (functional.silu, nn.SiLU(), nn.SiLU(inplace=True)),
        (torch.tanh, lambda x: x.tanh(), nn.Tanh(), lambda x: x.tanh_()),
        (torch.sigmoid, functional.sigmoid, torch.special.expit, nn.Sigmoid()),
        (
            lambda x: functional.softmax(x, -1),
            lambda x: torch.softmax(x, -1),
            lambda x: x.softmax(-1),
            lambda x: torch.special.softmax(x, -1),
            nn.Softmax(-1),
        ),
        (lambda x: x * x.abs(), lambda x: torch.mul(x, x.abs()), lambda x: x.mul_(x.abs())),
    ],
    ids=["gelu", "silu", "tanh", "sigmoid", "softmax", "mul"],
)
def test_the_result_of_a_call_is_quantised(functions: tuple[Function, ...], request: Any) -> None:
    name = request.node.callspec.id
    for function in functions:
        model = Calling(function).eval().requires_grad_(False)
        network = snn.quantize(model, [call(name, "append", signed=True)])
        (quantizer,) = quantizers(network).values()
        x = 2 * torch.randn(8, 4)
        assert torch.equal(network(x), model.second(quantizer.quantize(function(model.first(x)))))


def test_training_passes_gradients_through_calls_in_place() -> None:
    model = Calling(lambda x: functional.relu(x, inplace=True))
    network = snn.quantize(model, [call("relu")])
    network(torch.rand(8, 4)).sum().backward()
    (quantizer,) = quantizers(network).values()
    gradients = [network.first.weight.grad, network.second.weight.grad, quantizer.threshold.grad]
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


class Nested(nn.Module):
    """Calls relu itself, before and after a child that does so too."""

    def __init__(self, child: nn.Module | None = None):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.child = child if child is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.linear(self.child(functional.relu(x))))


def test_a_call_belongs_to_the_innermost_module_with_a_rule_for_it() -> None:
    model = Nested(Nested(Nested())).eval()
    rules = [call("relu", match="child"), call("relu")]
    made = snn.plan(model, rules, example={"x": torch.randn(2, 4)})
    assert made.trace is not None
    # The grandchild has no rule, so its two calls belong to the child, and no call is quantised twice.
    assert made.trace.calls == {"quantizer_calls.relu": 2, "child.quantizer_calls.relu": 4}
    assert made.trace.dense == ()
    network = snn.quantize(model, rules)
    spiking = snn.convert(network, "para_inf", 8)
    assert snn.verify(network, spiking, [{"x": torch.randn(3, 4)}]).passed
    names = ["relu()", "relu()#1", *(f"child.relu(){n}" for n in ("", "#1", "#2", "#3"))]
    spikes = spiking(x=torch.randn(3, 4)).spikes
    assert {name: layer.total.shape for name, layer in spikes.items()} == dict.fromkeys(names, (8, 3))


def test_a_kept_call_is_out_of_reach_of_the_modules_around() -> None:
    model = Nested(Nested()).eval()
    rules = [call("relu"), {"match": "child", "call": "relu", "do": "keep"}]
    made = snn.plan(model, rules, example={"x": torch.randn(2, 4)})
    assert made.trace is not None
    assert made.trace.calls == {"quantizer_calls.relu": 2}
    assert [(d.module, d.call) for d in made.trace.dense] == [("child", "relu"), ("child", "relu")]


def test_a_kept_call_stays_kept_in_a_checkpoint(tmp_path: Any) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = snn.create_model("bert", num_classes=2, vocab_size=40, **sizes).eval()
    first = "bert.encoder.layer.0.attention.self"
    rules = [
        {"match": "bert.encoder", "call": "softmax", **THRESHOLD},
        {"match": first, "call": "softmax", "do": "keep"},
    ]
    batch = {"input_ids": torch.randint(1, 40, (2, 6))}
    network = snn.quantize(model, rules, levels=2)
    snn.save(network, tmp_path / "kept")
    loaded = snn.load(tmp_path / "kept")
    assert torch.equal(loaded(**batch).logits, network(**batch).logits)
    assert not torch.equal(snn.quantize(model, rules[:1], levels=2)(**batch).logits, network(**batch).logits)
    assert [s.name for s in loaded.plan.steps if s.do == "keep"] == [first]


class Two(nn.Module):
    """The same function twice in one forward, on different widths."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(functional.relu(self.b(torch.relu(self.a(x)))))


def test_two_calls_share_a_quantiser_and_have_a_trajectory_each() -> None:
    x = {"x": torch.randn(8, 4)}
    rules = [{"match": "", "call": "relu", "do": "replace", "granularity": "tensor"}]
    assert "replace qcfs 8, 2 calls" in str(snn.plan(Two(), rules, example=x))
    network = snn.calibrate(snn.quantize(Two().eval(), rules), [x])
    assert len(quantizers(network)) == 1
    spiking = snn.convert(network.eval(), "para_inf", 8)
    assert snn.verify(network, spiking, [x]).passed
    assert set(spiking(**x).spikes) == {"relu()", "relu()#1"}


def test_calls_may_be_told_apart_by_their_number() -> None:
    x = {"x": torch.randn(8, 4)}
    rules = [{"match": "", "call": f"relu#{i}", "do": "replace", "levels": 2 + i} for i in range(2)]
    made = snn.plan(Two(), rules, example=x)
    assert made.trace is not None
    assert [p.sources[0] for p in made.trace.products] == [None, ("relu#0()",), ("relu#1()",)]
    network = snn.calibrate(snn.quantize(Two().eval(), rules), [x])
    found = quantizers(network)
    assert {name: (q.levels, q.threshold.numel()) for name, q in found.items()} == {
        "quantizer_calls.relu#0": (2, 6),
        "quantizer_calls.relu#1": (3, 3),
    }


def test_calls_of_different_widths_cannot_share_thresholds_per_channel() -> None:
    network = snn.quantize(Two().eval(), [{"match": "", "call": "relu", "do": "replace"}])
    with pytest.raises(
        ConversionError, match=r"calls\.relu: called with 6 and with 3 channels: .* call: relu#1"
    ):
        snn.calibrate(network, [{"x": torch.randn(8, 4)}])


def test_a_number_goes_before_the_bare_name() -> None:
    rules = [call("relu", levels=8), call("relu#1", "keep")]
    made = snn.plan(Two(), rules, example={"x": torch.randn(2, 4)})
    assert made.trace is not None
    assert made.trace.calls == {"quantizer_calls.relu": 1}
    assert [d.call for d in made.trace.dense] == ["relu"]


def test_what_a_quantiser_does_inside_is_nobodys_call() -> None:
    """Quantisers and neurons floor and clamp; a rule about those calls means the model's own."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.other, self.out = nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.other(self.act(x)).clamp_(-1, 1))

    inner = [
        {"match": "act", "do": "replace", **THRESHOLD},
        {"match": "other", "do": "append", "signed": True, **THRESHOLD},
        {"match": "out", "do": "prepend", "signed": True, **THRESHOLD},
    ]
    rules = [*inner, call("clamp", "append", signed=True), call("floor", "append", optional=True)]
    x = {"x": torch.randn(4, 4)}
    made = snn.plan(Model(), rules, example=x)
    assert made.trace is not None
    names = ["act", "other.quantizer_out", "quantizer_calls.clamp", "out.quantizer_in"]
    assert made.trace.calls == dict.fromkeys(names, 1)
    network = snn.quantize(Model().eval(), rules)
    spiking = snn.convert(network, "para_inf", 8)
    assert snn.verify(network, spiking, [x]).passed
    assert set(spiking(**x).spikes) == {"act", "other", "clamp()", "out (input)"}


def test_a_copy_runs_its_own_quantisers() -> None:
    network = snn.quantize(Calling(functional.relu).eval(), [call("relu")])
    other = copy.deepcopy(network)
    x = torch.rand(4, 4) * 3
    before = network(x)
    next(iter(quantizers(other).values())).threshold.data.mul_(0.01)
    assert not torch.equal(other(x), before)
    assert torch.equal(network(x), before)


def test_distilberts_head_is_reached_at_the_model_itself() -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "vocab_size": 40}
    model = DistilBertForSequenceClassification(DistilBertConfig(**sizes)).eval()
    batch = {"input_ids": torch.randint(1, 40, (3, 5)), "attention_mask": torch.ones(3, 5, dtype=torch.long)}
    elsewhere = [{"match": "distilbert.embeddings.LayerNorm", "signed": True}]
    bare = snn.plan(model, elsewhere, example=batch)
    assert "DistilBertForSequenceClassification ▸ relu()" in str(bare)
    rules = [*elsewhere, {"match": "", "call": "relu", "do": "replace"}]
    made = snn.plan(model, rules, example=batch)
    assert made.trace is not None
    assert made.trace.products[-1].sources == (("relu()",), None)
    assert "relu" not in {d.call for d in made.trace.dense}
    network = snn.calibrate(snn.quantize(model, rules), [batch])
    spiking = snn.convert(network, "para_inf", 8)
    assert snn.verify(network, spiking, [batch], dtype=torch.float64).differing == 0


def test_the_signature_stays_that_of_the_model() -> None:
    """A single unnamed input is passed by position, which the signature decides."""
    network = snn.quantize(Calling(functional.relu).eval(), [call("relu")])
    spiking = snn.convert(network, "para_inf", 8)
    x = torch.randn(4, 4)
    torch.testing.assert_close(spiking(anything=x).logits[-1], network(x))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (call("sofmax"), "[0].call: 'sofmax' is no function of torch"),
        (call("relu#x"), "[0].call: 'relu#x' is no function of torch"),
        (call("relu", "prepend"), "[0]: a call can be appended to, replaced or kept; got do: prepend"),
    ],
)
def test_bad_rules_about_calls(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        snn.plan(Calling(functional.relu), [rule])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rule_about_a_call_that_is_never_made() -> None:
    model = nn.Sequential(Calling(functional.gelu))
    with pytest.raises(ConfigError) as error:
        snn.plan(model, [call("relu", match="0")], example={"x": torch.randn(2, 4)})
    want = 'quantization.rules[0]: "0 call=relu": relu is never called in 0; non-linear calls there: gelu'
    assert str(error.value) == want
    optional = [call("relu", match="0", optional=True), {"match": "0.first"}]
    assert "replace: never called" in str(snn.plan(model, optional, example={"x": torch.randn(2, 4)}))


def test_a_call_that_returns_no_tensor() -> None:
    network = snn.quantize(Calling(lambda x: x.topk(4)[0]), [call("topk", "append")])
    with pytest.raises(ConversionError, match=r"call: topk returns a topk, no tensor: nothing to quantise"):
        network(torch.randn(2, 4))


def test_a_call_inside_a_module_that_is_replaced() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    rules = [{"match": "1", "do": "replace"}, {"match": "1", "call": "gelu"}]
    with pytest.raises(ConfigError, match=r"rules\[1\].*1, which is replaced as a whole"):
        snn.plan(model, rules)
