"""ResNet-20 converted by SpikingJelly and by snn: the same float network, calibration pictures and time steps.

With --data and --weights the network is a trained one, and its accuracy on test pictures stands beside the time;
without, its weights are random, and time alone is compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from alternate import compare, parser, print_timings
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from vision import pictures, print_speed, quantised, resnet, spiking

import snn
from snn.config import typed
from snn.data.load import load_dataset
from snn.launch import CONF, register
from snn.models.resnet import PaddedShortcut
from snn.tracking.table import text_table

THEIRS, OURS, THIRD = "SpikingJelly, IF, multi-step", "ParaInf, collapsed", 0.33
EXPERIMENT, BATCHES = "training_free_resnet20_cifar10", 10
#: Steps that SpikingJelly is given until it is as accurate as ParaInf.
LONG = (32, 64, 128, 256)

Batch = tuple[Tensor, Tensor]
"""Pictures and their classes."""


def main() -> int:
    options = parser(__doc__, rounds=8)
    options.add_argument("--T", type=int, nargs="+", default=[4, 8, 16], help="time steps")
    options.add_argument("--batch", type=int, default=32, help="pictures per forward (default: %(default)s)")
    options.add_argument("--data", help="folder of CIFAR-10, as for dataset.data_dir")
    options.add_argument("--weights", help="file of a trained ResNet-20, as for model.weights")
    options.add_argument("--pictures", type=int, default=500, help="test pictures (default: %(default)s)")
    args = options.parse_args()
    if bool(args.data) != bool(args.weights):
        options.error("--data and --weights go together")
    if args.quick:
        args.rounds, args.T, args.batch = 2, [2], 2
    if find_spec("spikingjelly") is None:
        print("SpikingJelly is not installed (pip install 'snn[bench]'): nothing to compare with", flush=True)
        return 0
    with torch.no_grad():
        return 0 if compare_both(args) else 1


def compare_both(args: argparse.Namespace) -> bool:
    """At each number of steps; a trained network also over as many as SpikingJelly needs to be as accurate."""
    network, calibration, tests = trained(args) if args.data else (resnet(args.quick), [drawn(8)], [])
    pixels = (tests or [drawn(args.batch)])[0][0]
    theirs, met = converted_by_spikingjelly(network, calibration), True
    floating = accuracy(network, tests) if tests else 0.0
    for T in args.T:
        qann = quantised(network, T, [{"pixel_values": x} for x, _ in calibration])
        things = {THEIRS: partial(over_time, theirs, T, pixels), **spiking(qann, T, {"pixel_values": pixels})}
        timings = compare(things, THEIRS, args.rounds)
        met &= print_timings(f"T = {T}, batch {len(pixels)}", timings, {} if args.quick else {OURS: THIRD})
        print_speed(timings, len(pixels))
        if tests:
            ours = partial(collapsed, snn.convert(qann, "para_inf", T))
            found, reached = accuracy(partial(over_time, theirs, T), tests), accuracy(ours, tests)
            print_accuracy(T, [floating, found, reached])
            met &= reached >= found
    if tests:
        met &= compare_as_accurate(theirs, partial(ours, pixels), tests, reached, args)
    return met


def compare_as_accurate(
    theirs: nn.Module,
    ours: Callable[[], Tensor],
    tests: Sequence[Batch],
    wanted: float,
    args: argparse.Namespace,
) -> bool:
    """ParaInf at its last number of steps; SpikingJelly at the first one where it is as accurate, or the longest."""
    for T in LONG:
        found = accuracy(partial(over_time, theirs, T), tests)
        print(f"SpikingJelly at T = {T}: {100 * found:.1f} %; ParaInf: {100 * wanted:.1f} %", flush=True)
        if found >= wanted:
            break
    things = {THEIRS: partial(over_time, theirs, T, tests[0][0]), OURS: ours}
    title = f"SpikingJelly at T = {T}, ParaInf at T = {args.T[-1]}"
    return print_timings(title, compare(things, THEIRS, args.rounds), {OURS: THIRD})


def trained(args: argparse.Namespace) -> tuple[nn.Module, list[Batch], list[Batch]]:
    """A trained ResNet-20, ten batches of training pictures, and test pictures, classes in proportion."""
    register()
    asked = [
        f"experiment={EXPERIMENT}",
        f"dataset.data_dir={args.data}",
        f"dataset.limit_test={args.pictures}",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = typed(compose("train", asked))
    data, model = load_dataset(config.dataset, seed=config.seed), config.model
    rename = [{"match": rule.match, "to": rule.to} for rule in model.rename]
    arguments = {key: value for key, value in model.args.items() if value is not None}
    network = snn.create_model("resnet20", weights=args.weights, num_classes=10, rename=rename, **arguments)
    with_convolutions(network)
    shuffled = data.loader("train", 32, shuffle=True, augment=False)
    calibration = [as_pair(batch) for _, batch in zip(range(BATCHES), shuffled)]
    return network.eval(), calibration, [as_pair(batch) for batch in data.loader("test", args.batch)]


def with_convolutions(network: nn.Module) -> None:
    """Put convolutions of 1x1 for shortcuts that pad, which SpikingJelly cannot convert: the same function."""
    for block in network.modules():
        padded = getattr(block, "shortcut", None)
        if isinstance(padded, PaddedShortcut):
            width = block.conv1.in_channels
            conv = nn.Conv2d(width, width + padded.before + padded.after, 1, stride=padded.stride, bias=False)
            nn.init.zeros_(conv.weight)
            conv.weight[padded.before : padded.before + width, :, 0, 0] = torch.eye(width)
            block.shortcut = conv


def as_pair(batch: dict[str, Tensor]) -> Batch:
    return batch["pixel_values"].contiguous(memory_format=torch.channels_last), batch["labels"]


def drawn(count: int) -> Batch:
    return pictures(count), torch.zeros(count, dtype=torch.int64)


def converted_by_spikingjelly(model: nn.Module, calibration: Sequence[Batch]) -> nn.Module:
    """Its rate coding: a threshold per layer from the largest activation, norms folded into convolutions."""
    from spikingjelly.activation_based import ann2snn, functional

    # It traces the forward, and the check of shapes in ours cannot be traced.
    parts = (model.stem, model.stages, model.pool, model.flatten, model.classifier)
    recipe = ann2snn.RateCodingRecipe(dataloader=list(calibration), mode="Max")
    network = ann2snn.FXConverter(recipe).convert(nn.Sequential(*parts))  # type: ignore[arg-type]
    functional.set_step_mode(network, "m")
    return network.eval()


def over_time(network: nn.Module, T: int, pixels: Tensor) -> Tensor:
    """Mean output of SpikingJelly's network over so many steps of the same pictures, ``[B, C]``."""
    from spikingjelly.activation_based import functional

    functional.reset_net(network)
    return network(pixels.expand(T, *pixels.shape)).mean(0)


def collapsed(network: nn.Module, pixels: Tensor) -> Tensor:
    """Output of ours after its last step, ``[B, C]``."""
    return network(pixel_values=pixels, execution="collapsed", record=False).logits[-1]


def accuracy(network: Callable[[Tensor], Tensor], tests: Sequence[Batch]) -> float:
    """Share of the pictures whose class is right."""
    right = sum(int((network(pixels).argmax(-1) == labels).sum()) for pixels, labels in tests)
    return right / sum(len(labels) for _, labels in tests)


def print_accuracy(T: int, found: Sequence[float]) -> None:
    columns = ["accuracy in %", "float", "SpikingJelly", "ParaInf"]
    print(text_table(columns, [[f"T = {T}", *(f"{100 * score:.1f}" for score in found)]]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
