"""BERT, DistilBERT, RoBERTa and T5's encoder by ``train.py``: from a folder of transformers to spikes and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from snn.evaluation.jobs import evaluate_checkpoint
from snn.models.tokenizer import load_tokenizer
from snn.tracking.files import read_json
from snn.training.experiment import run
from tests.scripts.composing import composed

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES = {
    "bert": (transformers.BertConfig, transformers.BertModel, BERT),
    "distilbert": (
        transformers.DistilBertConfig,
        transformers.DistilBertModel,
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    ),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel, BERT),
    "t5_encoder": (
        transformers.T5Config,
        transformers.T5EncoderModel,
        {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "d_kv": 8},
    ),
}


@pytest.mark.parametrize(
    ("family", "neuron"),
    [
        ("bert", "st_bif"),
        ("distilbert", "para_inf"),
        ("roberta", "st_bif"),
        ("t5_encoder", "para_inf"),
        ("t5_encoder", "st_bif"),
    ],
)
def test_every_family_goes_from_its_weights_to_spikes(
    family: str, neuron: str, text: list[str], tokenizer_folder: Path, tmp_path: Path
) -> None:
    config, network, sizes = FAMILIES[family]
    longest = {} if family == "t5_encoder" else {"max_position_embeddings": 32}
    tokenizer = load_tokenizer(str(tokenizer_folder))
    made = network(config(vocab_size=200, pad_token_id=tokenizer.pad_token_id, **longest, **sizes))
    weights = tmp_path / "weights"
    made.save_pretrained(weights)
    tokenizer.save_pretrained(weights)
    overrides = [word for word in text if not word.startswith("model")]
    overrides += [f"model={family}", f"model.weights={weights}", f"neuron={neuron}"]
    overrides += ["T=48" if neuron == "st_bif" else "T=4"]
    run(composed("train", *overrides), tmp_path / "run")
    summary = read_json(tmp_path / "run" / "summary.json")
    agreement = summary["results"]["spiking"]["agreement"]
    assert agreement["same_prediction"] == agreement["samples"] > 0
    evaluate_checkpoint(composed("evaluate", f"checkpoint={tmp_path}/run"), tmp_path / "again")
    again = read_json(tmp_path / "again" / "summary.json")
    assert again["results"]["spiking"]["metrics"] == summary["results"]["spiking"]["metrics"]
