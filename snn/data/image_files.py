"""A split of encoded pictures: decoded once into memory, or each time they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snn.data.augment import Augmentation
from snn.data.image import ImageSplit, normalisation
from snn.data.pictures import BrokenPictureError, Decoder, Picture, is_grey
from snn.data.schema import DatasetConfig
from snn.errors import DataError

log = logging.getLogger(__name__)

#: Decoded pictures that take no more than this are kept in memory, unless the config says otherwise.
IN_MEMORY_BYTES = 2 << 30


class FileSplit(ImageSplit):
    """Pictures that are decoded each time they are asked for.

    Args:
        pictures: Encoded.
        labels: Class numbers, int64, ``[N]``.
        mean: Per channel, subtracted from pixels in 0..1.
        std: Per channel, divided by after that.
        decoder: Makes pixels of one size.
        where: The source, for messages.
        skip: Leave broken pictures out of their batch, each with one warning; otherwise they are an error.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        labels: np.ndarray,
        mean: np.ndarray,
        std: np.ndarray,
        decoder: Decoder,
        where: str,
        skip: bool = False,
    ):
        super().__init__(np.empty((0, 0, 0, decoder.channels), np.uint8), labels, mean, std)
        self.pictures, self.decoder, self.where, self.skip = pictures, decoder, where, skip
        # Shared by the processes that decode, so that their counts are one.
        self.broken = torch.zeros(len(pictures), dtype=torch.bool).share_memory_()

    @property
    def shape(self) -> tuple[int, int, int]:
        assert self.decoder.size is not None
        return self.decoder.channels, self.decoder.size, self.decoder.size

    def batch(self, rows: np.ndarray, augmentation: Augmentation | None = None) -> dict[str, Tensor]:
        """Return those of some rows that can be read; nothing at all where none can."""
        images, good = [], []
        for row in rows.tolist():
            try:
                picture = self.decoder.open(self.pictures[row])
            except BrokenPictureError as broken:
                self._leave_out(row, str(broken))
                continue
            box = augmentation.box(row, picture.width, picture.height) if augmentation is not None else None
            images.append(self.decoder.fit(picture, box))
            good.append(row)
        return self.tensors(np.stack(images), np.array(good), augmentation) if images else {}

    def _leave_out(self, row: int, name: str) -> None:
        if not self.skip:
            raise DataError(
                f"{self.where}: cannot be read: {name}; dataset.broken=skip leaves out what cannot"
            )
        if not self.broken[row]:
            self.broken[row] = True
            count = int(self.broken.sum())
            if count == len(self):
                raise DataError(f"{self.where}: none of the {count} pictures can be read")
            log.warning(
                "%s: cannot be read and is left out: %s (%d of %d so far)", self.where, name, count, len(self)
            )

    def contents(self) -> Iterator[np.ndarray]:
        """Names and labels: reading all pictures for a fingerprint would take as long as an epoch."""
        names = ["/".join(Path(picture.name).parts[-2:]).encode() for picture in self.pictures]
        yield from (np.array(names), self.labels)


def channels_of(columns: Iterable[Sequence[Picture]]) -> int:
    """Channels of encoded pictures as they are: 1 where all of them are grey, 3 where any has colour."""
    return 1 if all(is_grey(picture) for column in columns for picture in column) else 3


def prepare_files(
    pictures: Sequence[Picture], rows: np.ndarray, labels: np.ndarray, config: DatasetConfig, where: str
) -> ImageSplit:
    """Make a split of encoded pictures.

    Args:
        pictures: All of a source.
        rows: Numbers of those to use.
        labels: Their class numbers.
        config: Size, channels, mean and std, and what to do about broken ones.
        where: The source, for messages.

    Raises:
        DataError: Pictures that cannot be read, or of different sizes where the config names none.
    """
    channels = config.channels or channels_of([pictures])
    decoder = Decoder(config.image_size, config.resize, channels, config.interpolation)
    chosen = [pictures[row] for row in rows]
    mean, std = normalisation(config, channels)
    if not _keep_in_memory(config, len(chosen), channels):
        return FileSplit(chosen, labels, mean, std, decoder, where, config.broken == "skip")
    images, good, broken = _decoded(chosen, decoder)
    if broken:
        if config.broken != "skip" or not images:
            raise DataError(_complaint(broken, len(chosen), where))
        log.warning("%s, left out", _complaint(broken, len(chosen), where).partition(";")[0])
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        some = ", ".join(f"{height} x {width}" for height, width in sizes[:3])
        raise DataError(
            f"{where}: the pictures differ in size ({some}); dataset.image_size=PIXELS makes them one"
        )
    return ImageSplit(np.stack(images), labels[good], mean, std)


def _keep_in_memory(config: DatasetConfig, count: int, channels: int) -> bool:
    if config.image_size is None:
        return True  # their size is known only when they have been read
    if config.in_memory is not None:
        return config.in_memory
    # Random parts are cut out of the pictures as they are.
    return not config.augment_resized_crop and count * config.image_size**2 * channels <= IN_MEMORY_BYTES


def _decoded(pictures: Sequence[Picture], decoder: Decoder) -> tuple[list[np.ndarray], list[int], list[str]]:
    images, good, broken = [], [], []
    for number, picture in enumerate(pictures):
        try:
            images.append(decoder.fit(decoder.open(picture)))
            good.append(number)
        except BrokenPictureError as error:
            broken.append(str(error))
    return images, good, broken


def _complaint(broken: list[str], count: int, where: str) -> str:
    names = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
    return (
        f"{where}: {len(broken)} of {count} pictures cannot be read: {names}; "
        "dataset.broken=skip leaves them out"
    )
