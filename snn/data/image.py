"""A split of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from snn.data.augment import Augmentation
from snn.data.schema import DatasetConfig
from snn.data.split import Split
from snn.errors import DataError


class ImageSplit(Split):
    """Images ``[N, H, W, C]``, uint8 or floats in 0..1, with their class numbers.

    Args:
        images: Pixels.
        labels: Class numbers, int64, ``[N]``.
        mean: Per channel, subtracted from pixels in 0..1.
        std: Per channel, divided by after that.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: np.ndarray, std: np.ndarray):
        self.images, self.labels, self.mean, self.std = images, labels, mean, std

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    def batch(self, rows: np.ndarray, augmentation: Augmentation | None = None) -> dict[str, Tensor]:
        """Return some rows.

        Shape:
            ``pixel_values``: float32 ``[B, C, H, W]``; ``labels``: ``[B]``.
        """
        images = self.images[rows]
        if augmentation is not None and augmentation.config.augment_resized_crop:
            images = _resized_parts(images, rows, augmentation)
        return self.tensors(images, rows, augmentation)

    def tensors(
        self, images: np.ndarray, rows: np.ndarray, augmentation: Augmentation | None
    ) -> dict[str, Tensor]:
        """Vary and normalise pixels ``[B, H, W, C]`` that belong to some rows."""
        if augmentation is not None:
            images = augmentation.pixels(images, rows)
        pixels = images.astype(np.float32)
        if images.dtype == np.uint8:
            pixels /= 255
        pixels = (pixels - self.mean) / self.std
        values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        if augmentation is not None:
            values = augmentation.normalised(values, rows)
        return {"pixel_values": values, "labels": torch.from_numpy(np.asarray(self.labels[rows]))}

    def take(self, rows: np.ndarray) -> ImageSplit:
        """Some of the rows as a split of their own."""
        return ImageSplit(self.images[rows], self.labels[rows], self.mean, self.std)

    def contents(self) -> Iterator[np.ndarray]:
        """Everything that a fingerprint covers."""
        yield from (self.images, self.labels)


def prepare(
    images: object, rows: np.ndarray, labels: np.ndarray, config: DatasetConfig, where: str
) -> ImageSplit:
    """Check images, bring them to the size and channels of the config, and make a split of them.

    Args:
        images: All images of a file.
        rows: Numbers of those to use.
        labels: Their class numbers.
        config: Size, channels, mean and std.
        where: The file, for error messages.

    Raises:
        DataError: A wrong shape, pixels that are not numbers or outside 0..1, a mean or std that does not
        fit.
    """
    key = f"dataset.image_field={config.image_field} in {where}"
    try:
        pixels = np.asarray(images)
    except ValueError:
        raise DataError(
            f"{key}: arrays of different shapes; make them one size, or keep them encoded"
        ) from None
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or pixels.dtype.kind not in "uif":
        got = f"{pixels.dtype} {list(pixels.shape)}"
        raise DataError(f"{key}: expected numbers [N, H, W], [N, H, W, 1] or [N, H, W, 3], got {got}")
    pixels = pixels[rows]
    if pixels.dtype != np.uint8:
        pixels = _unit_floats(pixels, rows, key)
    pixels = _resized(_with_channels(pixels, config.channels), config)
    return ImageSplit(pixels, labels, *normalisation(config, pixels.shape[-1]))


def check_alike(splits: Mapping[str, Split]) -> None:
    """Refuse splits whose pictures differ in channels or size.

    Raises:
        DataError: Says what the pictures of each are, and which keys make them alike.
    """
    shapes = {name: split.shape for name, split in splits.items() if isinstance(split, ImageSplit)}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        raise DataError(
            f"dataset: the pictures of the splits differ in channels x height x width: {found}; "
            "dataset.channels=1 or 3 and dataset.image_size=PIXELS make them alike"
        )


def normalisation(config: DatasetConfig, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel.

    Raises:
        DataError: One that does not fit the channels, or is not positive.
    """
    mean, std = _per_channel(config, "mean", 0.0, channels), _per_channel(config, "std", 1.0, channels)
    if not (std > 0).all():
        raise DataError(f"dataset.std={list(config.std)}: every value must be positive")
    return mean, std


def _resized_parts(images: np.ndarray, rows: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """A random part of each picture, at the size of the picture."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    height, width = images.shape[1:3]
    for number, row in enumerate(rows.tolist()):
        left, top, right, bottom = map(round, augmentation.box(row, width, height) or (0, 0, width, height))
        part = pixels[number : number + 1, :, top : max(bottom, top + 1), left : max(right, left + 1)].float()
        whole = torch.nn.functional.interpolate(part, (height, width), mode="bilinear", antialias=True)
        pixels[number] = (whole.round() if images.dtype == np.uint8 else whole)[0].to(pixels.dtype)
    return pixels.permute(0, 2, 3, 1).numpy()


def _unit_floats(pixels: np.ndarray, rows: np.ndarray, key: str) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))
    if len(bad):
        raise DataError(f"{key}: row {rows[bad[0]] + 1} has a pixel that is not a number (NaN or infinite)")
    if pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 255:
        return pixels.astype(np.uint8)
    if pixels.min() < 0 or pixels.max() > 1:
        raise DataError(
            f"{key}: pixels of type {pixels.dtype} run from {pixels.min():g} to {pixels.max():g}; "
            "expected uint8 in 0..255, or floats in 0..1 (dataset.mean and dataset.std normalise them)"
        )
    return pixels.astype(np.float32)


def _with_channels(pixels: np.ndarray, channels: int | None) -> np.ndarray:
    if channels is None or channels == pixels.shape[-1]:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    grey = pixels.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    return grey.round().astype(np.uint8) if pixels.dtype == np.uint8 else grey


def _resized(pixels: np.ndarray, config: DatasetConfig) -> np.ndarray:
    """The middle of each picture at ``image_size``, cut out once its shorter side is ``resize`` pixels long."""
    size, (height, width) = config.image_size, pixels.shape[1:3]
    if size is None:
        return pixels
    scale = (config.resize or size) / min(height, width)
    whole = round(height * scale), round(width * scale)
    top, left = (whole[0] - size) // 2, (whole[1] - size) // 2
    if scale == 1:
        return pixels[:, top : top + size, left : left + size]
    most = 255 if pixels.dtype == np.uint8 else 1
    result = np.empty((len(pixels), size, size, pixels.shape[-1]), pixels.dtype)
    for start in range(0, len(pixels), 1024):
        rows = slice(start, start + 1024)
        piece = torch.from_numpy(np.ascontiguousarray(pixels[rows].transpose(0, 3, 1, 2))).float()
        piece = torch.nn.functional.interpolate(piece, whole, mode=config.interpolation, antialias=True)
        piece = piece[:, :, top : top + size, left : left + size].clamp(0, most)
        result[rows] = (piece.round() if most == 255 else piece).permute(0, 2, 3, 1).numpy()
    return result


def _per_channel(config: DatasetConfig, key: str, default: float, channels: int) -> np.ndarray:
    values = list(getattr(config, key)) or [default]
    if len(values) not in (1, channels):
        raise DataError(f"dataset.{key}={values}: {len(values)} values for images of {channels} channel(s)")
    return np.broadcast_to(np.asarray(values, dtype=np.float32), (channels,))
