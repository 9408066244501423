"""What grouping texts by length saves: training steps of BERT on batches of a data set, padded in three ways."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from alternate import ROOT, compare, parser, print_timings
from minilm import float_bert
from omegaconf import OmegaConf
from torch import Tensor

from snn.conversion.call import call_model, labels_removed
from snn.data import DatasetConfig, load_dataset
from snn.data.data import Data
from snn.models.tokenizer import load_tokenizer
from snn.training.losses import classification_loss

TARGET = 1 / 1.3  # of the time with padding to a fixed length
SECONDS = 15.0  # for tokenising the training split
PADDING = "padded to dataset.max_length"


def main() -> int:
    options = parser(__doc__, rounds=4)
    options.add_argument("--dataset", default="sst2", help="a text set (default: %(default)s)")
    options.add_argument("--data-dir", help="its files; without, those of the Hub")
    options.add_argument("--batch", type=int, default=32, help="texts per step (default: %(default)s)")
    options.add_argument("--steps", type=int, default=40, help="steps per time (default: %(default)s)")
    args = options.parse_args()
    if args.quick:
        args.dataset, args.data_dir, args.rounds, args.steps, args.batch = "synthetic_text", None, 2, 4, 4
    data, met = tokenised(args)
    model = float_bert(args.quick).train()
    longest = data.config.max_length
    things: dict[str, Callable[[], None]] = {
        PADDING: steps(model, [padded(b, longest) for b in drawn(data, args, bucket=False)]),
        "padded to the longest of the batch": steps(model, drawn(data, args, bucket=False)),
        "grouped by length": steps(model, drawn(data, args, bucket=True)),
    }
    title = (
        f"{args.steps} training steps on {args.dataset}, batches of {args.batch}, at most {longest} tokens"
    )
    timings = compare(things, PADDING, args.rounds)
    met &= print_timings(title, timings, {} if args.quick else {"grouped by length": TARGET})
    print(f"grouped by length is {1 / timings['grouped by length'].ratio:.1f} times as fast")
    return 0 if met else 1


def tokenised(args: argparse.Namespace) -> tuple[Data, bool]:
    """The data set, tokenised in an empty cache and then from that cache; whether the first was fast enough."""
    made = OmegaConf.load(ROOT / f"conf/dataset/{args.dataset}.yaml")
    config = OmegaConf.to_object(OmegaConf.merge(DatasetConfig, made, {"data_dir": args.data_dir}))
    assert isinstance(config, DatasetConfig)
    tokenizer = load_tokenizer()
    with tempfile.TemporaryDirectory() as cache:
        first, data = timed(lambda: load_dataset(config, seed=0, cache_dir=cache, tokenizer=tokenizer))
        again, _ = timed(lambda: load_dataset(config, seed=0, cache_dir=cache, tokenizer=tokenizer))
    met = args.quick or first <= SECONDS
    print(
        f"{len(data.splits['train']):,} texts to train on, with the other splits: tokenised in {first:.1f} s, from the "
        f"cache {again:.1f} s; target {SECONDS:g} s: {'pass' if met else 'FAIL'}"
    )
    return data, met


def timed(load: Callable[[], Data]) -> tuple[float, Data]:
    start = time.perf_counter()
    data = load()
    return time.perf_counter() - start, data


def drawn(data: Data, args: argparse.Namespace, bucket: bool) -> list[dict[str, Tensor]]:
    """Batches spread evenly over an epoch, so that they are as long and as short as all of them."""
    batches = list(data.loader("train", args.batch, shuffle=True, bucket=bucket))
    return [batches[i] for i in np.linspace(0, len(batches) - 1, args.steps).astype(int)]


def padded(batch: dict[str, Tensor], length: int) -> dict[str, Tensor]:
    """The same texts at a fixed length."""
    missing = length - batch["input_ids"].shape[1]
    return {
        name: torch.nn.functional.pad(value, (0, missing)) if value.dim() == 2 else value
        for name, value in batch.items()
    }


def steps(model: torch.nn.Module, batches: list[dict[str, Tensor]]) -> Callable[[], None]:
    """Forward and backward of every batch; the optimiser's share depends on no length."""

    def run() -> None:
        for batch in batches:
            classification_loss(call_model(model, labels_removed(batch)), batch["labels"]).backward()
            model.zero_grad()

    return run


if __name__ == "__main__":
    sys.exit(main())
