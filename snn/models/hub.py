"""Fetch a model's files from the Hub: tensors, sizes and tokenizer, never code."""

from __future__ import annotations

from pathlib import Path

from snn.errors import ConfigError, did_you_mean

FILES = [
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
]


def download(name: str, key: str) -> Path:
    """The local folder with the files of a Hub repository, from the Hub's own cache where it is there.

    Raises:
        ConfigError: Not found, not allowed, or no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        reason, hint = str(error).strip().splitlines()[0], did_you_mean(name, ["minilm"])
        meant = f"; {hint}" if hint.startswith("did you mean") else ""
        raise ConfigError(
            f"{key}: {name!r} is no local folder and cannot be fetched from the Hub ({reason}); "
            f"a local folder works without it, and so does minilm, for BERT, DistilBERT and RoBERTa{meant}"
        ) from None


def listing(folder: Path) -> str:
    """What a folder holds, for messages."""
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    return (
        f"{folder} holds {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        if names
        else f"{folder} is empty"
    )
