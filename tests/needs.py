"""What some tests need of the machine; without it, the features they test are refused or not used."""

from __future__ import annotations

import pytest

from snn.compiler import find_compiler

needs_compiler = pytest.mark.skipif(
    find_compiler() is None, reason="training.compile is refused here: there is no C++ compiler"
)
needs_integer_units = pytest.mark.usefixtures("integer_units")
