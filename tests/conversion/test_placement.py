"""Places of a rule: types, both ends of a module, and wherever something is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import snn
from snn.conversion.quantize import quantizers
from snn.errors import ConfigError, ConversionError

HERE = "quantization.rules"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.projection = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x)[:, None]
        return self.projection((torch.softmax(q @ q.mT, -1) @ q)[:, 0])


class Network(nn.Module):
    """Functions called where there is no module for them, in the model's own forward too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = Attention(), Attention(), nn.Tanh()
        self.classifier = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.act(self.second(self.first(x))))
        return self.classifier(nn.ReLU()(x[:, 0]))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().eval()


def batch() -> dict[str, Tensor]:
    return {"x": torch.randn(2, 3, 4)}


def found(*rules: dict[str, Any], example: bool = True, model: nn.Module | None = None) -> list[str]:
    made = snn.plan(model or network(), rules, example=batch() if example else None)
    return [step.address for step in made.actions]


def test_a_list_of_types_and_a_regex() -> None:
    names = ["first.query", "first.projection", "second.query", "second.projection", "classifier"]
    linear = [f"{n}.quantizer_out" for n in names]
    assert found({"type": ["Linear", "Conv1d"]}, example=False) == linear
    assert found({"type": "re:Lin.*"}, example=False) == linear
    assert found({"type": ["re:.*anh", "Conv2d"]}, example=False) == ["act.quantizer_out"]
    with pytest.raises(ConfigError, match="matches no module"):
        found({"type": "re:Lin"}, example=False)


def test_input_and_output_of_a_module_are_two_places() -> None:
    before, behind = {"match": "classifier", "do": "prepend"}, {"match": "classifier", "do": "append"}
    both = {"classifier.quantizer_in", "classifier.quantizer_out"}
    assert set(found(before, behind, example=False)) == both
    with pytest.raises(ConfigError, match="only modules that earlier rules decide about"):
        found({"match": "classifier", "do": "keep"}, before, {"type": "Tanh"}, example=False)


def test_what_runs_next_after_a_call() -> None:
    context = {"after": "softmax", "type": "Linear", "do": "prepend"}
    places = ["first.projection.quantizer_in", "second.projection.quantizer_in"]
    assert found(context) == places
    assert found({**context, "after": "F.softmax"}) == places
    assert found({**context, "match": r"re:second\..*"}) == places[1:]


def test_wherever_a_function_is_called() -> None:
    softmax = [f"{n}.quantizer_calls.softmax" for n in ("first", "second")]
    assert found({"call": "softmax"}) == softmax
    assert found({"call": "softmax", "type": "re:Att.*"}) == softmax
    # An activation made on the spot, in the forward of the model itself.
    assert found({"call": "relu", "do": "replace"}) == ["quantizer_calls.relu"]


def test_a_module_that_a_rule_names_keeps_its_own_calls() -> None:
    assert found({"call": "tanh"}) == ["quantizer_calls.tanh", "act.quantizer_calls.tanh"]
    assert set(found({"type": "Tanh"}, {"call": "tanh"})) == {"quantizer_calls.tanh", "act.quantizer_out"}


def test_a_call_that_nobody_makes() -> None:
    rule = {"call": "gelu", "type": "Attention"}
    with pytest.raises(ConfigError) as error:
        found({"call": "softmax"}, rule)
    message = f"{HERE}[1]: no module of type Attention fits 'gelu'; called are: "
    assert str(error.value).startswith(message)
    assert "softmax" in str(error.value)
    assert len(found({"call": "softmax"}, {**rule, "optional": True})) == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"call": "softmax"},
            f'{HERE}[0]: "call=softmax" holds wherever that is called, which one forward has to show: give example=',
        ),
        (
            {"after": "softmax", "type": "Linear"},
            f'{HERE}[0]: "type=Linear after=softmax" holds wherever that is called',
        ),
        ({"after": "softmax", "call": "relu"}, f"{HERE}[0]: after: is about modules and call: about calls"),
        ({"after": "softmax"}, f"{HERE}[0]: a rule needs match:, type: or call:"),
        ({"type": "re:(x"}, f"{HERE}[0].type: 're:(x' is no regex: "),
    ],
)
def test_rules_that_cannot_be_placed(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        found(rule, example=False)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_watching_leaves_the_model_alone() -> None:
    model = network().train()
    before = {name: (type(m), len(m._forward_hooks)) for name, m in model.named_modules()}
    found({"call": "softmax"}, model=model)
    assert {name: (type(m), len(m._forward_hooks)) for name, m in model.named_modules()} == before
    assert all(m.training for m in model.modules())


def test_attention_in_one_piece_is_refused() -> None:
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    with pytest.raises(ConversionError, match="computes attention in one piece"):
        snn.plan(model, [{"call": "softmax"}], example={"src": torch.randn(2, 3, 4)})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused(dtype: torch.dtype) -> None:
    rules = [{"match": "classifier", "threshold": 1.0, "granularity": "tensor"}]
    message = "weights are .*float16 .first: first.query.weight.*call model.float"
    with pytest.raises(ConversionError, match=message):
        snn.quantize(network().to(dtype), rules)
    with pytest.raises(ConversionError, match=message):
        snn.convert(snn.quantize(network(), rules).to(dtype), "para_inf", 8)


MASK = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0)) > 0.4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": MASK.float().log()},
        {"attn_mask": torch.linspace(-1, 1, 35).reshape(5, 7)},
        {"enable_gqa": True},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_attention_in_calls_is_the_fused_kernel(options: dict[str, Any]) -> None:
    from snn.conversion.attention import attention

    if "attn_mask" in options and options["attn_mask"].dim() == 4:
        options["attn_mask"][0, :, 2] = False if options["attn_mask"].dtype == torch.bool else -torch.inf
    heads = 1 if "enable_gqa" in options else 2
    query, key, value = torch.randn(2, 2, 5, 3), torch.randn(2, heads, 7, 3), torch.randn(2, heads, 7, 4)
    want = functional.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(attention(query, key, value, **options), want)


def test_fused_attention_is_quantised_where_a_rule_asks_for_it() -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            q = self.q(x)[:, None]
            return functional.scaled_dot_product_attention(q, q, q)

    torch.manual_seed(0)
    model, x = Fused().eval(), torch.randn(2, 3, 4)
    network = snn.quantize(
        model,
        [{"call": "softmax", "signed": False, "levels": 4, "threshold": 1.0, "granularity": "tensor"}],
        example={"x": x},
    )
    (quantizer,) = quantizers(network).values()
    q = model.q(x)[:, None]
    weights = quantizer.quantize(torch.softmax(q @ q.mT * 0.5, -1))
    torch.testing.assert_close(network(x), weights @ q)
