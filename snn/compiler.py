"""The C++ compiler of this machine."""

from __future__ import annotations

import os
import shutil


def find_compiler() -> str | None:
    """What ``CXX`` names, or the first that is found; ``None``: there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++", "cl")
    return next((name for name in names if name and shutil.which(name)), None)
