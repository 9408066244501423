"""The layers of SpikingBERT: each drive (the current that charges a layer of neurons) is defined here, once.

What a neuron makes of its drive is an argument, ``fire``: spikes of one or several steps in the simulation, a rate
in the analog network that gradients come from. So the two cannot differ in anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from snn.functional.time_axis import fold, unfold

#: Name and drive of a layer of neurons → what it emits, in the shape of the drive.
Fire = Callable[[str, Tensor], Tensor]

#: The layers of neurons within one encoder layer, in order of execution.
NEURON_LAYERS = ("key", "value", "context", "attention_output", "intermediate", "output")
#: Added to the attention scores of padding.
PADDING_SCORE = -10000.0


class Noise:
    """Dropout of one forward pass.

    Args:
        training: Whether there is any.
        shared: One mask per place, for all time steps and for the gradient; or else a new one at every use.
    """

    def __init__(self, training: bool, shared: bool):
        self.training, self.shared = training, shared
        self.masks: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor, probability: float, rows: int) -> Tensor:
        """``x`` with dropout.

        Args:
            name: The place.
            x: One or several time steps, folded.
            probability: In [0, 1).
            rows: Rows of one step.
        """
        if not self.training or probability == 0:
            return x
        if not self.shared:
            return functional.dropout(x, probability)
        if name not in self.masks:
            self.masks[name] = functional.dropout(torch.ones_like(x[:rows]), probability)
        return fold(unfold(x, x.shape[0] // rows) * self.masks[name])

    def select(self, rows: Tensor) -> None:
        """Go on with some samples of the batch."""
        self.masks = {name: mask[rows] for name, mask in self.masks.items()}


class Embeddings(nn.Module):
    """Sum of word, position and segment, normalised; it drives the first neurons at every step alike.

    Shape:
        Token numbers and segments ``[B, S]`` to ``[B, S, width]``.
    """

    def __init__(self, words: int, positions: int, segments: int, width: int, padding: int, eps: float):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=padding)
        self.positions = nn.Embedding(positions, width)
        self.segments = nn.Embedding(segments, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, input_ids: Tensor, segments: Tensor) -> Tensor:
        positions = self.positions.weight[: input_ids.shape[1]]
        return self.norm(self.words(input_ids) + positions + self.segments(segments))


class EncoderLayer(nn.Module):
    """One encoder layer: six layers of neurons, and the analog drives between them.

    Keys and values are spikes of the same step; the query, the softmax, norms and residual sums are analog.

    Args:
        name: In front of the names of its neurons, such as ``layers.0``.
        width: Of the residual stream.
        heads: Divides ``width``.
        intermediate: Width of the feed-forward part.
        activation: Of the feed-forward part.
        eps: Of the norms.
        hidden_dropout: In front of the residual sums.
        attention_dropout: Of attention probabilities.

    Shape:
        ``[k*B, S, width]``, k steps folded, to the same, and attention scores ``[k*B, heads, S, S]``.
    """

    def __init__(
        self,
        name: str,
        width: int,
        heads: int,
        intermediate: int,
        activation: nn.Module,
        eps: float,
        hidden_dropout: float,
        attention_dropout: float,
    ):
        super().__init__()
        self.name, self.heads = name, heads
        self.hidden_dropout, self.attention_dropout = hidden_dropout, attention_dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.intermediate = nn.Linear(width, intermediate)
        self.activation = activation
        self.output = nn.Linear(intermediate, width)
        self.output_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, mask: Tensor, fire: Fire, noise: Noise) -> tuple[Tensor, Tensor]:
        """Run the layer.

        Args:
            x: What the layer below emitted.
            mask: Added to the scores, ``[B, 1, 1, S]``.
            fire: What neurons make of their drive.
            noise: Dropout.

        Returns:
            What the last neurons emitted, and the scores before the softmax, mask included.
        """
        rows = mask.shape[0]

        def neurons(name: str, drive: Tensor) -> Tensor:
            return fire(f"{self.name}.{name}", drive)

        def dropped(name: str, signal: Tensor, probability: float) -> Tensor:
            return noise(f"{self.name}.{name}", signal, probability, rows)

        key = neurons("key", self.key(x))
        value = neurons("value", self.value(x))
        query = self.split(self.query(x))
        products = query @ self.split(key).transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = fold(unfold(products, x.shape[0] // rows) + mask)
        weights = dropped("probabilities", scores.softmax(-1), self.attention_dropout)
        context = neurons("context", (weights @ self.split(value)).transpose(1, 2).flatten(2))
        projected = dropped("attention_output", self.attention_output(context), self.hidden_dropout)
        attended = neurons("attention_output", self.attention_norm(projected + x))
        hidden = neurons("intermediate", self.activation(self.intermediate(attended)))
        projected = dropped("output", self.output(hidden), self.hidden_dropout)
        return neurons("output", self.output_norm(projected + attended)), scores

    def split(self, x: Tensor) -> Tensor:
        """``[B, S, width]`` to ``[B, heads, S, width / heads]``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
