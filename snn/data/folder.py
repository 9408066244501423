"""Pictures in folders, one for each class: ``<split>/<class>/.../<name>.jpg``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from snn.data.pictures import PictureFile
from snn.errors import DataError

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


def read_folder(root: Path) -> dict[str, Any]:
    """List all pictures below a folder, in the order of their names; none is opened.

    What a picture shows is the name of the first folder below ``root`` on the way to it. Where one file
    ``*annotations.txt`` lies beside a folder of pictures, as in Tiny ImageNet, its first two columns say it.

    Returns:
        ``images``: :class:`~snn.data.pictures.PictureFile`; ``label``: names of the classes.

    Raises:
        DataError: There is no picture, one that lies in no folder, or one without annotation.
    """
    annotations = sorted(root.glob("*annotations.txt"))
    named = _annotated(annotations[0]) if annotations else None
    images, labels = [], []
    for folder, inner, files in os.walk(root, followlinks=True):
        inner.sort()
        for file in sorted(files):
            if not file.lower().endswith(PICTURE_ENDINGS) or file.startswith("."):
                continue
            path = Path(folder, file)
            parts = path.relative_to(root).parts
            if named is not None and file not in named:
                raise DataError(f"{annotations[0]} does not say what {path} shows")
            if len(parts) == 1:
                raise DataError(f"{path} lies in no folder of a class; expected {root}/CLASS/{file}")
            images.append(PictureFile(str(path)))
            labels.append(parts[0] if named is None else named[file])
    if not images:
        endings = ", ".join(PICTURE_ENDINGS)
        raise DataError(f"{root} holds no pictures ({endings}); expected {root}/CLASS/NAME.jpg")
    return {"images": images, "label": labels}


def _annotated(path: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise DataError(f"{path}, line {number}: expected a picture and its class, separated by a tab")
    return {row[0]: row[1] for row in rows}
