"""A NewComputeBench configuration, as it is, finds what it finds there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import snn
from snn.conversion.newcomputebench import read_transform_config
from snn.errors import ConfigError

QUANTIZER = {"config": {"name": "lsqinteger", "level": 32}}
SPIKING = {"name": "zip_tf", "level": 32, "neuron_type": "ST-BIF"}
LAYER = r"roberta\.encoder\.layer\.\d+\."
#: What that project calls its transform_cfg.yaml says.
CONFIG: dict[str, Any] = {
    "quantization_config": {
        "by": "regex",
        LAYER + r"attention\.self": QUANTIZER,
        LAYER + r"attention\.output": QUANTIZER,
        LAYER + "output": QUANTIZER,
        LAYER + "intermediate": QUANTIZER,
        "classifier": QUANTIZER,
    },
    "snn_transformer_config_attn": {"by": "regex", LAYER + r"attention\.self": {"config": SPIKING}},
    "snn_transformer_config_fc": {
        "by": "type",
        "embedding": {"config": {"name": "zip_tf"}},
        "layernorm": {"config": {"name": "zip_tf"}},
        "linear": {"config": {"name": "unfold_bias", "level": 32, "neuron_type": "ST-BIF"}},
        "relu": {"manual_instantiate": True, "config": {"name": "identity"}},
        "lsqinteger": {"manual_instantiate": True, "config": {"name": "st_bif"}},
    },
}
BASE = {"hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 32}


def roberta(layers: int = 12, **options: Any) -> nn.Module:
    """The depth of RoBERTa-base; the counts do not depend on its width."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = {"hidden_act": "relu", "vocab_size": 40, "max_position_embeddings": 20, "pad_token_id": 1}
    return RobertaForSequenceClassification(
        RobertaConfig(**BASE, num_hidden_layers=layers, **{**config, **options})
    ).eval()


def written(folder: Path, content: Any) -> Path:
    path = folder / "transform_cfg.yaml"
    path.write_text(
        content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), "utf-8"
    )
    return path


def changed(*keys: str, to: Any) -> dict[str, Any]:
    """The configuration with one entry replaced."""
    content = copy.deepcopy(CONFIG)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return content


def test_what_each_block_touches(tmp_path: Path) -> None:
    model = roberta()
    report = read_transform_config(written(tmp_path, CONFIG)).report(model)
    assert (report.quantized_modules, report.quantizers, report.attention_modules) == (49, 121, 12)
    assert report.by_type == {
        "embedding": 3,
        "layernorm": 25,
        "linear": 74,
        "relu": 12,
        "lsqinteger": 61,
    }
    assert str(report).startswith("quantization_config: 49 modules, 121 quantisers; ")


def test_the_rules_put_the_same_quantisers_in_the_same_places(tmp_path: Path) -> None:
    transform = read_transform_config(written(tmp_path, CONFIG))
    made = snn.plan(roberta(), transform.rules(roberta()))
    assert len(made.actions) == 121
    assert {(s.options["name"], s.options["levels"], s.options["granularity"]) for s in made.actions} == {
        ("lsq", 32, "tensor")
    }
    unsigned = [s.address for s in made.actions if not s.options["signed"]]
    assert len(unsigned) == 12 * 3 + 1
    place = "roberta.encoder.layer.7."
    assert {name.removeprefix(place) for name in unsigned if name.startswith(place)} == {
        "attention.self.quantizer_calls.softmax",
        "attention.self.quantizer_out",
        "intermediate.dense.quantizer_out",
    }
    assert "classifier.dense.quantizer_out" in unsigned
    # Applied a second time, with the same result.
    assert transform.rules(roberta()) == transform.rules(roberta())


def test_it_is_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = roberta(layers=2, attn_implementation="sdpa").double()
    inputs = {"input_ids": torch.randint(5, 40, (3, 7)), "attention_mask": torch.ones(3, 7, dtype=torch.long)}
    inputs["attention_mask"][0, 4:] = 0
    network = snn.quantize(model, read_transform_config(written(tmp_path, CONFIG)).rules(model))
    snn.calibrate(network, [inputs], init="max")
    report = snn.verify(network, snn.convert(network, "st_bif", 100), [inputs])
    assert (report.differing, report.unsettled) == (0, 0)
    assert report.max_error <= 1e-12


QUANTIZATION, ATTENTION, REST = CONFIG


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a list", "expected a mapping with quantization_config"),
        ("a: [", "cannot be read: while parsing a flow node"),
        ({**CONFIG, "snn_config": {}}, "unknown block 'snn_config'; "),
        (changed(QUANTIZATION, "by", to="type"), "quantization_config.by must be regex; got 'type'"),
        (changed(REST, "by", to="name"), "snn_transformer_config_fc.by must be type; got 'name'"),
        (
            changed(QUANTIZATION, "classifier", to=5),
            "quantization_config.classifier needs a config with a name",
        ),
        (
            changed(QUANTIZATION, "classifier", to={"config": {"name": "lsq", "level": 32}}),
            "quantization_config.classifier.config.name: only lsqinteger is supported here; got 'lsq'",
        ),
        (
            changed(
                QUANTIZATION, "classifier", to={"config": {"name": "lsqinteger", "level": 32, "bits": 5}}
            ),
            "quantization_config.classifier.config.bits is not supported; name, level are",
        ),
        (
            changed(QUANTIZATION, "classifier", to={"config": {"name": "lsqinteger", "level": 256}}),
            "quantization_config.classifier.config.level: 256 codes stand for no quantiser there",
        ),
        (
            changed(QUANTIZATION, "classifier", to={"config": {"name": "lsqinteger"}}),
            "quantization_config.classifier.config.level: expected a whole number of codes >= 3; got None",
        ),
        (changed(QUANTIZATION, "(x", to=QUANTIZER), "quantization_config.(x is no regex: "),
        (
            changed(REST, "linear", "config", "neuron_type", to="IF"),
            "snn_transformer_config_fc.linear.config.neuron_type: only ST-BIF is supported; got 'IF'",
        ),
        (changed(REST, "conv", to=QUANTIZER), "snn_transformer_config_fc.conv: unknown type; "),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as error:
        read_transform_config(path)
    assert str(error.value).startswith(f"conversion.transform_config={path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(QUANTIZATION, "pooler", to=QUANTIZER), "quantization_config: 'pooler' matches no module"),
        (
            changed(QUANTIZATION, r"roberta\.embeddings", to=QUANTIZER),
            r"matches roberta.embeddings, for which no places are known; names that end in attention.self, ",
        ),
        (
            changed(ATTENTION, "bert", to={"config": SPIKING}),
            "snn_transformer_config_attn: 'bert' matches no module that quantization_config quantises",
        ),
    ],
)
def test_what_does_not_suit_the_model_is_named(tmp_path: Path, content: Any, message: str) -> None:
    transform = read_transform_config(written(tmp_path, content))
    with pytest.raises(ConfigError) as error:
        transform.report(roberta(layers=1))
    assert message in str(error.value)


def test_no_such_file() -> None:
    with pytest.raises(
        ConfigError, match=r"conversion.transform_config=nowhere.yaml cannot be read: No such file"
    ):
        read_transform_config("nowhere.yaml")


def test_it_needs_lsq_and_no_other_rules() -> None:
    from tests.scripts.composing import composed

    key = "conversion.transform_config=transform_cfg.yaml"
    assert composed("train", key, "neuron=st_bif").conversion.transform_config == "transform_cfg.yaml"
    with pytest.raises(ConfigError, match=r"it needs quantization=lsq .neuron=st_bif brings it.; got qcfs"):
        composed("train", key, "neuron=para_inf")
    with pytest.raises(ConfigError, match="both say where the quantisers go"):
        composed("train", key, "conversion=spikezip")
