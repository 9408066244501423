"""Counting spikes by token while a network runs: per layer, time step, sample and place in the text."""

from __future__ import annotations

import re
from collections.abc import Collection

import torch
from torch import Tensor, nn

from snn.conversion.network import SpikingNetwork
from snn.conversion.surgery import place
from snn.errors import ConversionError
from snn.neurons.run import Event, Run


class TokenSpikes:
    """Observer of one forward that counts the spikes of every token, of either sign.

    A neuron belongs to the token that its value is of: those of ``[B, S, D]`` and ``[B, heads, S, D]`` to the token
    on the axis ``S``, those of attention probabilities ``[B, heads, S, S]`` to the token that asks. Layers without
    tokens, such as a pooled ``[B, D]``, are left out, and so is padding.

    Args:
        network: The network that runs.

    Attributes:
        spikes: By layer, ``[T, B, S]``; zeros where a sample had settled and nothing was computed any more.
        neurons: Neurons of each token by layer, ``[B, S]``; 0 at padding.
    """

    def __init__(self, network: SpikingNetwork):
        self.T = network.T
        self._names: dict[nn.Module, str] = {m: place(name) for name, m in network.neurons.items()}
        self.spikes: dict[str, Tensor] = {}
        self.neurons: dict[str, Tensor] = {}

    def __call__(self, run: Run, event: Event) -> None:
        assert run.rows is not None
        if event.mask is None:
            return
        name = self._names[event.neuron] + (f"#{event.call}" if event.call else "")
        mask = _by_token(event.mask.expand_as(event.counts[-1]))
        if name not in self.spikes:  # in the first chunk every sample is there
            self.neurons[name] = mask.sum(-1, dtype=torch.float64).cpu()
            self.spikes[name] = torch.zeros(self.T, *mask.shape[:2], dtype=torch.float64)
        previous, rows = event.previous, run.rows.cpu()
        for time, counts in zip(run.times, event.counts):
            spikes = _by_token((counts - previous).abs()) * mask
            self.spikes[name][time - 1, rows] = spikes.sum(-1, dtype=torch.float64).cpu()
            previous = counts

    def of(self, layers: Collection[str] | None = None) -> tuple[Tensor, Tensor]:
        """Spikes ``[T, B, S]`` and neurons ``[B, S]`` of some layers together; ``None``: of all.

        Raises:
            ConversionError: There is no such layer.
        """
        chosen = list(self.spikes) if layers is None else list(layers)
        if not chosen:
            raise ConversionError(
                "analysis=tokens: no neuron of this network belongs to a token; quantization.coverage=full has such"
            )
        return (
            torch.stack([self.spikes[name] for name in chosen]).sum(0),
            torch.stack([self.neurons[name] for name in chosen]).sum(0),
        )


def _by_token(x: Tensor) -> Tensor:
    """``[B, S, D]`` or ``[B, heads, S, ...]`` to ``[B, S, ...]`` with all values of a token on the last axis."""
    return x.movedim(2, 1).flatten(2) if x.dim() == 4 else x


def block_of(layer: str) -> str:
    """The block of a network that a layer belongs to: its name up to the first number, or to the first part that
    is not the network itself.

    Example:
        >>> block_of("bert.encoder.layer.3.attention.self:softmax")
        'bert.encoder.layer.3'
        >>> block_of("bert.embeddings.LayerNorm")
        'bert.embeddings'
    """
    numbered = re.match(r"(.*?\.\d+)(?=[.:#]|$)", layer)
    return numbered[1] if numbered else ".".join(layer.split(".")[:2])
