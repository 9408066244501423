"""Sums over many texts, from which rates by place, by token and by layer follow, exact under any batching."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snn.evaluation.token_spikes import TokenSpikes, block_of


class TokenRates:
    """Spikes per neuron per time step, by place in the text and layer, and by token and block.

    Args:
        vocabulary: Number of tokens of the tokenizer.
        longest: Tokens in the longest text.
    """

    def __init__(self, vocabulary: int, longest: int):
        self.vocabulary, self.longest = vocabulary, longest
        self.steps = 0
        #: Spikes and neurons, ``[places, 2]`` by layer and ``[tokens, 2]`` by block.
        self.by_place: dict[str, Tensor] = {}
        self.by_token: dict[str, Tensor] = {}
        self.at_place = torch.zeros(longest, dtype=torch.int64)
        self.occurrences = torch.zeros(vocabulary, dtype=torch.int64)

    def update(self, spikes: TokenSpikes, ids: Tensor, mask: Tensor) -> None:
        """Add a batch.

        Args:
            spikes: Of its run.
            ids: Token ids.
            mask: True where a token is real.

        Shape:
            ``[B, S]`` both.
        """
        self.steps = spikes.T
        tokens, places = ids[mask], (mask.cumsum(1) - 1)[mask]
        self.at_place += torch.bincount(places, minlength=self.longest)
        self.occurrences += torch.bincount(tokens, minlength=self.vocabulary)
        for layer in spikes.spikes:
            fired, neurons = (x[mask] for x in (spikes.spikes[layer].sum(0), spikes.neurons[layer]))
            both = torch.stack([fired, neurons], 1)
            for table, key, index, rows in (
                (self.by_place, layer, places, self.longest),
                (self.by_token, block_of(layer), tokens, self.vocabulary),
            ):
                if key not in table:
                    table[key] = torch.zeros(rows, 2, dtype=torch.float64)
                table[key].index_add_(0, index, both)

    def place_rows(self) -> Iterator[list[Any]]:
        """Layer, place (0-based), number of texts that reach there, rate."""
        for layer, table in self.by_place.items():
            for place, (rate, texts) in enumerate(zip(self._rates(table), self.at_place.tolist())):
                if texts:
                    yield [layer, place, texts, rate]

    def places(self) -> list[dict[str, float | int]]:
        """The same for all layers together, one plain dict per place."""
        rates = self._rates(torch.stack(list(self.by_place.values())).sum(0))
        reached = self.at_place.tolist()
        return [{"place": i, "texts": n, "rate": r} for i, (n, r) in enumerate(zip(reached, rates)) if n]

    def token_rows(self) -> Iterator[list[Any]]:
        """Token id, occurrences, rate, and the rate in each block (:attr:`by_token`), most active token first."""
        rates = self._rates(torch.stack(list(self.by_token.values())).sum(0))
        blocks = [self._rates(table) for table in self.by_token.values()]
        seen = self.occurrences.nonzero().flatten().tolist()
        for token in sorted(seen, key=lambda token: (-rates[token], token)):
            yield [
                token,
                int(self.occurrences[token]),
                rates[token],
                *(block[token] for block in blocks),
            ]

    def _rates(self, table: Tensor) -> list[float]:
        return (table[:, 0] / (table[:, 1] * self.steps)).nan_to_num(0.0).tolist()


class Head(NamedTuple):
    """Attention and spikes of one head.

    Args:
        layer: The module that attends.
        head: Its number.
        correlation: Pearson's, of the attention that tokens receive and their spike rates in the block, in [-1, 1];
            ``None`` where one of them does not vary.
        correlation_words: The same without the tokenizer's own tokens, which draw attention of their own.
    """

    layer: str
    head: int
    correlation: float | None
    correlation_words: float | None


class AttentionCorrelation:
    """Correlation of received attention and spike rate among the tokens of a text, by layer and head.

    Both are compared within each text: their means over the text are taken off first, because a long text leaves less
    attention to each token. Attention is taken relative to the text's mean, which is 1/n.
    """

    def __init__(self) -> None:
        #: Sums of squares and products ``[heads, 3]``, by layer: with all tokens, and with words alone.
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def update(self, received: dict[str, Tensor], spikes: TokenSpikes, mask: Tensor, words: Tensor) -> None:
        """Add a batch.

        Args:
            received: By layer, ``[B, heads, S]``.
            spikes: Of the same run.
            mask: True where a token is real, ``[B, S]``.
            words: True where it is not one of the tokenizer's own, ``[B, S]``.
        """
        for layer, attention in received.items():
            near = [name for name in spikes.spikes if block_of(name) == block_of(layer)]
            if not near:
                continue
            fired, neurons = spikes.of(near)
            rates = fired.sum(0) / (neurons * spikes.T).clamp_min(1)
            relative = attention * mask.sum(1)[:, None, None]
            parts = _products(relative, rates, mask), _products(relative, rates, words & mask)
            before = self._sums.get(layer)
            self._sums[layer] = parts if before is None else (before[0] + parts[0], before[1] + parts[1])

    def heads(self) -> list[Head]:
        """Every head, layers in the order of execution."""
        return [
            Head(layer, head, *(_correlation(sums[head]) for sums in both))
            for layer, both in self._sums.items()
            for head in range(len(both[0]))
        ]


def _products(attention: Tensor, rates: Tensor, chosen: Tensor) -> Tensor:
    """Sums over samples and tokens of ``x*x``, ``y*y`` and ``x*y``, both centred within each sample: ``[heads, 3]``."""
    number = chosen.sum(1, keepdim=True).clamp_min(1)
    x = (attention - (attention * chosen[:, None]).sum(2, keepdim=True) / number[:, None]) * chosen[:, None]
    y = ((rates - (rates * chosen).sum(1, keepdim=True) / number) * chosen)[:, None].expand_as(x)
    return torch.stack([(a * b).sum((0, 2)) for a, b in ((x, x), (y, y), (x, y))], 1)


def _correlation(sums: Tensor) -> float | None:
    xx, yy, xy = sums.tolist()
    # What is left of a constant by rounding is no variation.
    return xy / (xx * yy) ** 0.5 if min(xx, yy) > 1e-20 else None
