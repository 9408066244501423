"""Encoded pictures: files, members of archives, rows of the Hub; decoded when they are asked for."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

#: left, top, right, bottom, in pixels of the picture.
Box = tuple[float, float, float, float]
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
INTERPOLATIONS = ("bilinear", "bicubic")
#: Pillow's names for grey: two values, 8 bits (with transparency), and 16 bits or more.
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def is_picture(path: str) -> bool:
    """Whether a file is a picture by its name; hidden ones are not, which macOS puts beside each (``._1.jpg``)."""
    name = path.rpartition("/")[2]
    return name.lower().endswith(PICTURE_ENDINGS) and not name.startswith(".")


class Picture(ABC):
    """One encoded picture.

    Attributes:
        name: For messages.
    """

    name: str

    @abstractmethod
    def read(self) -> bytes:
        """The file's content."""


@dataclass(frozen=True, slots=True)
class PictureFile(Picture):
    """A picture on the disk."""

    path: str

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.path

    def read(self) -> bytes:
        return Path(self.path).read_bytes()


@dataclass(frozen=True, slots=True)
class PictureBytes(Picture):
    """A picture in memory."""

    name: str
    content: bytes

    def read(self) -> bytes:
        return self.content


@dataclass(frozen=True, slots=True)
class HubPicture(Picture):
    """A picture in a table of the library ``datasets``, its column not decoded."""

    table: Any
    row: int
    column: str

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"row {self.row + 1}"

    def read(self) -> bytes:
        cell = self.table[self.row][self.column]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


class BrokenPictureError(Exception):
    """A picture that cannot be decoded; never leaves this package."""


@dataclass(frozen=True)
class Decoder:
    """From a file's content to pixels.

    Args:
        size: Height and width of the result, in pixels; None: as the picture is.
        resize: Length of the shorter side before ``size`` is cut out of the middle; None: ``size``.
        channels: 1 for grey, 3 for colour.
        interpolation: One of :data:`INTERPOLATIONS`.
    """

    size: int | None
    resize: int | None = None
    channels: int = 3
    interpolation: str = "bilinear"

    def open(self, picture: Picture) -> Image:
        """Decode, in grey or colour.

        Raises:
            BrokenPictureError: It is damaged or no picture, or nothing says which of its numbers is white.
        """
        with _opened(picture) as opened:
            return _eight_bits(opened, picture).convert("L" if self.channels == 1 else "RGB")

    def fit(self, image: Image, box: Box | None = None) -> np.ndarray:
        """Pixels of a part of a picture.

        Args:
            image: Decoded.
            box: The part; None: the square in the middle that ``resize`` leaves.

        Shape:
            ``[size, size, channels]``, uint8.
        """
        if self.size is not None:
            from PIL.Image import Resampling

            box = self.middle(image.width, image.height) if box is None else box
            if box != (0, 0, self.size, self.size) or image.size != (self.size, self.size):
                resample = Resampling[self.interpolation.upper()]
                image = image.resize((self.size, self.size), resample, box=box)
        pixels = np.asarray(image)
        return pixels[..., None] if self.channels == 1 else pixels

    def middle(self, width: int, height: int) -> Box:
        """The square that is left when the shorter side becomes ``resize`` and ``size`` is cut out of the middle.

        Example:
            >>> Decoder(size=224, resize=256).middle(512, 256)
            (144.0, 16.0, 368.0, 240.0)
        """
        assert self.size is not None
        side = min(width, height) * min(1.0, self.size / (self.resize or self.size))
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side


def is_grey(picture: Picture) -> bool:
    """Whether the head of a picture says that it is grey; a broken one counts as grey."""
    try:
        with _opened(picture) as opened:
            return opened.mode in GREY_MODES
    except BrokenPictureError:
        return True


@contextmanager
def _opened(picture: Picture) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(picture.read())) as opened:
            yield opened
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BrokenPictureError(picture.name) from error


def _eight_bits(image: Image, picture: Picture) -> Image:
    """The upper half of 16 bits, as Pillow itself has it for colour; of grey it would clip all above 255 to white."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise BrokenPictureError(f"{picture.name} (32 bits per pixel, where nothing says how much is white)")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def as_pictures(column: Any) -> list[Picture] | None:
    """A column as encoded pictures; None where it holds pixels.

    What the Hub writes to Parquet, ``{bytes, path}``, counts as well.
    """
    if not isinstance(column, list) or not column:
        return None
    if isinstance(column[0], Picture):
        return column
    if isinstance(column[0], dict) and isinstance(column[0].get("bytes"), bytes):
        return [
            PictureBytes(cell.get("path") or f"row {row + 1}", cell["bytes"])
            for row, cell in enumerate(column)
        ]
    return None
