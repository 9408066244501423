"""A tokenizer made from the training texts, for models without pretrained weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from snn.data.load import find, texts
from snn.data.schema import DatasetConfig, check
from snn.errors import DataError

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def build_tokenizer(
    config: DatasetConfig, *, vocabulary_size: int = 8000, cache_dir: str | Path | None = None
) -> Any:
    """Make a tokenizer in BERT's form from the training texts; needs no network.

    The vocabulary holds the commonest words, and the commonest characters to spell the others with. (A learnt
    WordPiece vocabulary would differ from one process to the next.) Rows that are later cut off the training
    rows for validation or test are read too; only their words matter here, never their labels.

    Args:
        config: The data set.
        vocabulary_size: Largest number of tokens.
        cache_dir: Folder of all downloads; None: :func:`snn.data.default_cache_dir`.

    Returns:
        A ``PreTrainedTokenizerFast`` with the padding token 0.

    Raises:
        DataError: The data set is not text, or cannot be read.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    check(config)
    if config.kind != "text":
        raise DataError(f"dataset={config.name} is of kind {config.kind!r}; a tokenizer is made from text")
    train = find(config, cache_dir).tables["train"]
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for field in config.text_fields:
        for text in texts(train, field, config):
            words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    vocabulary = {token: number for number, token in enumerate(_vocabulary(words, vocabulary_size))}
    learner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer, learner.decoder = normalizer, splitter, decoders.WordPiece()
    cls, sep = (_SPECIAL.index(token) for token in ("[CLS]", "[SEP]"))
    learner.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return PreTrainedTokenizerFast(
        tokenizer_object=learner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _vocabulary(words: Counter[str], size: int) -> list[str]:
    characters: Counter[str] = Counter()
    for word, count in words.items():
        characters.update({character: count * word.count(character) for character in set(word)})
    spelling = [piece for c in _commonest(characters)[: size // 8] for piece in (c, f"##{c}")]
    return list(dict.fromkeys([*_SPECIAL, *spelling, *_commonest(words)]))[:size]


def _commonest(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda item: (-counts[item], item))
