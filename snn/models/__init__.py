"""Networks by name, with their weights and tokenizers; no spiking and no quantisation in here."""

from snn.models.architecture import Architecture
from snn.models.registry import MODELS, create_model, list_models
from snn.models.schema import ModelConfig, RenameRule
from snn.models.tokenizer import check_tokenizer, load_tokenizer

__all__ = [
    "MODELS",
    "Architecture",
    "ModelConfig",
    "RenameRule",
    "check_tokenizer",
    "create_model",
    "list_models",
    "load_tokenizer",
]
