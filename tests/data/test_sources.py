"""The built-in sets, a tokenizer made from text, and real sets where they are present."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from snn.data import DatasetConfig, build_tokenizer, load_dataset
from snn.data.builtin import SAME_FILM, film_split, mnist5k, rotten_tomatoes, synthetic_text
from snn.errors import DataError

from .test_config import CONF, composed


@pytest.fixture(scope="module")
def snippets(cache_dir):
    return rotten_tomatoes(cache_dir)


def test_rotten_tomatoes_counts(snippets):
    counts = {split: len(table) for split, table in snippets.tables.items()}
    assert counts == {"train": 10_285, "validation": 1_273, "test": 1_250}
    assert sum(counts.values()) == 12_808
    labels = [label for table in snippets.tables.values() for label in table.columns["label"]]
    assert (labels.count("fresh"), labels.count("rotten")) == (7_403, 5_405)


def test_no_film_lies_in_two_splits(snippets):
    films = {
        split: {SAME_FILM.get(film, film) for film in table.columns["film"]}
        for split, table in snippets.tables.items()
    }
    assert sum(map(len, films.values())) == len(set.union(*films.values())) == 507
    assert all(film_split(film) == split for split in films for film in films[split])
    # What two splits share is a phrase that fits many a film, not the reviews of one under two names.
    words = {split: set(table.columns["text"]) for split, table in snippets.tables.items()}
    assert len(words["train"] & (words["validation"] | words["test"])) <= 1


def test_mnist5k(cache_dir):
    columns = mnist5k(cache_dir).tables["train"].columns
    assert columns["images"].shape == (5000, 28, 28, 1)
    assert columns["images"].dtype == np.uint8
    assert np.bincount(columns["label"]).tolist() == [500] * 10
    data = load_dataset(composed(CONF / "mnist5k.yaml"), seed=0, cache_dir=cache_dir)
    assert {s: np.bincount(data.splits[s].labels).tolist() for s in data.splits} == {
        "train": [405] * 10,
        "validation": [45] * 10,
        "test": [50] * 10,
    }
    pixels = torch.cat([b["pixel_values"] for b in data.loader("train", 500)])
    assert pixels.mean().abs() < 0.05
    assert (pixels.std() - 1).abs() < 0.05


def test_synthetic_text_can_be_learnt_and_says_what_it_is(tokenizer):
    source = synthetic_text()
    assert source.origin.startswith("synthetic")
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = source.tables["train"].columns, source.tables["test"].columns
    words = CountVectorizer().fit(train["text"])
    model = LogisticRegression().fit(words.transform(train["text"]), train["label"])
    assert 0.8 < model.score(words.transform(test["text"]), test["label"]) < 1
    config = DatasetConfig(name="synthetic_text")
    one, two = (load_dataset(config, seed=s, tokenizer=tokenizer) for s in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert one.source.startswith("synthetic")


def test_tokenizer_made_from_text():
    config = DatasetConfig(name="synthetic_text")
    one, two = build_tokenizer(config), build_tokenizer(config)
    assert one.get_vocab() == two.get_vocab()
    assert one.pad_token_id == 0
    encoded = one("time water", "story")
    assert encoded["token_type_ids"][-1] == 1
    assert one.decode(encoded["input_ids"]) == "[CLS] time water [SEP] story [SEP]"
    data = load_dataset(config, seed=0, tokenizer=one)
    assert one.unk_token_id not in data.splits["test"].ids
    assert one.decode(one("timeless")["input_ids"], skip_special_tokens=True) == "timeless"
    assert len(build_tokenizer(config, vocabulary_size=64)) == 64
    with pytest.raises(DataError, match="made from text"):
        build_tokenizer(DatasetConfig(name="digits", kind="image"))


SETS = {
    "mr": (8_530, 1_066, 1_066),
    "trec": (4_907, 545, 500),
    "cola": (7_696, 855, 1_043),
    "mnist": (54_000, 6_000, 10_000),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", SETS)
def test_real_sets_from_files(name, reference_data, tokenizer):
    config = composed(CONF / f"{name}.yaml", data_dir=str(reference_data / name))
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert tuple(len(data.splits[s]) for s in ("train", "validation", "test")) == SETS[name]
    assert data.num_classes == len(OmegaConf.to_container(config)["label_names"] or range(10))


@pytest.mark.reference
def test_sst2_and_a_pair_from_files(reference_data, tokenizer):
    config = composed(CONF / "sst2.yaml", data_dir=str(reference_data / "sst2"), limit_train=100)
    data = load_dataset(config, seed=0, tokenizer=tokenizer)
    assert [len(data.splits[s]) for s in ("train", "validation", "test")] == [100, 872, 1_821]
    assert np.bincount(data.splits["test"].labels).tolist() == [912, 909]
    pair = composed(
        CONF / "text_file.yaml",
        data_dir=str(reference_data / "mrpc"),
        text_fields=["sentence1", "sentence2"],
    )
    assert len(load_dataset(pair, seed=0, tokenizer=tokenizer).splits["test"]) == 1_725
