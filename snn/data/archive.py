"""Pictures in a tar archive, one folder for each class: ``<anything>/<class>/<name>.jpg``."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from snn.data.pictures import PictureBytes
from snn.errors import DataError

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tar.xz", ".tar.bz2")


def read_archive(path: Path) -> dict[str, Any]:
    """Read all pictures of an archive into memory, in the order of their names; none is decoded.

    Nothing is unpacked onto the disk. What a picture shows is the name of the folder that it lies in.

    Returns:
        ``images``: :class:`~snn.data.pictures.PictureBytes`; ``label``: names of the classes.

    Raises:
        DataError: The archive is damaged, or a file in it lies in no folder.
    """
    try:
        with tarfile.open(path) as archive:
            # One pass in the order of the archive, since going back in a compressed one decodes it anew.
            found = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    images: list[PictureBytes] = []
    labels: list[str] = []
    for name in sorted(found):
        folders = PurePosixPath(name).parts[:-1]
        if not folders:
            raise DataError(f"{path}: {name} lies in no folder; expected CLASS/{name}")
        images.append(PictureBytes(name, found[name]))
        labels.append(folders[-1])
    return {"images": images, "label": labels}
