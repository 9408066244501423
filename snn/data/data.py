"""A data set that is ready to be trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from snn.data.augment import Augmentation
from snn.data.events_augment import EventAugmentation
from snn.data.order import Batches
from snn.data.schema import DatasetConfig
from snn.data.split import Split
from snn.data.text import TextSplit
from snn.data.text_augment import TextAugmentation
from snn.errors import DataError, did_you_mean


class Data:
    """The three splits of a data set and what a model has to know about them.

    Args:
        config: What was asked for.
        splits: ``train``, ``validation``, ``test``, and further ones of the data set's own.
        label_names: Names of the classes in the order of their numbers; none of measurements.
        source: One line: where it came from and how it was split.
        seed: The run's seed: order of the rows and augmentation.

    Attributes:
        kind: ``"text"`` or ``"image"``.
        fingerprint: 16 hex digits over the rows of all splits, as the model sees them, and the settings; pictures that
            are read from files as they are needed count by their names and labels alone.
    """

    def __init__(
        self,
        config: DatasetConfig,
        splits: dict[str, Split],
        label_names: Sequence[str],
        source: str,
        seed: int = 0,
    ):
        self.config, self.splits, self.label_names = config, splits, list(label_names)
        self.source, self.seed, self.kind = source, seed, config.kind
        self.fingerprint = fingerprint(config, splits, self.label_names)

    @property
    def num_classes(self) -> int:
        """Number of classes; 1 for measurements, and where there are no labels."""
        return len(self.label_names) if self.config.task == "classification" else 1

    @property
    def longest(self) -> int | None:
        """Tokens in the longest text; None for images."""
        found = [split.lengths for split in self.splits.values()]
        return max((int(lengths.max()) for lengths in found if lengths is not None), default=None)

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """Channels, height and width of the images or frames; None for text."""
        return getattr(self.splits["train"], "shape", None)

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        epoch: int = 0,
        start_batch: int = 0,
        drop_last: bool = False,
        workers: int = 0,
        bucket: bool = False,
        augment: bool | None = None,
        limit: int | None = None,
    ) -> DataLoader:
        """Return a loader of one epoch, which yields dicts of tensors.

        What comes out depends on (seed, epoch) and these arguments alone. The global random state is neither
        read nor moved, so a run that starts again at ``start_batch`` goes on bit for bit.

        Args:
            split: ``"train"``, ``"validation"``, ``"test"``, or a further one.
            batch_size: Rows per batch.
            shuffle: Draw a new order each epoch; otherwise the order of the file.
            epoch: Counted from 0.
            start_batch: Skip this many batches, those already seen.
            drop_last: Leave out a last batch that is not full.
            workers: Processes that prepare batches; 0: this one does.
            bucket: Group texts of similar length, which saves padding; changes the order even without
                ``shuffle``. Has no effect on images.
            augment: Vary training rows at random as the config says; None: as ``shuffle``.
            limit: Only so many batches, of rows spread evenly over the split; None: all.

        Shape:
            Text: ``input_ids``, ``attention_mask`` and, where the tokenizer makes them, ``token_type_ids``,
            all int64 ``[B, L]``, padded to the longest of the batch. Images: ``pixel_values``, float32 ``[B,
            C, H, W]``, normalised; counts of events: float32 ``[B, T, 2, H, W]``. All: ``labels`` ``[B]``, int64, or
            float32 where they are measurements.

        Raises:
            DataError: No such split, or a batch size below 1.
        """
        if split not in self.splits:
            raise DataError(f"unknown split {split!r}; {did_you_mean(split, self.splits)}")
        if batch_size < 1:
            raise DataError(f"batch_size={batch_size}: must be at least 1")
        rows = self.splits[split]
        batches = Batches(
            len(rows),
            batch_size,
            shuffle=shuffle,
            seed=self.seed,
            epoch=epoch,
            start_batch=start_batch,
            drop_last=drop_last,
            lengths=rows.lengths if bucket else None,
            limit=limit,
        )
        vary = split == "train" and (shuffle if augment is None else augment)
        augmentation = self._augmentation(rows, epoch) if vary else None
        return _Loader(
            _Rows(rows, augmentation),
            batch_sampler=batches,
            collate_fn=_as_it_is,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            # Without one of its own, a loader moves the global generator each time it is iterated.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _augmentation(self, rows: Split, epoch: int) -> Any:
        """What varies the rows of an epoch; None: nothing does."""
        if isinstance(rows, TextSplit):
            if not TextAugmentation.wanted(self.config):
                return None
            return TextAugmentation(self.config, self.seed, epoch, rows.ids, rows.lengths, rows.special)
        kind = Augmentation if self.config.events is None else EventAugmentation
        return kind(self.config, self.seed, epoch, len(rows)) if kind.wanted(self.config) else None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split):,}" for name, split in self.splits.items())
        labels = f"{self.num_classes} classes" if self.label_names else self.config.task
        return f"Data({self.source}: {sizes}; {labels}; {self.fingerprint})"


class _Loader(DataLoader):
    def __iter__(self) -> Any:
        """The batches; one of which no picture can be read is empty, and is left out."""
        return filter(None, super().__iter__())


class _Rows(Dataset):
    """Hands a batch's row numbers to a split in one go."""

    def __init__(self, split: Split, augmentation: Any):
        self.split, self.augmentation = split, augmentation

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([row]).items()}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.split.batch(np.asarray(rows), self.augmentation)


def _as_it_is(batch: Any) -> Any:
    return batch


def fingerprint(config: DatasetConfig, splits: dict[str, Split], label_names: Sequence[str]) -> str:
    """Return 16 hex digits over all rows and settings; where the data lay has no say."""
    digest = hashlib.sha256()
    # Defaults are left out, so that a setting that did not exist yet makes no difference.
    usual = asdict(DatasetConfig())
    settings = {k: v for k, v in asdict(config).items() if v != usual[k]}
    settings = {k: v for k, v in settings.items() if k != "data_dir" and not k.startswith("hub")}
    digest.update(json.dumps([settings, list(label_names)], sort_keys=True).encode())
    for name, split in splits.items():
        for array in split.contents():
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
