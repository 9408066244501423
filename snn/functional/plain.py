"""Functions without the modes that look at every call."""

from __future__ import annotations

import torch

#: Context in which function modes do not act. They replace calls of a network; for a loop of small calls, or where a
#: compiler looks on, they cost more than what they look at.
plain_functions = torch._C.DisableTorchFunction
