"""What docs/own_data.md shows in Python runs on a run's folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "own_data.md"


def test_predictions(text_run: tuple[Path, float], capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)[0]
    assert "outputs/NAME/TIME" in example
    scope: dict = {}
    exec(compile(example.replace("outputs/NAME/TIME", str(text_run[0])), str(PAGE), "exec"), scope)
    assert scope["out"].logits.shape == (4, 2, 2)
    shown = capsys.readouterr().out
    assert any(f"'{label}'" in shown for label in scope["labels"])
