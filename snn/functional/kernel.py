"""Uniform quantisers on a CPU as one pass over memory: ``quantize.cpp``, compiled when it is first needed."""

from __future__ import annotations

import ctypes
import math
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from snn.compiler import find_compiler

#: For each channel, or for all of them; none: what changes nothing.
Shared = Tensor | None

_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
_FORMS = {1: "", 3: "corrected_"}  # by what each channel has: its step alone, or shift and gain too
_LANES = 64  # numbers in a row, at least: what fills the vectors of a CPU
_PART = 2**14  # numbers of which the gradients of a step are summed in float32, one after the other
_FLAGS = ("-O3", "-march=native", "-fno-trapping-math", "-fopenmp", "-std=c++17", "-shared", "-fPIC")


@cache
def _library() -> ctypes.CDLL | None:
    """The kernels, or ``None`` where they do not compile (other compilers than GCC's and Clang's, no OpenMP)."""
    source, compiler = Path(__file__).with_name("quantize.cpp"), find_compiler()
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "quantize.so"
        command = [compiler, *_FLAGS, str(source), "-o", str(built)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        library = ctypes.CDLL(str(built))
    size, number, pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    for name in (f"{form}{kind}" for form in _FORMS.values() for kind in _NAMES.values()):
        for function, pointers in (("quantize", 3), ("gradients", 5)):
            kernel = getattr(library, f"{function}_{name}")
            kernel.argtypes = [pointer] * pointers + [size] * 4 + [number] * 2 + [ctypes.c_int]
            kernel.restype = None
    return library


def has_kernel(x: Tensor, step: Tensor) -> bool:
    """Whether the kernels do for these: on a CPU, in float32 or bfloat16, a step of one axis in float32."""
    known = x.device.type == "cpu" and x.dtype in _NAMES and step.dtype == torch.float32
    fits = (
        step.numel() == max(step.shape, default=1) and torch.broadcast_shapes(x.shape, step.shape) == x.shape
    )
    return known and fits and x.numel() > 0 and _library() is not None


def quantize(x: Tensor, step: Tensor, shift: Shared, gain: Shared, qmin: int, qmax: int) -> Tensor:
    """Codes times the step and the gain, in the type of ``x``."""
    order, laws, part, _ = _layout(x, step, shift, gain)
    x = x.contiguous(memory_format=order)
    y = torch.empty_like(x)
    _run("quantize", (x, y, laws), laws, part, qmin, qmax)
    return y


def gradients(
    x: Tensor, grad: Tensor, step: Tensor, shift: Shared, gain: Shared, qmin: int, qmax: int
) -> tuple[Tensor, Tensor]:
    """From the gradient of the output: those of the input and of the step."""
    order, laws, part, inner = _layout(x, step, shift, gain)
    x, grad = x.contiguous(memory_format=order), grad.contiguous(memory_format=order)
    grad_x = torch.empty_like(x)
    channels, width = step.numel(), laws.shape[-1]
    sums = torch.zeros(-(-x.numel() // part), width)
    _run("gradients", (x, grad, grad_x, laws, sums), laws, part, qmin, qmax)
    by_channel = sums.view(-1, channels, width).sum((0, 2)) if inner else sums.view(-1, channels).sum(0)
    return grad_x, by_channel.view_as(step)


def _run(function: str, tensors: tuple[Tensor, ...], laws: Tensor, part: int, qmin: int, qmax: int) -> None:
    each, rows, width = laws.shape
    kernel = getattr(_library(), f"{function}_{_FORMS[each]}{_NAMES[tensors[0].dtype]}")
    pointers = (tensor.data_ptr() for tensor in tensors)
    kernel(*pointers, rows, tensors[0].numel(), part, width, qmin, qmax, torch.get_num_threads())


def _layout(
    x: Tensor, step: Tensor, shift: Shared, gain: Shared
) -> tuple[torch.memory_format, Tensor, int, bool]:
    """How the numbers are to lie in memory; steps and, if there are any, shifts and gains of a row, ``[1 or 3, rows,
    width]``; the numbers of a part; and whether a part is of one channel."""
    channels = step.numel()
    axis = next((k - step.dim() for k, size in enumerate(step.shape) if size > 1), -1)
    last = x.dim() == 4 and axis == -3 and x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    inner = 1 if last or channels == 1 else math.prod(x.shape[axis:][1:])
    laws = step.reshape(1, -1)
    if shift is not None or gain is not None:
        both = (step.new_zeros(()) if shift is None else shift, step.new_ones(()) if gain is None else gain)
        laws = torch.cat([laws, *(value.expand_as(step).reshape(1, -1) for value in both)])
    if inner > 1:
        return order, laws[:, :, None].expand(-1, -1, min(inner, _LANES)).contiguous(), inner, True
    row = laws[:, None].expand(-1, -(-_LANES // channels), -1).reshape(len(laws), 1, -1).contiguous()
    return order, row, row.shape[-1] * max(1, _PART // row.shape[-1]), False
