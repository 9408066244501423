"""Rules that cannot work: one line each, before anything is touched."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import snn
from snn.errors import ConfigError, ConversionError

from .networks import NETWORKS, append, example

HERE = "quantization.rules"


def bert() -> nn.Module:
    return NETWORKS["bert"][0]().eval()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            append(r"re:bert\.encoder\.layers\.0"),
            f'{HERE}[0]: "re:bert\\.encoder\\.layers\\.0" matches no module; nearest: bert.encoder.layer.0, ',
        ),
        ({"type": "ReLu"}, f'{HERE}[0]: "type=ReLu" matches no module'),
        ({"do": "append"}, f"{HERE}[0]: a rule needs match:, type: or call:"),
        (
            {"match": "classifier", "do": "apend"},
            f"{HERE}[0].do: unknown verb 'apend'; did you mean 'append'?",
        ),
        (
            {"match": "classifier", "by": "qcsf"},
            f"{HERE}[0].by: unknown quantiser 'qcsf'; did you mean 'qcfs'?",
        ),
        (
            {"match": "classifier", "by": "qcfs", "level": 4},
            f"{HERE}[0]: qcfs takes no argument 'level'; did you mean 'levels'?",
        ),
        (
            {"match": "classifier", "level": 4},
            f"{HERE}[0]: qcfs takes no argument 'level'; did you mean 'levels'?",
        ),
        (
            {"match": "re:(classifier"},
            f"{HERE}[0].match: 're:(classifier' is no regex: missing ), unterminated subpattern",
        ),
        (
            {"match": "classifier", "call": "softmax", "do": "prepend"},
            f"{HERE}[0]: a call can be appended to, replaced or kept; got do: prepend",
        ),
        ({"match": "classifier", "levels": 0}, "quantization.levels must be at least 1; got 0"),
        (
            "classifier",
            f"{HERE}[0]: a rule is a mapping such as {{match: classifier, do: keep}}; got 'classifier'",
        ),
    ],
)
def test_bad_rules(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        snn.quantize(bert(), [rule])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_rule_that_comes_too_late() -> None:
    with pytest.raises(ConfigError) as error:
        snn.plan(bert(), [append(r"re:.*\.query"), append("bert.encoder.layer.0.attention.self.query")])
    want = '[1]: "bert.encoder.layer.0.attention.self.query" matches only modules that earlier rules decide about'
    assert str(error.value) == HERE + want


def test_an_optional_rule_may_match_nothing() -> None:
    made = snn.plan(bert(), [append("classifier"), append("head", optional=True)])
    assert [step.name for step in made.actions] == ["classifier"]


def test_nothing_to_quantise() -> None:
    with pytest.raises(ConversionError, match="no rule quantises anything"):
        snn.plan(bert(), [{"match": "classifier", "do": "keep"}])


def test_a_module_inside_a_replaced_one() -> None:
    rules = [{"match": "bert.pooler", "do": "replace"}, append("bert.pooler.dense")]
    with pytest.raises(
        ConfigError, match=r"rules\[1\]: bert.pooler.dense lies inside bert.pooler, which is replaced"
    ):
        snn.quantize(bert(), rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            append("bert.encoder.layer"),
            "bert.encoder.layer is a ModuleList, which is never called: match what is inside it",
        ),
        ({"match": "0", "do": "prepend"}, "0 is a Sequential: prepend to its first module instead"),
    ],
)
def test_places_that_cannot_hold_a_quantiser(rule: dict[str, Any], message: str) -> None:
    model = bert() if "bert" in rule["match"] else nn.Sequential(nn.Sequential(nn.ReLU()))
    with pytest.raises(ConversionError) as error:
        snn.quantize(model, [rule])
    assert str(error.value) == message


def test_a_module_that_returns_no_tensor() -> None:
    model = bert()
    network = snn.quantize(model, [append("bert.encoder")])
    with pytest.raises(
        ConversionError, match=r"BertEncoder returns a BaseModelOutput.*, no tensor: match a module inside it"
    ):
        snn.calibrate(network, [example("bert", model)])
