"""Training step of BERT (forward, backward, AdamW) with QCFS against the step with GELU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from alternate import compare, parser, print_timings
from minilm import float_bert, quantized_bert, random_texts
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.training.losses import classification_loss
from snn.training.optimizer import build_optimizer

TARGET = 1.25
# So small that the networks stay what they are over all rounds.
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 1e-7, "weight_decay": 0.01}
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}


def main() -> int:
    options = parser(__doc__, rounds=12)
    options.add_argument("--levels", type=int, default=8, help="QCFS levels (default: %(default)s)")
    options.add_argument("--batch", type=int, default=32, help="texts per step (default: %(default)s)")
    options.add_argument("--lengths", type=int, nargs="+", default=[32, 64], help="tokens per text")
    options.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    args = options.parse_args()
    if args.quick:
        args.rounds, args.batch, args.lengths = 2, 2, [8]
    networks = build(args)
    met = True
    for precision in args.precisions:
        for length in args.lengths:
            batch = random_texts(args.batch, length)
            steps = {name: step(net, batch, PRECISIONS[precision]) for name, net in networks.items()}
            title = f"Training step, {precision}, batch {args.batch} × {length} tokens"
            timings = compare(steps, "GELU", args.rounds)
            targets = {} if args.quick else {"QCFS in place of GELU": TARGET}
            met &= print_timings(title, timings, targets)
    return 0 if met else 1


def build(args: argparse.Namespace) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
    """Networks by name, each with its optimiser."""
    gelu = float_bert(args.quick)
    networks = {
        "GELU": gelu,
        "QCFS in place of GELU": quantized_bert(gelu, "ffn", args.levels),
        "QCFS everywhere": quantized_bert(gelu, "full", args.levels),
    }
    return {name: (net.train(), build_optimizer(net, ADAMW)) for name, net in networks.items()}


def step(
    network: tuple[nn.Module, torch.optim.Optimizer], batch: dict[str, Tensor], dtype: torch.dtype | None
) -> Callable[[], None]:
    """One training step as a callable; ``dtype``: of autocast, ``None`` for float32 throughout."""
    model, optimizer = network
    inputs = labels_removed(batch)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
            logits = call_model(model, inputs)
        classification_loss(logits, batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    sys.exit(main())
