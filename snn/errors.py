"""Errors that a user can act on.

Everything that is the user's to mend (a config value, a file, a checkpoint) raises a subclass of
:class:`SNNError`. The scripts print its message as one line and exit non-zero; every other exception is a
defect and keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: What a process that prepares batches makes of an error's message: its traceback, which ends in the message itself.
_FROM_WORKER = re.compile(r"Caught \w+ in DataLoader worker process .*\n[\w.]+Error: (.*)", re.DOTALL)


class SNNError(Exception):
    """Base of all errors that are the user's to mend; the message says what came, what was expected and where."""

    def __init__(self, message: str = ""):
        found = _FROM_WORKER.fullmatch(message.strip())
        super().__init__(found[1] if found else message)


class ConfigError(SNNError, ValueError):
    """A config value, or a combination of values, that cannot work."""


class DataError(SNNError, ValueError):
    """A data set, a data file or a column that is missing, damaged or not what the config says."""


class CheckpointError(SNNError, ValueError):
    """A checkpoint that is missing, truncated, or names something unknown."""


class ConversionError(SNNError, ValueError):
    """A network that cannot be converted, or a converted network that is not what its method promises."""


class TrainingError(SNNError, RuntimeError):
    """Training that cannot go on, such as a loss that is not a number."""


#: Choices that are listed; timm alone would have a thousand.
_MOST = 60


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the nearest of ``choices``, and list them, or the first of very many.

    Example:
        >>> did_you_mean("para_inff", ["para_inf", "st_bif"])
        "did you mean 'para_inf'? (choices: para_inf, st_bif)"
        >>> did_you_mean("?", [f"{n:03}" for n in range(1000)])[-22:]
        '058, 059, and 940 more'
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    more = f", and {len(choices) - _MOST} more" if len(choices) > _MOST else ""
    listed = (", ".join(choices[:_MOST]) or "none") + more
    return f"did you mean {near[0]!r}? (choices: {listed})" if near else f"choices: {listed}"
