"""ResNet-20: training with QCFS against ReLU; spiking against the quantised network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from alternate import Timing, compare, parser, print_timings
from torch import Tensor, nn

import snn
from snn.conversion.call import call_model
from snn.functional.fused import fused
from snn.training.losses import classification_loss
from snn.training.optimizer import build_optimizer

TRAINING, COLLAPSED = 1 / 0.85, 1.05  # of the times; QCFS is to train 0.85 × as many pictures
# So small that the networks stay what they are over all rounds.
SGD = {"_target_": "torch.optim.SGD", "lr": 1e-7, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
RULES = [{"type": "ReLU", "do": "replace", "signed": False}]


def main() -> int:
    options = parser(__doc__, rounds=8)
    options.add_argument("--T", type=int, nargs="+", default=[4, 8, 16], help="time steps")
    options.add_argument(
        "--batch", type=int, default=128, help="pictures per training step (default: %(default)s)"
    )
    options.add_argument(
        "--eval-batch", type=int, default=32, help="pictures per forward (default: %(default)s)"
    )
    options.add_argument(
        "--levels", type=int, default=8, help="QCFS levels in training (default: %(default)s)"
    )
    options.add_argument("--only", choices=["training", "execution"], help="one of the two parts")
    args = options.parse_args()
    if args.quick:
        args.rounds, args.T, args.batch, args.eval_batch = 2, [2], 4, 2
    parts = {"training": compare_training, "execution": compare_execution}
    met = [part(args) for name, part in parts.items() if args.only in (None, name)]
    return 0 if all(met) else 1


def resnet(quick: bool) -> nn.Module:
    """ResNet-20 of random weights, statistics of its norms from random pictures."""
    torch.manual_seed(0)
    args: dict[str, Any] = {"widths": [4, 8, 8], "blocks": [1, 1, 1]} if quick else {}
    model = snn.create_model("resnet20", num_classes=10, **args).train()
    with torch.no_grad():
        for _ in range(3):
            model(pictures(32))
    return model.eval().to(memory_format=torch.channels_last)


def pictures(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32).contiguous(memory_format=torch.channels_last)


def quantised(model: nn.Module, levels: int, batches: Sequence[dict[str, Tensor]] = ()) -> nn.Module:
    """With QCFS in place of ReLU, thresholds from these batches, or from random pictures."""
    network = snn.quantize(model, RULES, name="qcfs", levels=levels).eval()
    batches = batches or [{"pixel_values": pictures(8)}]
    snn.calibrate(network, batches, max_batches=len(batches))
    return network


def compare_training(args: argparse.Namespace) -> bool:
    """Forward, backward and SGD."""
    relu = resnet(args.quick)
    networks = {"ReLU": relu, "QCFS": quantised(relu, args.levels)}
    trained = {name: (net.train(), build_optimizer(net, SGD)) for name, net in networks.items()}
    pixels, labels, met = pictures(args.batch), torch.arange(args.batch) % 10, True
    for precision, dtype in PRECISIONS.items():
        steps = {name: partial(step, *pair, pixels, labels, dtype) for name, pair in trained.items()}
        steps["QCFS, compiled"] = partial(compiled, steps["QCFS"])
        compiled(steps["QCFS"])  # once, before anything is timed
        timings = compare(steps, "ReLU", args.rounds)
        title = f"Training step, {precision}, batch {args.batch} × 3 × 32 × 32"
        met &= print_timings(title, timings, {} if args.quick else {"QCFS, compiled": TRAINING})
        print_speed(timings, args.batch)
    return met


def compiled(run: Callable[[], None]) -> None:
    """As with ``training.compile=true``."""
    with fused():
        run()


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    labels: Tensor,
    dtype: torch.dtype | None,
) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        logits = model(pixels)
    classification_loss(logits, labels).backward()
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def compare_execution(args: argparse.Namespace) -> bool:
    """The quantised network against the spiking ones made from it, no spikes counted."""
    met, inputs = True, {"pixel_values": pictures(args.eval_batch)}
    for T in args.T:
        qann = quantised(resnet(args.quick), T)
        things = {"quantised ANN": partial(call_model, qann, inputs), **spiking(qann, T, inputs)}
        timings = compare(things, "quantised ANN", args.rounds)
        targets = {} if args.quick else {"ParaInf, collapsed": COLLAPSED}
        met &= print_timings(f"Forward, T = {T}, batch {args.eval_batch} × 3 × 32 × 32", timings, targets)
        print_speed(timings, args.eval_batch)
    return met


def spiking(qann: nn.Module, T: int, inputs: dict[str, Tensor]) -> dict[str, Callable[[], Any]]:
    para_inf, fire = snn.convert(qann, "para_inf", T), snn.convert(qann, "integrate_fire", T)
    return {
        "ParaInf, collapsed": partial(para_inf, execution="collapsed", record=False, **inputs),
        "ParaInf, parallel": partial(para_inf, execution="parallel", record=False, **inputs),
        "IF, parallel": partial(fire, execution="parallel", record=False, **inputs),
        "IF, stepwise": partial(fire, execution="stepwise", record=False, **inputs),
    }


def print_speed(timings: dict[str, Timing], rows: int) -> None:
    """Pictures per second of each."""
    print(
        "; ".join(f"{name} {rows / timing.seconds:.0f} pictures/s" for name, timing in timings.items()),
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
