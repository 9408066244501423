"""Batches: order, resuming, padding, augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn.data import DatasetConfig, load_dataset
from snn.data.labels import encode
from snn.data.splitting import held_out, stratified
from snn.data.table import Table
from snn.data.text import tokenise
from snn.errors import DataError


@pytest.fixture(scope="module")
def digits():
    config = DatasetConfig(name="digits", kind="image", augment_crop=2, augment_flip=True, limit_train=200)
    return load_dataset(config, seed=3)


@pytest.fixture(scope="module")
def text(tokenizer):
    return load_dataset(DatasetConfig(name="synthetic_text", limit_train=203), seed=3, tokenizer=tokenizer)


def same(one, two):
    one, two = list(one), list(two)
    return len(one) == len(two) and all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, two)
    )


@pytest.mark.parametrize("kind", ["digits", "text"])
@pytest.mark.parametrize("bucket", [False, True])
def test_start_batch_goes_on_bit_for_bit(kind, bucket, request):
    data = request.getfixturevalue(kind)
    settings = {"shuffle": True, "epoch": 4, "bucket": bucket}
    whole = list(data.loader("train", 16, **settings))
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(data.loader("train", 16, start_batch=5, **settings), whole[5:])
    assert list(data.loader("train", 16, start_batch=len(whole), **settings)) == []


@pytest.mark.parametrize("kind", ["digits", "text"])
def test_epochs_differ_and_seeds_differ(kind, request):
    data = request.getfixturevalue(kind)
    assert not same(data.loader("train", 16, shuffle=True), data.loader("train", 16, shuffle=True, epoch=1))
    first = data.loader("train", 16, shuffle=True)
    data.seed = 4
    try:
        assert not same(first, data.loader("train", 16, shuffle=True))
    finally:
        data.seed = 3


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_exactly_once(text, shuffle, bucket):
    loader = text.loader("train", 16, shuffle=shuffle, bucket=bucket)
    rows = [row for batch in loader.batch_sampler for row in batch]
    assert sorted(rows) == list(range(203))
    assert len(loader) == 13
    assert len(text.loader("train", 16, shuffle=shuffle, bucket=bucket, drop_last=True)) == 12


def test_evaluation_keeps_the_order_of_the_file(text):
    labels = torch.cat([batch["labels"] for batch in text.loader("test", 7)])
    assert np.array_equal(labels.numpy(), text.splits["test"].labels)


def test_the_global_random_state_is_left_alone(digits):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for _ in digits.loader("train", 16, shuffle=True):
        pass
    assert torch.equal(before, torch.get_rng_state())


def test_workers_change_nothing(digits):
    settings = {"shuffle": True, "start_batch": 2}
    assert same(digits.loader("train", 16, **settings), digits.loader("train", 16, workers=1, **settings))


def test_buckets_save_padding(text):
    def tokens(bucket):
        batches = text.loader("train", 16, shuffle=True, bucket=bucket)
        return sum(batch["input_ids"].numel() for batch in batches)

    assert tokens(True) < 0.9 * tokens(False)


@pytest.mark.parametrize("shuffle", [False, True])
def test_few_batches_are_as_long_as_all(text, shuffle):
    """Where texts are grouped by length, the first batches hold the shortest ones."""
    lengths = text.splits["train"].lengths
    few = list(text.loader("train", 16, shuffle=shuffle, bucket=True, limit=4))
    assert [len(batch["labels"]) for batch in few] == [16] * 4
    mean = sum(int(batch["attention_mask"].sum()) for batch in few) / 64
    assert abs(mean - lengths.mean()) < lengths.std() / 4
    assert same(text.loader("train", 16, limit=1000), text.loader("train", 16))


def test_padding(text, tokenizer):
    split = text.splits["train"]
    for batch in text.loader("train", 16, shuffle=True):
        mask = batch["attention_mask"]
        assert mask.sum(1).max() == mask.shape[1]
        assert (batch["input_ids"][mask == 0] == tokenizer.pad_token_id).all()
        assert (mask.diff(dim=1) <= 0).all()
    one = split[5]
    assert one["input_ids"].tolist() == split.ids[split.offsets[5] : split.offsets[6]].tolist()
    assert split[-1]["labels"] == split.labels[-1]
    with pytest.raises(IndexError):
        split[len(split)]


def test_tokens_are_the_tokenizers_own(tokenizer):
    texts = ["", "a", "good film 🎉", "one two three a b c good bad", "unheard of"]
    expected = tokenizer(texts, padding=True, truncation=True, max_length=7, return_tensors="pt")
    split = tokenise(texts, None, np.arange(5), tokenizer, 7)
    batch = split.batch(np.arange(5))
    assert split.ids.dtype == np.int32
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch[name], expected[name])


def test_padding_comes_behind_texts_whatever_the_tokenizer_would_do(tokenizer):
    """Our networks count positions from the first token, and read it."""
    texts = ["a", "one two three"]
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    tokenizer.padding_side = "left"
    try:
        batch = tokenise(texts, None, np.arange(2), tokenizer, 9).batch(np.arange(2))
    finally:
        tokenizer.padding_side = "right"
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])


def bare_tokenizer(**special):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "a": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", **special)


def test_a_text_without_tokens_becomes_one_unknown_token():
    split = tokenise(["", "a a"], None, np.array([0, 1]), bare_tokenizer(pad_token="[PAD]"), 4)
    batch = split.batch(np.arange(2))
    assert batch["input_ids"].tolist() == [[1, 0], [2, 2]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]


def test_tokenizers_that_cannot_work():
    with pytest.raises(DataError, match="neither a token for padding nor"):
        tokenise(["a"], None, np.array([0]), bare_tokenizer(), 4)
    short = bare_tokenizer(pad_token="[PAD]", model_max_length=3)
    with pytest.raises(DataError, match=r"dataset\.max_length=4: more than the 3 tokens"):
        tokenise(["a"], None, np.array([0]), short, 4)


def test_minilm_tokenizer(cache_dir):
    from transformers import AutoTokenizer

    from snn.data import minilm_folder

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(cache_dir))
    data = load_dataset(DatasetConfig(name="synthetic_text", limit_train=50), seed=0, tokenizer=tokenizer)
    batch = next(iter(data.loader("train", 4)))
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert (batch["input_ids"] != tokenizer.unk_token_id).all()
    assert tokenizer.decode(batch["input_ids"][0]).startswith("[CLS]")


def test_lower_case(tokenizer, tmp_path):
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "GOOD\t0\n" * 4)
    config = DatasetConfig(name="mine", data_dir=str(tmp_path / "train.tsv"), lower=True)
    split = load_dataset(config, seed=0, tokenizer=tokenizer).splits["train"]
    assert tokenizer.decode(split.ids[:3]) == "[CLS] good [SEP]"


def test_pixels_are_normalised():
    config = DatasetConfig(name="digits", kind="image")
    plain = next(iter(load_dataset(config, seed=0).loader("test", 9)))["pixel_values"]
    config = DatasetConfig(name="digits", kind="image", mean=[0.25], std=[0.5])
    scaled = next(iter(load_dataset(config, seed=0).loader("test", 9)))["pixel_values"]
    assert scaled.dtype == torch.float32
    assert scaled.shape == (9, 1, 8, 8)
    assert torch.equal(scaled, (plain - 0.25) / 0.5)


def test_size_and_channels():
    data = load_dataset(DatasetConfig(name="digits", kind="image", image_size=16, channels=3), seed=0)
    pixels = next(iter(data.loader("test", 2)))["pixel_values"]
    assert data.input_shape == (3, 16, 16) == pixels.shape[1:]
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_augmentation_is_a_shift_or_a_mirror_of_training_images_only(digits):
    rows = torch.as_tensor(np.concatenate(list(digits.loader("train", 50, shuffle=True).batch_sampler)))
    plain = torch.cat([b["pixel_values"] for b in digits.loader("train", 50)])[rows]
    varied = torch.cat([b["pixel_values"] for b in digits.loader("train", 50, shuffle=True)])
    changed = 0
    for before, after in zip(plain[:, 0], varied[:, 0]):
        frame = torch.nn.functional.pad(before, (2, 2, 2, 2))
        shifts = [frame[i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        assert any(torch.equal(after, s) or torch.equal(after, s.flip(1)) for s in shifts)
        changed += not torch.equal(before, after)
    assert changed > 150
    off = digits.loader("train", 50, shuffle=True, augment=False)
    assert torch.equal(torch.cat([b["pixel_values"] for b in off]), plain)
    test = [digits.loader("test", 50, shuffle=True, augment=True), digits.loader("test", 50, shuffle=True)]
    assert same(*test)


def test_stratified_shares():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, size=1000, p=[0.5, 0.3, 0.15, 0.05])
    for count in (1, 10, 333, 1000):
        rows = stratified(labels, count, np.random.default_rng(1))
        assert len(set(rows.tolist())) == count
        share = np.bincount(labels[rows], minlength=4) - np.bincount(labels) * count / 1000
        assert np.abs(share).max() < 1
    stay, out = held_out(labels, 0.1)
    assert len(out) == 100
    assert not set(stay) & set(out)
    assert len(stay) + len(out) == 1000


def test_labels_of_every_type():
    for values in (["0", "1"], [0, 1], [0.0, 1.0], np.array([0, 1], np.uint8), [False, True], ["no", "yes"]):
        assert encode(values, ["no", "yes"], Table({}, "t"), "label").tolist() == [0, 1]


def test_wrong_arguments(digits):
    with pytest.raises(DataError, match="unknown split 'tset'; did you mean 'test'"):
        digits.loader("tset", 4)
    with pytest.raises(DataError, match="batch_size=0"):
        digits.loader("test", 0)


def test_fingerprint_follows_content_and_settings(tokenizer):
    def mark(**settings):
        config = DatasetConfig(**{"name": "synthetic_text", **settings})
        return load_dataset(config, seed=0, tokenizer=tokenizer).fingerprint

    marks = [mark(), mark(max_length=8), mark(limit_train=100), mark(validation_fraction=0.2)]
    assert len(set(marks)) == 4
    assert marks[0] == mark()
    assert len(marks[0]) == 16
