"""What every script does around its work: seed, device, data, trackers, lineage, summary."""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn.config import Config
from snn.data.data import Data
from snn.data.events import EventSplit
from snn.data.load import load_dataset
from snn.data.overlap import boundaries, without_measured
from snn.data.schema import DatasetConfig
from snn.errors import ConfigError, did_you_mean
from snn.evaluation.energy import energy
from snn.evaluation.evaluate import Measurement, evaluate
from snn.evaluation.lineage import command_of, lineage, sweep_of
from snn.evaluation.neurobench import neurobench
from snn.evaluation.operations import OperationCounts
from snn.evaluation.raster import raster
from snn.evaluation.scores import check_scores
from snn.tracking.files import write_json
from snn.tracking.table import text_table
from snn.tracking.tracker import RunInfo, Trackers, create_trackers

log = logging.getLogger(__name__)

#: A confusion matrix of more classes is not kept.
MOST_CLASSES = 100


class Session:
    """One run of a script.

    Args:
        config: The checked config.
        folder: The run's folder.
        trackers: Open trackers; their ``summary`` becomes ``summary.json``.
    """

    def __init__(self, config: Config, folder: Path, trackers: Trackers):
        self.config, self.folder, self.trackers = config, folder, trackers
        self.tokenizer: Any = None
        self.dataset = config.dataset
        self._task: DatasetConfig | None = None
        #: The run's own data set, while there is another one (:meth:`on`).
        self._own: DatasetConfig | None = None
        #: How the checkpoint was converted, if there is one and it was.
        self.parent_neuron: dict[str, Any] = {}
        #: Kind of the offsets that its neurons get, if they get any; setting thresholds drops them.
        self.parent_offsets: str | None = None
        #: The quantised network that the present one was made from, if that had another number of levels.
        self.trained: nn.Module | None = None
        self._opened: list[tuple[DatasetConfig, Any, Data]] = []

    @property
    def summary(self) -> dict[str, Any]:
        return self.trackers.summary

    @cached_property
    def device(self) -> torch.device:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        # A sweep runs its jobs in one process, and the state is a singleton.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(cpu=self.config.device == "cpu").device

    @property
    def has_data(self) -> bool:
        """Whether any data set has been opened."""
        return bool(self._opened)

    @property
    def data(self) -> Data:
        """The data set, opened when it is first asked for."""
        return self._read(self.dataset)

    @property
    def task(self) -> DatasetConfig:
        """The data set that networks are for, also while they learn on another one."""
        return self._task or self.dataset

    @property
    def task_data(self) -> Data:
        """That data set, opened."""
        return self._read(self.task)

    def _read(self, dataset: DatasetConfig) -> Data:
        """A data set, opened once for each tokenizer; the summary speaks of the one that networks are for."""
        same = [
            data
            for asked, tokenizer, data in self._opened
            if asked == dataset and tokenizer is self.tokenizer
        ]
        data = same[0] if same else self._open(dataset)
        if dataset == self.task:
            self.summary["dataset"] = dataset.name
            self.summary["source"] = data.source
            self.summary.setdefault("lineage", {})["data_fingerprint"] = data.fingerprint
        return data

    def _open(self, dataset: DatasetConfig) -> Data:
        if dataset.labelled:
            check_scores(list(dataset.metrics), dataset.task)
        with self.timed("data"):
            if dataset.events is not None and dataset.events.frames is None:
                dataset.events.frames = self.config.T
            data = load_dataset(
                dataset,
                seed=self.config.seed,
                cache_dir=self.config.paths.cache,
                tokenizer=self.tokenizer,
            )
            if self._own not in (None, dataset) and dataset.task != "corpus":
                data = without_measured(data, self._read(self._own), boundaries(self.tokenizer))
        log.info("%s: %s", dataset.name, data.source)
        self._opened.append((dataset, self.tokenizer, data))
        names = {split: rows.names for split, rows in data.splits.items() if isinstance(rows, EventSplit)}
        if names:  # which recordings are in which split
            write_json(self.folder / "splits.json", names)
        return data

    @contextmanager
    def on(self, dataset: DatasetConfig | None, *, task: bool) -> Iterator[None]:
        """Inside, the session has another data set, such as that of a stage that brings its own; what the run's own is
        measured or chosen by is left out of its training rows.

        Args:
            dataset: None: the one that it has.
            task: Whether networks are for that from now on, or only learn on it.
        """
        before = self.dataset, self._task, self._own
        if dataset is not None:
            self._own = self._own or self.dataset
            self._task = None if task else self.task
            self.dataset = dataset
        try:
            yield
        finally:
            self.dataset, self._task, self._own = before

    def evaluated_split(self) -> str:
        """The split that is measured.

        Raises:
            ConfigError: The data set has no such split.
        """
        split = self.config.evaluation.split
        if split not in self.data.splits:
            raise ConfigError(
                f"evaluation.split: dataset={self.dataset.name} has no split {split!r}; "
                f"{did_you_mean(split, self.data.splits)}"
            )
        return split

    def batches(self, split: str, size: int | None = None, **options: Any) -> Any:
        """A loader over a split in a fixed order, similar lengths together."""
        training = self.config.training
        options = {"bucket": training.bucket, "workers": training.workers, **options}
        return self.data.loader(split, size or training.eval_batch_size, **options)

    def calibration_batches(self) -> Iterator[Any]:
        """Training batches that thresholds are set from: the same for every network of the run."""
        training = self.config.training
        loader = self.data.loader(
            "train", training.batch_size, shuffle=True, epoch=0, augment=False, workers=training.workers
        )
        return itertools.islice(loader, self.config.quantization.batches)

    def measure(self, name: str, model: nn.Module, split: str, **options: Any) -> Measurement:
        """Evaluate and say so.

        Raises:
            ConfigError: The data set has no labels.
        """
        if not self.dataset.labelled:
            raise ConfigError(f"dataset={self.dataset.name} has no labels to measure by; give dataset=NAME")
        with self.timed(f"evaluate {name}"):
            result = evaluate(
                model,
                self.batches(split, limit=self.config.evaluation.limit),
                metrics=list(self.dataset.metrics),
                description=f"{name} on {split}",
                **options,
            )
        time_steps = f", T = {result.T}" if result.T else ""
        found = ", ".join(f"{k} {v:.4f}" for k, v in result.metrics.items() if k != "loss")
        log.info("%s on %s%s: %s (%d samples)", name, split, time_steps, found, result.samples)
        return result

    def record_spiking(self, network: nn.Module, spiking: Measurement, quantized: Measurement | None) -> None:
        """Put the spiking network's figures into the summary, with how often it agrees with the quantised one; its
        energy goes into files of its own too."""
        result = spiking.to_dict()
        if quantized is not None:
            result["agreement"] = agreement = spiking.agreement(quantized)
            log.info(
                "same prediction as the quantised network: %d of %d",
                agreement["same_prediction"],
                agreement["samples"],
            )
        self.summary.setdefault("results", {})["spiking"] = result
        self.summary["layers"] = spiking.layers
        self._record_looks(network, spiking)
        self.summary["neurobench"] = neurobench(network, spiking)
        if spiking.operations is not None:
            self._record_energy(spiking.operations)

    def _record_looks(self, network: nn.Module, spiking: Measurement) -> None:
        """What there is to look at beside the figures: what was taken for what, the spikes of a few neurons."""
        names, split = list(self.data.label_names), self.summary["split"]
        if spiking.confusion and len(names) == len(spiking.confusion) <= MOST_CLASSES:
            self.summary["confusion"] = {"labels": names, "counts": spiking.confusion}
        if spiking.layers:
            self.summary["raster"] = raster(network, next(iter(self.batches(split, 1, bucket=False))))

    def _record_energy(self, counts: OperationCounts) -> None:
        found = energy(counts, self.config.energy)
        record = found.to_dict()
        write_json(self.folder / "energy.json", record)
        rows = [operator.row() for operator in found.operators]
        self.trackers.table("energy", list(rows[0]), [list(row.values()) for row in rows])
        self.summary["energy"] = {key: value for key, value in record.items() if key != "operators"}
        self.summary["results"]["spiking"]["energy_uj"] = found.networks[-1]["energy_uj"]
        log.info("energy: %s", found.verdict)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time spent to the summary's durations, in seconds, and let trackers know what goes on."""
        start = time.monotonic()
        self.trackers.enter(name)
        try:
            yield
        finally:
            self.trackers.leave(name)
            durations = self.summary.setdefault("durations", {})
            durations[name] = round(durations.get(name, 0.0) + time.monotonic() - start, 3)

    def about(self, **more: Any) -> dict[str, Any]:
        """What a checkpoint should know of its making."""
        return {
            "dataset": asdict(self.task),
            "seed": self.config.seed,
            "lineage": self.summary["lineage"],
            **more,
        }


@contextmanager
def open_session(
    config: Config, folder: Path, script: str, resume_step: int | None = None
) -> Iterator[Session]:
    """Set up a run and close it whatever happens: trackers, ``summary.json``, ``report.md``."""
    seed_everything(config.seed)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trackers = create_trackers(config.tracking, keep_until_step=resume_step)
    with trackers:
        session = Session(config, folder, trackers)
        trackers.start(RunInfo(asdict(config), folder, config.name or script, sweep_of(folder), script))
        session.summary.update(
            name=config.name,
            command=command_of(script, folder),
            seed=config.seed,
            T=config.T,
            device=str(session.device),
            model=config.model.name,
            neuron=config.neuron.get("name"),
            lineage=lineage(config),
        )
        yield session
    say_results(session)


def say_results(session: Session) -> None:
    """The figures of a finished run, on the terminal, and where to look further."""
    names = {"float": "float ANN", "calibrated": "quantised, not trained", "quantized": "quantised ANN"}
    converted = "spiking network, as converted"
    rows, metrics = [], list(session.dataset.metrics)
    for name, result in session.summary.get("results", {}).items():
        label = (
            names.get(name) or f"{converted if name == 'converted' else 'spiking network'}, T = {result['T']}"
        )
        values = [result["metrics"][metric] for metric in metrics]
        rows.append([label, *values, result["samples"], result.get("spike_rate")])
    if rows:
        measured = [f"{session.summary.get('split')} {metric}" for metric in metrics]
        columns = ["network", *measured, "samples", "spikes per neuron and step"]
        sys.stdout.write(f"\n{text_table(columns, rows)}\n")
    sys.stdout.write(f"\nReport: {session.folder / 'report.md'}\n")
    figure = session.folder / "figures" / "accuracy_over_time.png"
    if figure.exists():
        sys.stdout.write(f"Figure: {figure}\n")


def seed_everything(seed: int) -> None:
    """Seed torch; data order and augmentation have generators of their own."""
    if seed < 0:
        raise ConfigError(f"seed must be at least 0; got {seed}")
    torch.manual_seed(seed)
