"""Rules and the plan: which module gets what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn
from snn.conversion.quantize import quantizers
from snn.errors import ConfigError

from .networks import BERT_RULES, NETWORKS, append


def bert() -> nn.Module:
    return NETWORKS["bert"][0]().eval()


def actions(
    model: nn.Module, rules: list[dict[str, Any]], **defaults: Any
) -> dict[tuple[str, str | None], str]:
    return {(s.name, s.call): s.do for s in snn.plan(model, rules, defaults).actions}


def test_the_first_rule_that_matches_wins() -> None:
    model = bert()
    first = append("bert.encoder.layer.0.attention.self.query", levels=3)
    rest = append(r"re:.*\.query", levels=5)
    network = snn.quantize(model, [first, rest])
    levels = {name: q.levels for name, q in quantizers(network).items()}
    place = "bert.encoder.layer.{}.attention.self.query.quantizer_out"
    assert levels == {place.format(0): 3, place.format(1): 5}
    kept = [{"match": r"re:.*layer\.0.*", "do": "keep"}, rest]
    assert list(actions(model, kept)) == [("bert.encoder.layer.1.attention.self.query", None)]


def test_the_first_rule_wins_for_calls_as_well() -> None:
    model = bert()
    rest = append(r"re:.*\.self", call="softmax", signed=False)
    keep = {"match": "bert.encoder.layer.0.attention.self", "call": "softmax", "do": "keep"}
    assert list(actions(model, [keep, rest])) == [("bert.encoder.layer.1.attention.self", "softmax")]
    special = append("bert.encoder.layer.0.attention.self", call="softmax", levels=3)
    network = snn.quantize(model, [special, rest])
    assert [q.levels for q in quantizers(network).values()] == [3, 8]


def test_rules_for_a_module_and_for_calls_inside_it_add_up() -> None:
    found = actions(
        bert(), [append(r"re:.*layer\.0.*\.self"), append(r"re:.*layer\.0.*\.self", call="softmax")]
    )
    name = "bert.encoder.layer.0.attention.self"
    assert found == {(name, None): "append", (name, "softmax"): "append"}


def test_exact_names_match_exactly_and_regexes_fully() -> None:
    model = bert()
    assert list(actions(model, [append("classifier")])) == [("classifier", None)]
    with pytest.raises(ConfigError, match="matches no module"):
        snn.plan(model, [append("re:classif")])
    with pytest.raises(ConfigError, match="matches no module"):
        snn.plan(model, [append("bert.*")])


def test_types_and_names_together() -> None:
    model = bert()
    found = actions(model, [{"match": r"re:.*layer\.1.*", "type": "LayerNorm"}])
    assert [name for name, _ in found] == [
        f"bert.encoder.layer.1.{x}output.LayerNorm" for x in ("attention.", "")
    ]


def test_the_plan_lists_every_module_and_reads_as_a_table() -> None:
    model = bert()
    made = snn.plan(model, BERT_RULES, {"levels": 4})
    assert {s.name for s in made.steps} == {name for name, _ in model.named_modules() if name}
    table = str(made)
    assert "attention.self ▸ softmax()" in table
    assert "append qcfs ±4" in table
    untouched = {s.name for s in made.steps} - {s.name for s in made.actions}
    assert f"{len(made.actions)} quantisers; {len(untouched)} modules untouched" in table


def test_planning_and_quantising_leave_the_model_alone() -> None:
    model = bert()
    before = {name: type(m) for name, m in model.named_modules()}
    snn.quantize(model, BERT_RULES)
    assert {name: type(m) for name, m in model.named_modules()} == before


def test_channels_are_where_the_module_puts_them() -> None:
    def axes(name: str, rules: list[dict[str, Any]]) -> set[int | None]:
        return {q.axis for q in quantizers(snn.quantize(NETWORKS[name][0](), rules)).values()}

    assert axes("bert", [append(r"re:.*\.query"), append(r"re:.*LayerNorm")]) == {-1}
    # Moves channels of pictures to the end and back.
    assert axes("convnext", [{"type": "LayerNorm2d"}]) == {None}
    assert axes("bert", [append(r"re:.*\.query", axis=1)]) == {1}


@pytest.mark.parametrize(
    ("do", "hidden"),
    [
        ("append", lambda a, q: q(a[1](a[0](q.x)))),
        ("prepend", lambda a, q: a[1](a[0](q(q.x)))),
        ("replace", lambda a, q: q(q.x)),
    ],
)
def test_verbs_on_a_module(do: str, hidden: Any) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    model = nn.Sequential(Block(), nn.Linear(3, 2)).eval()
    network = snn.quantize(
        model, [{"match": "0", "do": do, "signed": True, "threshold": 1.0, "granularity": "tensor"}]
    )
    (quantizer,) = quantizers(network).values()
    quantizer.x = torch.randn(4, 3)
    want = model[1](hidden((model[0].a, model[0].b), quantizer))
    assert torch.equal(network(quantizer.x), want)
    if do == "replace":
        assert network[0] is quantizer


def test_a_sequential_gets_its_quantiser_at_its_end() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 2)).eval()
    network = snn.quantize(model, [{"match": "0", "threshold": 1.0, "granularity": "tensor"}])
    (quantizer,) = quantizers(network).values()
    calls: list[int] = []
    quantizer.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(4, 3)
    assert torch.equal(network(x), model[1](quantizer.quantize(model[0](x))))
    assert len(calls) == 1
    snn.convert(network, "para_inf", 8)


def test_the_quantised_network_stays_in_the_models_mode() -> None:
    rules = [{"type": "ReLU", "do": "replace"}]
    for training in (False, True):
        network = snn.quantize(NETWORKS["resnet20"][0]().train(training), rules)
        assert {m.training for m in network.modules()} == {training}


def test_only_the_first_of_several_outputs_is_quantised() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.pair(x)
            return first - second

    network = snn.quantize(Difference(), [{"match": "pair", "threshold": 1.0, "granularity": "tensor"}])
    x = torch.tensor([0.1, 0.25, 3.0])
    torch.testing.assert_close(network(x), torch.tensor([0.125, 0.25, 1.0]) - x)


def test_a_module_under_two_names_is_replaced_under_both() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    model.append(model[1])
    network = snn.quantize(
        model, [{"match": "1", "do": "replace", "threshold": 1.0, "granularity": "tensor"}]
    )
    assert network[1] is network[3]
    assert len(quantizers(network)) == 1
    spiking = snn.convert(network, "para_inf", 8)
    assert not quantizers(spiking.model)
    x = {"x": torch.randn(4, 3)}
    assert snn.verify(network, spiking, [x]).differing == 0
