"""What the config group ``model`` may say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass
class RenameRule:
    """How a tensor in a weights file is called in the network; the first rule that matches a key wins.

    Attributes:
        match: The key as it stands in the file, or a regex for the whole key behind ``re:``.
        to: The key in the network, with ``\\1`` for groups; null leaves the tensor out.
    """

    match: str
    to: Optional[str] = None  # noqa: UP045  (omegaconf reads Optional)


@dataclass
class ModelConfig:
    """Schema of ``conf/model/*.yaml``.

    Attributes:
        name: A registered model; ``snn.list_models()`` lists them.
        weights: Null for random initialisation, ``minilm`` for the pinned MiniLM, a local folder with
            ``config.json`` and ``model.safetensors``, a ``.safetensors`` file, or the name of a text model on
            the Hub.
        tokenizer: Null for the one that belongs to the weights, else ``minilm``, a local folder, or a Hub
            name.
        num_classes: Width of the classifier; null for the number of classes of the data set.
        activation: Instead of the activation that the weights or ``args`` say, such as ``relu`` for a network
            trained with GELU; null leaves it.
        rename: How keys of the weights file are to be read, where its names are not ours.
        places: Coverage → rules that say where quantisers go in this model; see ``quantization.coverage``.
        args: Sizes and options of this model; null stands for what the weights say, or else for the default.
    """

    name: str = "bert"
    weights: Optional[str] = None  # noqa: UP045
    tokenizer: Optional[str] = None  # noqa: UP045
    num_classes: Optional[int] = None  # noqa: UP045
    activation: Optional[str] = None  # noqa: UP045
    rename: list[RenameRule] = field(default_factory=list)
    places: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
