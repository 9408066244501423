"""What README and docs tell people to type is right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from snn.launch import check_overrides, register
from snn.shorthand import written_out

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "multirun" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split("  #")[0] for line in lines if line.startswith("python ")]
    return found


@pytest.mark.parametrize("command", commands())
def test_the_command_line_is_accepted(command: str) -> None:
    register()
    _, script, *arguments = shlex.split(command)
    assert (ROOT / script).exists()
    check_overrides(script.removesuffix(".py"), written_out(arguments))


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    scope: dict = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert scope["out"].logits.shape == (8, 4, 2)
    assert "quantisers" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
