"""Random variants of training texts: some of their tokens give way to others."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from snn.data.schema import DatasetConfig


class TextAugmentation:
    """What varies the texts of one epoch: tokens chosen at random become tokens drawn from all texts of the split.

    Each text draws its own share of tokens to lose, from none to ``augment_tokens``. What is drawn comes as often as it
    stands in the texts. Special tokens, lengths and token types stay. The draws for a row depend on (seed, epoch, row)
    alone, so neither the batch size, nor the number of workers, nor a start in the middle of an epoch changes them.

    Args:
        config: Largest share of the tokens of a text that are drawn anew.
        seed: The run's seed.
        epoch: Counted from 0.
        ids: Token ids of all rows of the split, end to end.
        lengths: Tokens per row, ``[N]``.
        special: Ids that stay, and are not drawn.

    Reference:
        Wang et al., SwitchOut, EMNLP 2018, where tokens are drawn from a vocabulary.
    """

    def __init__(
        self,
        config: DatasetConfig,
        seed: int,
        epoch: int,
        ids: np.ndarray,
        lengths: np.ndarray,
        special: np.ndarray,
    ):
        self.share, self.seed, self.epoch = config.augment_tokens, seed, epoch
        self._original, self._lengths, self._special = ids, lengths, special

    @staticmethod
    def wanted(config: DatasetConfig) -> bool:
        """Whether the config asks for any change."""
        return config.augment_tokens > 0

    @cached_property
    def ids(self) -> np.ndarray:
        """Token ids of all rows in this epoch."""
        ids, rng = self._original, np.random.default_rng([self.seed, self.epoch])
        ordinary = ~np.isin(ids, self._special)
        shares = rng.random(len(self._lengths), dtype=np.float32) * self.share
        lost = rng.random(len(ids), dtype=np.float32) < np.repeat(shares, self._lengths)
        places = np.flatnonzero(ordinary & lost)
        varied = ids.copy()
        varied[places] = rng.choice(ids[ordinary], len(places)) if len(places) else ids[places]
        return varied
