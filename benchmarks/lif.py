"""LIF over several time steps, and a Spikformer's training step, against SpikingJelly's neurons (torch back end)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from alternate import compare, parser, print_timings, verdict
from memory import in_fresh_process, peak_growth
from torch import Tensor, nn

import snn
from snn.compiler import find_compiler
from snn.functional import lif
from snn.functional.fused import fused
from snn.neurons.native import NativeNeuron
from snn.tracking.table import text_table

NEURON, STEP, MEMORY = 1 / 2, 1 / 1.2, 1.0
THEIRS, OURS, FUSED = "SpikingJelly", "here", "here, compiled"


class Theirs(nn.Module):
    """SpikingJelly's multi-step LIF with the settings of the published spiking transformers, fresh at every call."""

    def __init__(self, threshold: float = 1.0):
        super().__init__()
        from spikingjelly.activation_based import neuron, surrogate

        self.node = neuron.LIFNode(
            tau=2.0,
            v_threshold=threshold,
            surrogate_function=surrogate.Sigmoid(alpha=4.0),
            detach_reset=True,
            step_mode="m",
        )

    def forward(self, current: Tensor) -> Tensor:
        self.node.reset()
        return self.node(current)


def main() -> int:
    options = parser(__doc__)
    options.add_argument(
        "--batch", type=int, default=8, help="pictures of a training step (default: %(default)s)"
    )
    options.add_argument("--only", choices=["neuron", "step", "memory"], help="leave out the others")
    options.add_argument("--peak", choices=[THEIRS, OURS], help="print one network's peak memory and stop")
    args = options.parse_args()
    try:
        import spikingjelly  # noqa: F401  (is it there?)
    except ImportError:
        print("skipped: SpikingJelly is not installed (pip install 'snn[bench]')")
        return 0
    if args.quick:
        args.rounds, args.batch = 2, 2
    if args.peak:
        print(peak_growth(partial(training_step, *network(args, args.peak))))
        return 0
    parts = {"neuron": compare_neurons, "step": compare_steps, "memory": compare_memory}
    met = [part(args) for name, part in parts.items() if args.only in (None, name)]
    return 0 if all(met) else 1


def compare_neurons(args: argparse.Namespace) -> bool:
    """Forward and backward of one layer; both are shown to give the same first."""
    shape = (4, 2, 8, 4, 4) if args.quick else (4, 32, 384, 8, 8)
    current, cotangent, node = torch.randn(shape) + 0.5, torch.randn(shape), Theirs()
    ours, theirs = neuron_pass(lif, current, cotangent), neuron_pass(node, current, cotangent)
    assert torch.equal(ours[0], theirs[0]), "the spikes differ"
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6)
    error = float((ours[1] - theirs[1]).abs().max())
    things: dict[str, Callable[[], Any]] = {
        THEIRS: partial(neuron_pass, node, current, cotangent),
        OURS: partial(neuron_pass, lif, current, cotangent),
    }
    if find_compiler():
        things[FUSED] = within_fused(things[OURS])
    timings = compare(things, THEIRS, args.rounds)
    title = f"LIF forward + backward, {list(shape)}: equal spikes, gradients equal to {error:.1g}"
    return print_timings(title, timings, {} if args.quick else {OURS: NEURON})


def within_fused(run: Callable[[], Any]) -> Callable[[], Any]:
    """As with ``training.compile=true``; compiled now."""

    def compiled() -> Any:
        with fused():
            return run()

    compiled()
    return compiled


def neuron_pass(
    fire: Callable[[Tensor], Tensor], current: Tensor, cotangent: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = current.detach().requires_grad_()
    spikes = fire(leaf)
    spikes.backward(cotangent)
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad


def network(args: argparse.Namespace, neurons: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A Spikformer-4-384 with its own neurons or SpikingJelly's, and a batch."""
    torch.manual_seed(0)
    size = {"embed_dim": 32, "depth": 1, "num_heads": 2} if args.quick else {}
    model = snn.create_model("spikformer", num_classes=10, T=4, **size)
    if neurons == THEIRS:
        for name, module in list(model.named_modules()):
            if isinstance(module, NativeNeuron):
                model.set_submodule(name, Theirs(module.options["threshold"]))  # type: ignore[operator]
    return model.train(), torch.randn(args.batch, 3, 32, 32), torch.arange(args.batch) % 10


def training_step(model: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Loss, gradients; what an optimiser does with them has nothing to do with neurons."""
    model.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(model(pictures).mean(0), labels)
    loss.backward()
    return loss.detach()


def compare_steps(args: argparse.Namespace) -> bool:
    """The same network and the same batch."""
    made = {name: network(args, name) for name in (THEIRS, OURS)}
    losses = [training_step(*made[name]) for name in made]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    things: dict[str, Callable[[], Any]] = {name: partial(training_step, *made[name]) for name in made}
    if find_compiler():
        things[FUSED] = within_fused(things[OURS])
    timings = compare(things, THEIRS, args.rounds)
    title = f"Spikformer-4-384, T = 4, {args.batch} pictures: forward + backward"
    return print_timings(title, timings, {} if args.quick else {OURS: STEP})


def compare_memory(args: argparse.Namespace) -> bool:
    """Peak of a training step beyond the network, each in a process of its own."""
    forwarded = ["--batch", str(args.batch), *(["--quick"] if args.quick else [])]
    peaks = {name: int(in_fresh_process([__file__, *forwarded, "--peak", name])) for name in (THEIRS, OURS)}
    bound = None if args.quick else MEMORY
    rows = []
    for name, peak in peaks.items():
        cells = verdict(peak / peaks[THEIRS], bound if name == OURS else None)
        rows.append([name, f"{peak / 2**20:.1f}", f"{peak / peaks[THEIRS]:.3f}", *cells])
    print(f"\nTraining step, {args.batch} pictures: memory beyond the network's")
    print(text_table(["neurons", "peak MiB", "ratio", "target", "verdict"], rows))
    return bound is None or peaks[OURS] <= bound * peaks[THEIRS]


if __name__ == "__main__":
    sys.exit(main())
