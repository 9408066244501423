"""The live view, in a terminal and where there is none: a real process on a pseudo-terminal, its screen played back."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

import pytest

RUN = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from snn.progress import progress
from snn.tracking.tracker import RunInfo, create_trackers

with create_trackers({OPTIONS}) as trackers:
    config = {"training": {"stages": ["float", "convert"]}, "plan": False}
    trackers.start(RunInfo(config, Path(sys.argv[1]), name="demo", kind="train"))
    trackers.enter("float")
    logging.info("stage: float")
    shown = lambda: {"loss": 0.25, "spike rate": 0.125}
    for epoch in (1, 2):
        for batch in progress(range(5), "float", part=(epoch, 2), figures=shown):
            trackers.log({"float/train/loss": 1 / (1 + batch), "float/health/dead": 0}, batch)
            if batch == 3:
                refresh()
    print("printed meanwhile")
    trackers.leave("float")
    trackers.enter("convert")
    refresh()
    trackers.leave("convert")
    ENDING
print("the end")
"""
#: Draws the view at once, so that the test waits for no clock.
REFRESH = """
from snn import progress as state
def refresh():
    for view in state._open:
        view._live.refresh()
"""


def script(options: str = "", ending: str = "") -> str:
    return REFRESH + textwrap.dedent(RUN).replace("{OPTIONS}", options).replace("ENDING", ending or "pass")


def in_terminal(
    code: str, folder: Path, output: int | IO[str] | None = None, **environment: str
) -> tuple[str, int]:
    """What a terminal of 100 columns gets from a script, and the exit code; ``output``: where standard output goes."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=follower,
        stdout=follower if output is None else output,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environment},
    )
    os.close(follower)
    received = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the last one has closed its end
            break
        if not part:
            break
        received += part
    os.close(leader)
    return received.decode(), process.wait()


def screen(received: str) -> list[str]:
    """The lines that are there in the end: the few control sequences of the live view, played."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", received):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b"):
            number, kind = token[2:-1], token[-1]
            if kind == "A":
                row -= int(number or 1)
            elif kind == "K":
                lines[row] = ""
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines if line.strip()]


def plain(received: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received).replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    received, code = in_terminal(script(), tmp_path_factory.mktemp("run"))
    assert code == 0, received
    return received


def test_a_terminal_shows_stages_progress_figures_and_time(watched):
    text = plain(watched)
    assert "demo · train" in text
    assert re.search(r"● float +○ convert", text)
    assert re.search(r"✓ float 0:00 +● convert", text)
    assert re.search(r"float 1/2 +━+.*3/5 +0:00 left +loss 0.25 +spike rate 0.125", text)
    assert re.search(r"train loss +█.*0\.25", text)
    assert "health" not in text


def test_what_is_printed_stays_and_the_view_goes(watched):
    assert screen(watched) == ["stage: float", "printed meanwhile", "the end"]
    assert watched.count("\x1b[?25l") == watched.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.parametrize(
    ("ending", "last"), [("raise KeyboardInterrupt", "KeyboardInterrupt"), ("1 / 0", "division by zero")]
)
def test_the_terminal_is_given_back_when_a_run_breaks(tmp_path, ending, last):
    received, code = in_terminal(script(ending=ending), tmp_path)
    assert code != 0
    assert last in screen(received)[-1]
    assert received.rindex("\x1b[?25h") < received.rindex(last)
    assert not any("demo · train" in line for line in screen(received))


def test_without_the_view_there_are_bars_alone(tmp_path):
    received, status = in_terminal(script('{"live": False}'), tmp_path)
    assert status == 0
    assert "demo · train" not in received
    assert re.search(r"float 1/2 +━+.*3/5", plain(received))
    assert screen(received) == ["stage: float", "printed meanwhile", "the end"]


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"LOCAL_RANK": "1"}], ids=["dumb", "worker"])
def test_where_it_is_not_possible_there_is_none(tmp_path, environment):
    received, status = in_terminal(script(), tmp_path, **environment)
    assert status == 0
    assert "\x1b" not in received
    assert received.split() == ["stage:", "float", "printed", "meanwhile", "the", "end"]


def test_a_pipe_gets_plain_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", script(), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "stage: float\nprinted meanwhile\nthe end\n"
    assert done.stderr == ""


def test_output_into_a_file_is_plain_while_the_terminal_shows_the_run(tmp_path):
    with (tmp_path / "out.txt").open("w") as output:
        received, status = in_terminal(script(), tmp_path / "run", output)
    assert status == 0
    assert (tmp_path / "out.txt").read_text() == "stage: float\nprinted meanwhile\nthe end\n"
    assert "demo · train" in plain(received)
    assert screen(received) == []


def test_progress_alone_shows_a_bar(tmp_path):
    code = REFRESH + (
        "import time\nfrom snn.progress import progress\n"
        "for i in progress(range(3), 'tokens of test'):\n    refresh()\nprint('done')"
    )
    received, status = in_terminal(code, tmp_path)
    assert status == 0
    assert re.search(r"tokens of test +.*2/3", plain(received))
    assert screen(received) == ["done"]


def test_breaking_off_closes_the_bar(tmp_path):
    code = (
        "from snn import progress as state\n"
        "for i in state.progress(range(9), 'some'):\n    break\n"
        "assert not state._open\nprint('done')"
    )
    received, status = in_terminal(code, tmp_path)
    assert status == 0, received
    assert screen(received) == ["done"]


def test_items_pass_unchanged_without_a_terminal():
    from snn.progress import progress

    items = iter([1, 2, 3])
    given = progress(items, "nothing to see")
    assert next(given) == 1
    assert next(items) == 2  # nothing is read ahead
    assert list(given) == [3]
