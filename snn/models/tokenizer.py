"""The tokenizer that belongs to a text model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn.errors import ConfigError
from snn.models.hub import listing
from snn.models.weights import locate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(
    source: str | Path | None = None, cache_dir: str | Path | None = None
) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer.

    Args:
        source: ``model.tokenizer`` where it is set, else ``model.weights``: ``"minilm"``, a local folder, or
            a Hub name. None, for weights that are random, stands for ``"minilm"``.
        cache_dir: Where pinned files are kept; None for the default place.

    Raises:
        ConfigError: No tokenizer is there.
    """
    from transformers import AutoTokenizer

    source = str(source or "minilm")
    folder = locate(source, cache_dir, "text", key="model.tokenizer")
    if not folder.is_dir() or not any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json")
    ):
        there = listing(folder if folder.is_dir() else folder.parent)
        raise ConfigError(f"model.tokenizer: no tokenizer.json in {source!r}; {there}")
    try:
        # Local files only: a folder that lacks a file must not be completed from elsewhere unasked.
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # The tokenizers library raises bare Exceptions for damaged files.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"model.tokenizer: cannot load {source!r}: {reason}") from None


def check_tokenizer(tokenizer: Any, model: Any) -> None:
    """Refuse a tokenizer whose ids the embedding of ``model`` does not have.

    Raises:
        ConfigError: The vocabulary is larger than the model's.
    """
    size = model.spec["args"].get("vocab_size")
    if size is not None and len(tokenizer) > size:
        raise ConfigError(
            f"model.tokenizer: {len(tokenizer)} tokens, but model.args.vocab_size is {size}; "
            "use the tokenizer of the weights, or a vocab_size as large as the tokenizer's"
        )
