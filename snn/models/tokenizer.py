"""The tokenizer that belongs to a text model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn.errors import ConfigError
from snn.models.hub import listing
from snn.models.registry import architecture_of
from snn.models.weights import locate
from snn.registry import accepted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


#: One of these is in the folder of every tokenizer; ``*.model`` are those of sentencepiece.
FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "*.model")


def load_tokenizer(
    source: str | Path | None = None,
    cache_dir: str | Path | None = None,
    model: str | None = None,
    key: str = "model.tokenizer",
) -> PreTrainedTokenizerBase:
    """Load a tokenizer; one without a padding token, such as GPT-2's, pads with that which ends a text.

    Args:
        source: ``model.tokenizer`` where it is set, else ``model.weights``: ``"minilm"``, a local folder, or
            a Hub name. None, for weights that are random, stands for ``"minilm"``.
        cache_dir: Where pinned files are kept; None for the default place.
        model: Registered model that the tokens are for: token types are left out where it takes none.
        key: The config key that ``source`` comes from, for messages.

    Raises:
        ConfigError: No tokenizer is there.
    """
    from transformers import AutoTokenizer

    source = str(source or "minilm")
    folder = locate(source, cache_dir, "text", key=key)
    if not folder.is_dir() or not any(any(folder.glob(name)) for name in FILES):
        there = listing(folder if folder.is_dir() else folder.parent)
        raise ConfigError(f"model.tokenizer: no tokenizer.json in {source!r}; {there}")
    try:
        # Local files only: a folder that lacks a file must not be completed from elsewhere unasked.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare Exceptions for damaged files.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"model.tokenizer: cannot load {source!r}: {reason}") from None
    if model is not None and not architecture_of(model).token_types:
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def sizes_from_tokenizer(tokenizer: Any, model: str) -> dict[str, Any]:
    """Arguments of a model with random weights that follow from its tokenizer: vocabulary and padding."""
    known = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    taken = accepted(architecture_of(model).build)
    return {name: value for name, value in known.items() if name in taken and value is not None}


def check_tokenizer(tokenizer: Any, model: Any, longest: int | None = None, pairs: bool = False) -> None:
    """Refuse a tokenizer that does not fit ``model``.

    Args:
        tokenizer: A tokenizer of transformers.
        model: A network made by :func:`snn.create_model`.
        longest: Tokens in the longest text of the data; None where that is not known.
        pairs: Whether the data are pairs of texts.

    Raises:
        ConfigError: It has more tokens, or kinds of text, than the model has rows, or pads with another token; or the
            texts are longer than the model's table of positions.
    """
    args = model.spec["args"]
    size, pad = args.get("vocab_size"), args.get("pad_token_id")
    if size is not None and len(tokenizer) > size:
        raise ConfigError(
            f"model.tokenizer: {len(tokenizer)} tokens, but model.args.vocab_size is {size}; "
            "use the tokenizer of the weights, or a vocab_size as large as the tokenizer's"
        )
    if pad is not None and tokenizer.pad_token_id not in (None, pad):
        raise ConfigError(
            f"model.tokenizer: it pads with token {tokenizer.pad_token_id}, but model.args.pad_token_id is {pad}; "
            f"use the tokenizer of the weights, or model.args.pad_token_id={tokenizer.pad_token_id}"
        )
    kinds = args.get("type_vocab_size")
    if pairs and kinds is not None and kinds < 2 and "token_type_ids" in tokenizer.model_input_names:
        raise ConfigError(
            f"model.args.type_vocab_size={kinds}, but the tokenizer tells the two texts of a pair apart; set "
            "model.args.type_vocab_size=2"
        )
    limit = architecture_of(model.spec["name"]).longest
    most = limit(args) if limit is not None else None
    if longest is not None and most is not None and longest > most:
        raise ConfigError(
            f"dataset.max_length: a text of {longest} tokens, but model={model.spec['name']} has positions for "
            f"{most}; set dataset.max_length={most}"
        )
