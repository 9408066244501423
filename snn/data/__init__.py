"""Data sets: text and images from local files, the Hub, pinned wheels, or made on the spot."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snn.data.builtin import BUILTIN as BUILTIN
    from snn.data.data import Data as Data
    from snn.data.load import load_dataset as load_dataset
    from snn.data.schema import DatasetConfig as DatasetConfig
    from snn.data.split import Split as Split
    from snn.data.tokenizer import build_tokenizer as build_tokenizer
    from snn.data.wheel import default_cache_dir as default_cache_dir
    from snn.data.wheel import minilm_folder as minilm_folder

_WHERE = {
    "BUILTIN": "builtin",
    "Data": "data",
    "DatasetConfig": "schema",
    "Split": "split",
    "build_tokenizer": "tokenizer",
    "default_cache_dir": "wheel",
    "load_dataset": "load",
    "minilm_folder": "wheel",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    # torch and scikit-learn are loaded when a data set is, not when its schema is.
    if name not in _WHERE:
        raise AttributeError(f"module 'snn.data' has no attribute {name!r}")
    return getattr(import_module(f"snn.data.{_WHERE[name]}"), name)
