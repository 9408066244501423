"""The hand-written backward against autograd through the same formula with its windows written out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from snn.functional import kernel, lsq, qcfs, uniform_quantize
from snn.functional.fused import fused
from tests.needs import needs_compiler


def straight_through(x: Tensor, step: Tensor, qmin: int, qmax: int) -> Tensor:
    """Rounding with the gradient of the identity inside the window, none outside; autograd for all the rest."""
    ratio = x / step
    rounded = (ratio + 0.5).floor().detach()
    inside = (rounded >= qmin) & (rounded <= qmax)
    code = torch.where(inside, ratio + (rounded - ratio).detach(), rounded.clamp(qmin, qmax))
    return code * step


def gradients(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, parameter: Tensor
) -> tuple[Tensor, ...]:
    x, parameter = x.clone().requires_grad_(), parameter.clone().requires_grad_()
    y = function(x, parameter)
    weight = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
    return y.detach(), *torch.autograd.grad((y * weight).sum(), (x, parameter))


PARAMETERS = {
    "per tensor": torch.tensor([0.75], dtype=torch.float64),
    "number": torch.tensor(1.25, dtype=torch.float64),
    "per channel": torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64),
    "per channel of pictures": torch.tensor([0.3, 1.0, 2.5, 0.5], dtype=torch.float64).reshape(4, 1, 1),
}


def inputs(step: Tensor, qmin: int, qmax: int) -> Tensor:
    """Random values, and every border between two codes: the ends of the window, too."""
    shape = (5, 4, 2, 3) if step.dim() == 3 else (30, 3)
    x = torch.randn(shape, dtype=torch.float64) * step * qmax
    borders = torch.arange(qmin - 2, qmax + 3, dtype=torch.float64) - 0.5
    on_border = borders.reshape(-1, *[1] * (x.dim() - 1)) * step.detach() * torch.ones_like(x[:1])
    return torch.cat([x, on_border])


@pytest.mark.parametrize("kind", PARAMETERS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("levels", [1, 4, 7])
def test_qcfs(kind: str, signed: bool, levels: int) -> None:
    threshold, qmin = PARAMETERS[kind], -levels if signed else 0
    x = inputs(threshold / levels, qmin, levels)
    got = gradients(lambda a, b: qcfs(a, b, levels, signed), x, threshold)
    want = gradients(lambda a, b: straight_through(a, b / levels, qmin, levels), x, threshold)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", PARAMETERS)
@pytest.mark.parametrize(("qmin", "qmax"), [(0, 15), (-16, 15), (-2, 1)])
def test_lsq(kind: str, qmin: int, qmax: int) -> None:
    step = PARAMETERS[kind]
    x = inputs(step, qmin, qmax)
    y, grad_x, grad_step = gradients(lambda a, b: lsq(a, b, qmin, qmax), x, step)
    want_y, want_x, want_step = gradients(lambda a, b: straight_through(a, b, qmin, qmax), x, step)
    scale = (qmax * x.numel() / step.numel()) ** -0.5
    torch.testing.assert_close(y, want_y, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad_x, want_x, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad_step, want_step * scale, rtol=0, atol=1e-12)


def test_the_window_is_closed_on_codes() -> None:
    levels, threshold = 4, torch.tensor(1.0)
    # Half a level outside of [0, threshold]: the lower border rounds up into the range, the upper one out of it.
    x = torch.tensor([-0.126, -0.125, 0.0, 1.0, 1.124, 1.125]).requires_grad_()
    qcfs(x, threshold, levels).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("far", [1e3 + 1 / 3, 1e9, 1e30])
def test_far_outside_of_the_window_the_threshold_gets_the_exact_code(far: float) -> None:
    step = torch.tensor(1.0, requires_grad=True)
    uniform_quantize(torch.tensor([far, -far]), step, -3, 4).sum().backward()
    assert step.grad.item() == 1
    step.grad = None
    uniform_quantize(torch.tensor([far]), step, -3, 4).sum().backward()
    assert step.grad.item() == 4


@pytest.mark.parametrize("kind", PARAMETERS)
def test_shift_and_gain_are_as_if_they_stood_outside(kind: str) -> None:
    step = PARAMETERS[kind]
    x, shift, gain = inputs(step, -3, 4), torch.rand_like(step) - 0.5, torch.rand_like(step) + 0.5
    found = gradients(lambda a, b: uniform_quantize(a, b, -3, 4, shift=shift, gain=gain), x, step)
    wanted = gradients(lambda a, b: straight_through(a + shift, b, -3, 4) * gain, x, step)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_only_the_input_is_saved_for_backward() -> None:
    saved: list[Tensor] = []
    x = torch.randn(64, 8, requires_grad=True)
    step = torch.rand(8).add_(0.1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        uniform_quantize(x, step, 0, 7)
        mine = sorted(t.numel() for t in saved)
        saved.clear()
        straight_through(x, step, 0, 7)
        autograds = [t.numel() for t in saved if t.numel() == x.numel()]
    assert mine == sorted([x.numel(), step.numel()])
    assert len(autograds) > 1


LAYOUTS = [  # shape, channels last, shape of the step
    ((2, 3, 5, 5), False, (3, 1, 1)),
    ((4, 3, 4, 4), True, (3, 1, 1)),
    ((1, 3, 5, 1), True, (3, 1, 1)),
    ((40, 16, 9, 9), True, (16, 1, 1)),  # several parts, the last not full
    ((2, 3, 40, 40), False, (3, 1, 1)),
    ((2, 7, 3), False, (3,)),
    ((30, 200), False, (200,)),
    ((5, 6, 70), False, (6, 1)),
    ((2, 7, 3), False, (1,)),
    ((2, 7, 3), False, ()),
    ((0, 3), False, (3,)),
    ((2, 3, 4), False, (3, 4)),  # more than channels
]


@needs_compiler
@pytest.mark.parametrize("by", ["kernel", "torch.compile"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("corrected", [False, True])
def test_compiled_the_function_is_the_same(
    by: str, dtype: torch.dtype, signed: bool, corrected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "torch.compile":
        monkeypatch.setattr(kernel, "has_kernel", lambda x, step: False)
    for shape, last, step_shape in LAYOUTS if by == "kernel" else LAYOUTS[:6:3]:
        order = torch.channels_last if last else torch.contiguous_format
        step = torch.rand(step_shape) * 0.5 + 0.1
        x, upstream = (torch.randn(shape).to(dtype).contiguous(memory_format=order) for _ in range(2))
        assert by != "kernel" or kernel.has_kernel(x, step) == (0 not in shape and step_shape != (3, 4))
        beside = {"shift": torch.rand(step_shape) - 0.5, "gain": torch.rand(()) + 0.5} if corrected else {}
        found = []
        for context in (nullcontext(), fused()):
            a, b = x.clone().requires_grad_(), step.clone().requires_grad_()
            with context:
                y = uniform_quantize(a, b, -4 if signed else 0, 4, **beside)
            y.backward(upstream)
            assert a.grad is not None
            assert y.dtype == a.grad.dtype == dtype
            found.append((y.detach(), a.grad, b.grad))
        (y, grad_x, grad_step), compiled = found
        assert torch.equal(y, compiled[0])
        assert torch.equal(grad_x, compiled[1])
        torch.testing.assert_close(grad_step, compiled[2], rtol=1e-4, atol=1e-4)  # in another order
        with fused(), torch.no_grad():  # what is not trained is not compiled
            assert torch.equal(uniform_quantize(x, step, -4 if signed else 0, 4, **beside), y)


@needs_compiler
def test_the_kernel_keeps_what_is_not_finite_and_sums_alike_on_any_number_of_threads() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e38, -1e-40])
    for dtype in (torch.float32, torch.bfloat16):
        y = kernel.quantize(x.to(dtype), torch.tensor(0.5), None, None, -2, 2)
        assert y.isnan().tolist() == [True, False, False, False, False]
        assert y[1:].tolist() == [1.0, -1.0, 1.0, 0.0]
    x, grad, step = torch.randn(60_000, 8), torch.randn(60_000, 8), torch.full((8,), 0.3)
    threads = torch.get_num_threads()
    sums = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            sums.append(kernel.gradients(x, grad, step, None, None, -4, 4)[1])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*sums)
    step.requires_grad_()
    uniform_quantize(x, step, -4, 4).backward(grad)
    assert step.grad is not None
    torch.testing.assert_close(sums[0], step.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "function", [lambda x: qcfs(x, torch.tensor(1.0), 0), lambda x: lsq(x, torch.tensor(1.0), -2, 0)]
)
def test_too_few_levels_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="must be at least 1; got 0"):
        function(torch.zeros(2))
