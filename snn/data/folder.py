"""Pictures in folders, one for each class: ``<split>/<class>/.../<name>.jpg``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn.data.archive import ARCHIVE_ENDINGS
from snn.data.pictures import PICTURE_ENDINGS, Picture, PictureFile, is_picture
from snn.data.table import Table
from snn.errors import DataError

log = logging.getLogger(__name__)

#: In place of a split's name: whichever of these is there.
AUTO = "auto"
_CALLED = {"validation": ("validation", "val", "valid"), "test": ("test",)}


def found_splits(root: Path, named: Mapping[str, str | None]) -> dict[str, str | None]:
    """Put what is there in place of every split that is called ``auto``; None: nothing.

    Where ``val`` or the like is all that there is besides the training pictures, and both splits are ``auto``, it is
    the test split.

    Args:
        root: Folder of the data set.
        named: Split → name of its folder, archive or archive's parts, without ending.

    Raises:
        DataError: Two would do.
    """
    there = {path.name for path in root.iterdir() if path.is_dir()}
    archives = (path.name for path in root.iterdir() if path.name.endswith(ARCHIVE_ENDINGS))
    there |= {re.sub(r"([-_]\d+(-of-\d+)?)?\.tar.*", "", name) for name in archives}
    if named["train"] == ".":  # a folder of classes, one of which may be called «test»
        there = set()
    result = dict(named)
    for split, stem in named.items():
        if stem == AUTO:
            stems = [stem for stem in _CALLED.get(split, (split,)) if stem in there]
            if len(stems) > 1:
                raise DataError(f"dataset.splits.{split}: {' or '.join(stems)} in {root}? Name one of them")
            result[split] = stems[0] if stems else None
    if named["validation"] == named["test"] == AUTO and result["test"] is None:
        result["validation"], result["test"] = None, result["validation"]
    return result


def class_folders(table: Table) -> list[str]:
    """Names of the folders that the pictures of a table lie in, numbers by their size; none where it has no folders.

    Example:
        >>> pictures = [PictureFile("10/a.jpg"), PictureFile("9/b.jpg")]
        >>> class_folders(Table({"images": pictures, "label": ["10", "9"]}, "train"))
        ['9', '10']
    """
    images = table.columns.get("images")
    if not isinstance(images, list) or not images or not isinstance(images[0], Picture):
        return []
    names = set(table.columns["label"])
    numbers = all(map(str.isdecimal, names))
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


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
            if not is_picture(file):
                continue
            path = Path(folder, file)
            parts = path.relative_to(root).parts
            if named is not None and file not in named:
                raise DataError(f"{annotations[0]} does not say what {path} shows")
            if len(parts) == 1:
                raise DataError(
                    f"{path} lies in no folder of a class; expected {root}/CLASS/{file}; "
                    "dataset.splits.NAME=null does without a split that has no classes"
                )
            images.append(PictureFile(str(path)))
            labels.append(parts[0] if named is None else named[file])
    if not images:
        endings = ", ".join(PICTURE_ENDINGS)
        raise DataError(f"{root} holds no pictures ({endings}); expected {root}/CLASS/NAME.jpg")
    if named is None:
        folders = (path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        empty = sorted(set(folders) - set(labels))
        if empty:
            log.warning(
                "%s: no pictures in %s, which is no class unless another split has some",
                root,
                ", ".join(empty[:5]),
            )
    return {"images": images, "label": labels}


def _annotated(path: Path) -> dict[str, str]:
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    for number, row in enumerate(rows, start=1):
        if len(row) < 2:
            raise DataError(f"{path}, line {number}: expected a picture and its class, separated by a tab")
    return {row[0]: row[1] for row in rows}
