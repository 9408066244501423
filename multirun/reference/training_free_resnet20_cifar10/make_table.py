"""Measure every training-free method on one network and data set, and write ``results.csv`` as it goes.

Each row is what ``python train.py experiment=training_free_resnet20_cifar10`` gives with the settings of its
method; the data are read once here, and one run of rate coding serves all T.

    python make_table.py DATA/cifar10 DATA/weights/resnet20_cifar10.safetensors
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

import snn
from snn.config import Config, typed
from snn.conversion.training_free.balance import balance
from snn.conversion.training_free.correct import correct
from snn.conversion.training_free.offsets import set_offsets
from snn.data.load import load_dataset
from snn.evaluation.evaluate import evaluate
from snn.launch import CONF, register
from snn.models.registry import create_model

HERE = Path(__file__).parent
STEPS = (2, 4, 8, 16, 32, 64)
#: As in the reports of sweeps, which can be made from it: ``python evaluate.py report=FOLDER``.
SAME = {
    "model": "resnet20",
    "dataset": "cifar10_jpeg",
    "split": "test",
    "metric": "accuracy",
    "status": "finished",
}
COLUMNS = ("neuron", "method", "calibration_batches", "T", "spiking", "samples", "float", *SAME)
BATCH, ROWS = 32, 32768
CLOSED = {"rule": "closed_form"}


@dataclass
class Method:
    """One row of the table.

    Args:
        neuron: Registered name.
        name: For people.
        init: How thresholds are set.
        correction: Arguments of ``correct``; ``None``: thresholds alone.
        initial: Membrane at the start, of integrate-and-fire.
        local: Whether thresholds are balanced for spiking inputs.
        rate: Whether thresholds do not depend on T, so that one run is read at every T.
        offsets: Charge beside the input, ``membrane`` or ``steps``: with ten batches, and up to 16 steps.
    """

    neuron: str
    name: str
    init: str = "mse"
    correction: dict[str, Any] | None = None
    initial: float | None = None
    local: bool = False
    rate: bool = False
    offsets: str | None = None


PARA, IF = "para_inf_channelwise", "integrate_fire"
RELEASED = {"rule": "leaky", "order": "online", "reference": "clipped_relu"}
METHODS = [
    Method(PARA, "spread and weights, layer by layer", correction={"rule": "spread", "weights": True}),
    Method(PARA, "spread, layer by layer", correction={"rule": "spread"}),
    Method(PARA, "closed form, layer by layer", correction=CLOSED),
    Method(PARA, "thresholds alone"),
    Method(PARA, "closed form, online", correction={**CLOSED, "order": "online"}),
    Method(PARA, "as released: maxima, leaky, online", init="max", correction=RELEASED),
    Method(IF, "rate, 99.9th percentile, membrane from 1/2", init="percentile", initial=0.5, rate=True),
    Method(IF, "rate, 99.9th percentile, membrane from 0", "percentile", None, 0.0, rate=True),
    Method(IF, "rate, maxima, membrane from 0", "max", None, 0.0, rate=True),
    Method(IF, "shift and height, closed form", "mse", CLOSED, 0.5),
    Method(IF, "shift and height, initial membrane", "mse", CLOSED, 0.5, offsets="membrane"),
    Method(IF, "shift and height, shift per step", "mse", CLOSED, 0.5, offsets="steps"),
    Method(IF, "local balancing", "percentile", None, 0.5, local=True),
]


@dataclass
class Table:
    """``results.csv``, which knows what it holds already, so that a stopped run goes on."""

    path: Path
    done: set[tuple[str, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.path.exists():
            with self.path.open() as file:
                self.done = {tuple(row.values())[:4] for row in csv.DictReader(file)}
        else:
            self.path.write_text(",".join(COLUMNS) + "\n")

    def missing(self, *key: Any) -> bool:
        return tuple(map(str, key)) not in self.done

    def add(self, *key: Any, accuracy: float, samples: int, baseline: float) -> None:
        with self.path.open("a") as file:
            row = [*key, f"{accuracy:.4f}", samples, f"{baseline:.4f}", *SAME.values()]
            csv.writer(file, lineterminator="\n").writerow(row)
        sys.stderr.write(f"{key} {accuracy:.4f}\n")


def cells() -> Iterator[tuple[Method, int, int]]:
    """The table's cells, those first that say most, and last those that take long."""
    for (neuron, local), count in itertools.product(((PARA, False), (IF, False), (IF, True)), (10, 100, 1)):
        for method in METHODS:
            if (method.neuron, method.local) == (neuron, local):
                for T in (64,) if method.rate else STEPS:
                    if method.offsets is None or (count == 10 and T <= 16):
                        yield method, count, T


def spiking(method: Method, model: torch.nn.Module, rules: list[Any], batches: list[Any], T: int) -> Any:
    """The network of one cell."""
    levels, name = (1 if method.rate else T), "da_qcfs" if method.correction else "qcfs"
    if method.neuron == PARA:
        name = "da_qcfs"
    made = snn.quantize(model, rules, name=name, levels=levels).eval()
    snn.calibrate(made, batches, init=method.init, rows=8192, max_batches=len(batches))
    if method.correction:
        correct(made, batches, rows=ROWS, **method.correction)
    options = {} if method.initial is None else {"initial": method.initial}
    if method.local:
        balance(made, batches, T, **options)
    if method.offsets:
        set_offsets(made, batches, T, method.offsets, **options)
    return snn.convert(
        made, method.neuron, T, execution="collapsed" if method.neuron == PARA else "stepwise", **options
    )


def main(data_dir: str, weights: str, rate_images: int = 500) -> None:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["experiment=training_free_resnet20_cifar10", f"dataset.data_dir={data_dir}"]
        config: Config = typed(compose("train", [*overrides, "dataset.limit_test=2000"]))
    data = load_dataset(config.dataset, seed=config.seed)
    rename = [{"match": rule.match, "to": rule.to} for rule in config.model.rename]
    arguments = {k: v for k, v in config.model.args.items() if v is not None} | {"in_channels": 3}
    model = create_model("resnet20", weights=weights, num_classes=10, rename=rename, **arguments).eval()
    table, rules = Table(HERE / "results.csv"), config.model.places["full"]
    calibration = list(zip(range(100), data.loader("train", BATCH, shuffle=True, epoch=0, augment=False)))
    tests = {PARA: list(data.loader("test", 250)), IF: []}
    # The split is sorted by class: every fourth picture, so that classes stay in proportion.
    whole = {k: torch.cat([b[k] for b in tests[PARA]]) for k in tests[PARA][0]}
    stride = len(whole["labels"]) // rate_images
    tests[IF] = [{k: v[::stride][i : i + 250] for k, v in whole.items()} for i in range(0, rate_images, 250)]
    baseline = {neuron: evaluate(model, tests[neuron]).score for neuron in (PARA, IF)}
    for method, count, T in cells():
        if not table.missing(method.neuron, method.name, count, T):
            continue
        batches = [batch for _, batch in calibration[:count]]
        found = evaluate(spiking(method, model, rules, batches, T), tests[method.neuron], record=False)
        over_time = found.per_timestep.get("accuracy", [])
        for t in STEPS if method.rate else (T,):
            accuracy = over_time[t - 1] if method.rate else found.score
            key = method.neuron, method.name, count, t
            table.add(*key, accuracy=accuracy, samples=found.samples, baseline=baseline[method.neuron])


def draw(batches: str = "10") -> None:
    """The figure: the methods at one number of calibration batches."""
    from snn.tracking import frontier
    from snn.tracking.frontier_figures import score_over_cost
    from snn.tracking.style import save
    from snn.tracking.sweep_jobs import read_jobs

    jobs = [job for job in read_jobs(HERE) if job.overrides["calibration_batches"] == batches]
    (facet,) = frontier.facets([job for job in jobs if job.facts["neuron"] == PARA])
    for index, point in enumerate(facet.points):
        facet.points[index] = replace(point, label=point.label.removeprefix("method="))
    subtitle = f"ResNet-20, CIFAR-10 (JPEG), {batches} batches of {BATCH}; ringed: Pareto set"
    save(score_over_cost(facet, frontier.STEPS, subtitle=subtitle), HERE / "figures" / "accuracy_over_T")


if __name__ == "__main__":
    main(*sys.argv[1:3])
    draw()
