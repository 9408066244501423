"""Pictures in a tar archive, one folder for each class: ``<anything>/<class>/<name>.jpg``."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from snn.errors import DataError

ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tar.xz", ".tar.bz2")


def read_archive(path: Path) -> dict[str, Any]:
    """Decode all pictures of an archive, in the order of their names.

    Nothing is unpacked onto the disk. What a picture shows is the name of the folder that it lies in.

    Returns:
        ``images``: uint8 ``[N, H, W, 3]``; ``label``: names of the classes.

    Raises:
        DataError: The archive is damaged, a file in it is no picture or lies in no folder, or the pictures
            differ in size.
    """
    from PIL import Image, UnidentifiedImageError

    images, labels = [], []
    try:
        with tarfile.open(path) as archive:
            # One pass in the order of the archive, since going back in a compressed one decodes it anew.
            found = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for name in sorted(found):
        folders = PurePosixPath(name).parts[:-1]
        if not folders:
            raise DataError(f"{path}: {name} lies in no folder; expected CLASS/{name}")
        try:
            with Image.open(io.BytesIO(found[name])) as picture:
                images.append(np.asarray(picture.convert("RGB")))
        except (UnidentifiedImageError, OSError):
            raise DataError(f"{path}: {name} is no picture that can be read") from None
        labels.append(folders[-1])
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        some = ", ".join(f"{h} x {w}" for h, w, _ in sorted(shapes)[:3])
        raise DataError(f"{path}: the pictures differ in size ({some}); resize them first")
    return {"images": np.stack(images) if images else np.empty((0, 0, 0, 3), np.uint8), "label": labels}
