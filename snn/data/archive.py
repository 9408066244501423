"""Pictures in a tar archive, one folder for each class: ``<anything>/<class>/.../<name>.jpg``."""

from __future__ import annotations

import itertools
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from snn.data.pictures import PICTURE_ENDINGS, PictureBytes, is_picture
from snn.errors import DataError

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tar.xz", ".tar.bz2")


def read_archive(*parts: Path) -> dict[str, Any]:
    """Read all pictures of an archive into memory, those of each part in the order of their names; none is decoded.

    Nothing is unpacked onto the disk. What a picture shows is the name of the first folder on the way to it that does
    not hold all of them.

    Args:
        parts: The archive, or all parts of one split.

    Returns:
        ``images``: :class:`~snn.data.pictures.PictureBytes`; ``label``: names of the classes.

    Raises:
        DataError: An archive is damaged or holds no picture, or one that lies in no folder.
    """
    images = [picture for part in parts for picture in _pictures(part)]
    folders = [PurePosixPath(picture.name).parts[:-1] for picture in images]
    depth = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, zip(*folders)))
    if all(len(way) == depth for way in folders):  # one folder, that of a class
        depth -= 1
    for picture, way in zip(images, folders):
        if len(way) <= max(depth, 0):
            raise DataError(
                f"{parts[0]}: {picture.name} lies in no folder of a class; expected CLASS/NAME.jpg"
            )
    return {"images": images, "label": [way[depth] for way in folders]}


def _pictures(path: Path) -> list[PictureBytes]:
    try:
        with tarfile.open(path) as archive:
            # One pass in the order of the archive, since going back in a compressed one decodes it anew.
            files = (member for member in archive if member.isfile() and is_picture(member.name))
            found = {m.name: archive.extractfile(m).read() for m in files}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not found:
        raise DataError(f"{path} holds no pictures ({', '.join(PICTURE_ENDINGS)})")
    return [PictureBytes(name, found[name]) for name in sorted(found)]
