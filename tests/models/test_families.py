"""Text families: weights of their own kind, weights of BERT re-expressed, sizes and classes read from a folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from snn.errors import CheckpointError, ConfigError
from snn.models import create_model, load_tokenizer

from .small import SMALL, batch, logits

FAMILIES = ["bert", "distilbert", "roberta", "t5_encoder"]
TEXTS = [
    "The film was wonderful and moving.",
    "A",
    "שלום, a longer text with 🎉 and words that the vocabulary has to spell: antidisestablishmentarianism.",
]
#: Sizes as each library class spells them, no two alike.
LIBRARY: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": (
        "BertForSequenceClassification",
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 20},
    ),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 20, "seq_classif_dropout": 0.3},
    ),
    "roberta": (
        "RobertaForSequenceClassification",
        {
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 20,
            "max_position_embeddings": 17,
        },
    ),
    "t5_encoder": (
        "T5ForConditionalGeneration",
        {
            "d_model": 24,
            "num_layers": 3,
            "num_heads": 2,
            "d_kv": 5,
            "d_ff": 20,
            "feed_forward_proj": "gated-gelu",
            "relative_attention_num_buckets": 8,
        },
    ),
}


def library_folder(name: str, folder: Path, **more: Any) -> torch.nn.Module:
    """A folder as the library itself saves a network."""
    cls, sizes = LIBRARY[name]
    sizes = {**sizes, **more, "attn_implementation": "eager"}
    config = getattr(transformers, cls).config_class(vocab_size=40, **sizes)
    model = getattr(transformers, cls)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_of_the_library_is_the_same_network_here(name: str, tmp_path: Path) -> None:
    theirs = library_folder(name, tmp_path)
    ours = create_model(name, weights=tmp_path).eval()
    inputs = {key: value for key, value in batch(ours).items() if key != "token_type_ids"}
    with torch.no_grad():
        if name == "t5_encoder":
            want = theirs.encoder(**inputs).last_hidden_state
            assert torch.equal(ours.encoder(**inputs).last_hidden_state, want)
            mask = inputs["attention_mask"].bool()
            means = torch.stack([row[m].mean(0) for row, m in zip(want, mask)])
            assert torch.allclose(ours(**inputs).logits, ours.classifier(means), atol=1e-6)
        else:
            assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits)
    assert create_model(name, **ours.spec["args"]).state_dict().keys() == ours.state_dict().keys()


def test_sizes_of_t5_are_read_by_their_own_names(tmp_path: Path) -> None:
    library_folder("t5_encoder", tmp_path)
    args = create_model("t5_encoder", weights=tmp_path).spec["args"]
    wanted = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "head_size": 5}
    wanted |= {"intermediate_size": 20, "gated": True, "hidden_act": "gelu_new"}
    assert {key: args[key] for key in wanted} == wanted
    plain = create_model("t5_encoder", weights=tmp_path, activation="relu")
    assert plain.spec["args"]["gated"]
    assert type(plain.encoder.block[0].layer[1].DenseReluDense.act).__name__ == "ReLU"


@pytest.mark.parametrize(("name", "most"), [("distilbert", 3.5e-6), ("roberta", 0.0)])
def test_minilm_re_expressed_has_the_same_hidden_states(name: str, most: float, minilm: Path) -> None:
    bert = create_model("bert", weights="minilm").eval()
    other = create_model(name, weights="minilm").eval()
    inputs = load_tokenizer("minilm")(TEXTS, padding=True, return_tensors="pt")
    ids = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        want = bert.bert(**inputs).last_hidden_state
        got = getattr(other, name)(**ids).last_hidden_state
    valid = inputs["attention_mask"].bool()
    assert float((got - want)[valid].abs().max()) <= most
    assert float(want[valid].abs().max()) > 1


def test_sizes_of_minilm_re_expressed(minilm: Path) -> None:
    distilbert, roberta = (create_model(name, weights="minilm") for name in ("distilbert", "roberta"))
    assert distilbert.spec["args"]["max_position_embeddings"] == 512
    assert {
        k: roberta.spec["args"][k] for k in ("max_position_embeddings", "type_vocab_size", "pad_token_id")
    } == {
        "max_position_embeddings": 513,
        "type_vocab_size": 1,
        "pad_token_id": 0,
    }
    # The longest text uses the last row of the table.
    ids = torch.randint(5, 30522, (1, 512))
    with torch.no_grad():
        assert roberta.eval()(input_ids=ids).logits.isfinite().all()


def test_a_classifier_of_another_family_is_left_behind(tmp_path: Path, caplog) -> None:
    library_folder("bert", tmp_path)
    for name, new in (
        ("distilbert", "classifier.bias, classifier.weight, pre_classifier.bias, pre_classifier.weight"),
        ("roberta", "classifier.dense.bias, classifier.dense.weight, classifier.out_proj.bias"),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, "snn"):
            create_model(name, weights=tmp_path)
        assert new in caplog.text


def test_a_bert_that_is_no_distilbert(tmp_path: Path) -> None:
    library_folder("bert", tmp_path, layer_norm_eps=1e-5)
    with pytest.raises(ConfigError, match="layer_norm_eps=1e-05 cannot become a DistilBERT") as error:
        create_model("distilbert", weights=tmp_path)
    assert "\n" not in str(error.value)
    create_model("roberta", weights=tmp_path)


@pytest.mark.parametrize(
    ("name", "model_type", "words"),
    [
        ("bert", "t5", "type 't5'; model=bert needs 'bert'"),
        ("roberta", "gpt2", "type 'gpt2'; model=roberta needs 'roberta' or 'bert'"),
        ("t5_encoder", "bert", "type 'bert'; model=t5_encoder needs 't5'"),
    ],
)
def test_weights_of_a_family_that_does_not_fit(
    name: str, model_type: str, words: str, tmp_path: Path
) -> None:
    library_folder(name, tmp_path)
    edit_config(tmp_path, model_type=model_type)
    with pytest.raises(ConfigError, match=words):
        create_model(name, weights=tmp_path)


def test_a_config_that_the_library_refuses(tmp_path: Path) -> None:
    library_folder("distilbert", tmp_path)
    edit_config(tmp_path, n_layers="three")
    with pytest.raises(CheckpointError, match=r"config\.json is damaged: .*n_layers") as error:
        create_model("distilbert", weights=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_gelu_becomes_relu(name: str) -> None:
    model = create_model(name, **{**SMALL[name], "hidden_act": "gelu"}, activation="relu")
    assert model.spec["args"]["hidden_act"] == "relu"
    kinds = {type(m).__name__ for key, m in model.named_modules() if "act" in key.split(".")[-1]}
    assert kinds == ({"ReLU", "Tanh"} if name == "bert" else {"ReLU"})


NAMES = {"id2label": {"0": "CONTRADICTION", "1": "Neutral", "2": "entail-ment"}}
OURS = ["entailment", "neutral", "contradiction"]


@pytest.mark.parametrize(("name", "output"), [("bert", "classifier"), ("roberta", "classifier.out_proj")])
def test_a_head_is_put_into_the_order_of_the_data_set(name: str, output: str, tmp_path: Path, caplog) -> None:
    theirs = library_folder(name, tmp_path, num_labels=3)
    edit_config(tmp_path, **NAMES)
    with caplog.at_level(logging.INFO, "snn"):
        ours = create_model(name, weights=tmp_path, num_classes=3, labels=OURS).eval()
    assert "the classes in the order CONTRADICTION, Neutral, entail-ment: put into ours" in caplog.text
    inputs = {k: v for k, v in batch(ours).items() if k != "token_type_ids"}
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, theirs(**inputs).logits[:, [2, 1, 0]])
    assert torch.equal(ours.get_submodule(output).bias, theirs.get_submodule(output).bias[[2, 1, 0]])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["contradiction", "neutral", "entailment"], ""),
        ([], ""),
        (["0", "1", "2"], "the data set numbers alone: 0 is CONTRADICTION, 1 is Neutral, 2 is entail-ment"),
        (
            ["sports", "business", "science"],
            "is for the classes CONTRADICTION, Neutral, entail-ment, those here",
        ),
    ],
)
def test_a_head_that_is_left_as_it_is(labels: list[str], said: str, tmp_path: Path, caplog) -> None:
    theirs = library_folder("bert", tmp_path, num_labels=3)
    edit_config(tmp_path, **NAMES)
    with caplog.at_level(logging.INFO, "snn"):
        ours = create_model("bert", weights=tmp_path, num_classes=3, labels=labels).eval()
    assert torch.equal(ours.classifier.weight, theirs.classifier.weight)
    assert said in caplog.text
    assert bool(caplog.messages) == bool(said)


def test_placeholders_and_another_number_of_classes_say_nothing_of_order(tmp_path: Path, caplog) -> None:
    library_folder("bert", tmp_path, num_labels=3)
    with caplog.at_level(logging.WARNING, "snn"):
        create_model("bert", weights=tmp_path, num_classes=3, labels=OURS)
        edit_config(tmp_path, **NAMES)
        create_model("bert", weights=tmp_path, num_classes=2, labels=["no", "yes"])
    assert caplog.messages == []


def test_heads_of_the_pretraining_are_left_out(tmp_path: Path) -> None:
    for name, extra in (("distilbert", "vocab_transform.weight"), ("roberta", "lm_head.bias")):
        folder = tmp_path / name
        library_folder(name, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors |= {extra: torch.zeros(3), f"{name}.embeddings.position_ids": torch.arange(4)[None]}
        tensors |= {"roberta.pooler.dense.bias": torch.zeros(3)} if name == "roberta" else {}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        create_model(name, weights=folder)


@pytest.mark.parametrize("name", ["distilbert", "roberta", "t5_encoder"])
def test_token_types_make_no_difference_where_there_are_none(name: str) -> None:
    model = create_model(name, **SMALL[name]).eval()
    inputs = batch(model)
    without = {key: value for key, value in inputs.items() if key != "token_type_ids"}
    assert torch.equal(logits(model, inputs), logits(model, without))
