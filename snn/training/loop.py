"""The training loop: one stage, float or quantised, on accelerate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snn.config import Config, StageConfig, optimizer_section
from snn.data.data import Data
from snn.errors import TrainingError
from snn.functional.fused import fused
from snn.functional.padding import valid_positions
from snn.progress import progress
from snn.quantizers.base import Quantizer
from snn.tracking.tracker import Tracker
from snn.training.diagnostics import diagnose
from snn.training.ema import WeightAverage
from snn.training.fade import Fade
from snn.training.frozen_norms import FrozenNorms
from snn.training.memory_format import guard_narrow_convolutions
from snn.training.mixing import Mixing
from snn.training.objective import Batch, LabelObjective, Learner, Objective
from snn.training.optimizer import build_optimizer
from snn.training.resume import load_state, read_progress, save_state
from snn.training.schedule import build_scheduler

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a stage stands: everything about it that is not a tensor.

    Args:
        stage: Name of the stage.
        epoch: Epochs finished.
        batch: Batches of the present epoch that have been used.
        step: Optimiser steps of the whole run.
        best: Best score so far: the metric that the objective judges by, negative where smaller is better.
        best_epoch: The epoch (1-based) that gave it.
        loss_sum: Sum of the losses since the last line of the log.
        loss_count: Their number.
    """

    stage: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[float] = field(default_factory=list)


class Trainer:
    """Trains one network for one stage.

    Args:
        name: Name of the stage, for the log.
        model: The network; at the end it holds the last weights, and ``keep_best`` has seen the best ones, or the
            best average of weights.
        data: With a validation split, on which every choice is made.
        config: The whole config.
        stage: The stage's own section.
        tracker: Where metrics go.
        state: Folder of the resumable state.
        start_step: Optimiser steps that the run has already made in earlier stages.
        objective: What is minimised and judged by; None: the data set's labels.
        keep_best: Called with the network when validation is the best so far.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        data: Data,
        config: Config,
        stage: StageConfig,
        tracker: Tracker,
        state: Path,
        start_step: int = 0,
        objective: Objective | None = None,
        keep_best: Callable[[nn.Module], Any] = lambda model: None,
    ):
        self.name, self.data, self.config, self.stage = name, data, config, stage
        self.tracker, self.state, self.keep_best = tracker, state, keep_best
        settings = config.training
        narrow = guard_narrow_convolutions(model)
        self.channels_last = settings.channels_last and not narrow
        if settings.channels_last and narrow:
            log.info("training.channels_last: not for this network; convolution %s is too narrow", narrow[0])
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        # A sweep runs its jobs in one process, and accelerate's state is a singleton.
        AcceleratorState._reset_state(reset_partial_state=True)
        self.accelerator = Accelerator(
            cpu=config.device == "cpu", gradient_accumulation_steps=settings.accumulate
        )
        batches = math.ceil(
            len(data.splits["train"]) / (settings.batch_size * self.accelerator.num_processes)
        )
        total = stage.epochs * math.ceil(batches / settings.accumulate)
        self.objective = objective or LabelObjective(list(data.config.metrics), settings)
        learner = Learner(model, self.objective)
        key, section = optimizer_section(config, name, stage)
        optimizer = build_optimizer(learner, section, stage.lr, stage.threshold_lr, key)
        self.learner, self.optimizer = self.accelerator.prepare(learner, optimizer)
        self.scheduler = build_scheduler(config, stage, optimizer, total)
        self.autocast = autocast_type(settings.precision, self.accelerator.device)
        self.mixing = Mixing.of(settings, data.num_classes, config.seed)
        self.average = WeightAverage(self.plain, settings.ema) if settings.ema is not None else None
        self.fade = Fade(self.plain, stage.fade * total)
        self.norms = FrozenNorms(self.plain, stage.freeze_norm * total)
        self.progress = Progress(name, step=start_step)
        self.last_good = start_step

    @property
    def plain(self) -> nn.Module:
        """The network itself."""
        return self._learner.network

    @property
    def judged(self) -> nn.Module:
        """What validation looks at and ``keep_best`` gets: the average of the weights, if there is one."""
        return self.plain if self.average is None else self.average.network

    @property
    def _learner(self) -> Learner:
        return self.accelerator.unwrap_model(self.learner)

    @property
    def _resumable(self) -> nn.Module:
        if self.average is None:
            return self._learner
        return nn.ModuleDict({"learner": self._learner, "average": self.average})

    def run(self) -> Progress:
        """Train all epochs, or those that a resumed run has left.

        Raises:
            TrainingError: The loss is not a number.
        """
        saved = read_progress(self.state)
        if saved is not None and saved["stage"] == self.name:
            load_state(self.state, self._resumable, self.optimizer.optimizer, self.scheduler)
            self.progress = Progress(**saved)
            log.info(
                "%s: resumed at epoch %d, batch %d", self.name, self.progress.epoch + 1, self.progress.batch
            )
        while self.progress.epoch < self.stage.epochs and not self._out_of_patience():
            start = time.monotonic()
            samples = self._train_epoch()
            self._end_epoch(samples / (time.monotonic() - start))
        self.fade.stop()
        return self.progress

    def _train_epoch(self) -> float:
        """Train on what is left of an epoch; how many samples that were."""
        settings, at = self.config.training, self.progress
        loader = self.data.loader(
            "train",
            settings.batch_size,
            shuffle=True,
            bucket=settings.bucket,
            epoch=at.epoch,
            start_batch=at.batch,
            workers=settings.workers,
        )
        batches = self.accelerator.prepare_data_loader(loader)
        total = at.batch + len(batches)
        samples = len(self.data.splits["train"]) * len(batches) / total
        bar = progress(
            batches,
            self.name,
            total=total,
            initial=at.batch,
            part=(at.epoch + 1, self.stage.epochs),
            figures=self._figures,
        )
        self.learner.train()
        if not self.stage.dropout:
            stop_dropout(self.learner)
        learnt = False  # whether there is a gradient to step along
        for batch in bar:
            self.fade.move_to(self.scheduler.last_epoch)
            self.norms.move_to(self.scheduler.last_epoch)
            with self.accelerator.accumulate(self.learner):
                loss = self._learn(batch) if batch else None  # None: none of its pictures can be read
                if self.accelerator.sync_gradients and settings.clip_norm:
                    self.accelerator.clip_grad_norm_(self.learner.parameters(), settings.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            at.batch += 1
            if loss is not None:
                learnt, value = True, float(loss)
                self._refuse_nan(value)
                at.loss_sum += value
                at.loss_count += 1
            if self.accelerator.sync_gradients and learnt:
                learnt = False
                self.scheduler.step()
                if self.average is not None:
                    self.average.update(self.plain)
                at.step += 1
                if at.step % settings.log_every == 0:
                    self._log_loss()
                if settings.save_every and at.step % settings.save_every == 0:
                    self._save()
        return samples

    def _learn(self, batch: Batch) -> Tensor:
        """Add the gradient of a batch; its loss."""
        loss = self._loss(self._prepared(batch))
        self.accelerator.backward(loss)
        return loss.detach()

    def _prepared(self, batch: Batch) -> Batch:
        if self.mixing is not None:
            batch = self.mixing(batch, self.progress.epoch, self.progress.batch)
        pixels = batch.get("pixel_values")
        if self.channels_last and pixels is not None and pixels.dim() == 4:
            batch = {**batch, "pixel_values": pixels.contiguous(memory_format=torch.channels_last)}
        return batch

    def _loss(self, batch: Batch) -> Tensor:
        device = self.accelerator.device
        lower = torch.autocast(
            device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None
        )
        compiled = fused() if self.config.training.compile else nullcontext()
        with lower, compiled, valid_positions(batch.get("attention_mask")):  # quantisers may start themselves
            return self.learner(batch)

    def _end_epoch(self, speed: float) -> None:
        at, settings = self.progress, self.config.training
        self._log_loss()
        validation = self.data.loader(
            "validation", settings.eval_batch_size, bucket=settings.bucket, workers=settings.workers
        )
        found = self.objective.validate(self.judged, validation, f"{self.name} validation")
        some = self.data.loader("validation", settings.eval_batch_size, limit=1)
        health = diagnose(self.judged, next(iter(some)))
        metrics = {f"{self.name}/validation/{k}": v for k, v in found.metrics.items()}
        metrics |= {f"{self.name}/health/{k}": v for k, v in health.items()}
        at.epoch, at.batch = at.epoch + 1, 0
        self.tracker.log({**metrics, "epoch": at.epoch, "samples_per_second": round(speed, 1)}, at.step)
        log.info(
            "%s epoch %d/%d: validation %s %.4f, loss %.4f, %.0f samples/s",
            self.name,
            at.epoch,
            self.stage.epochs,
            found.metric,
            found.metrics[found.metric],
            found.metrics["loss"],
            speed,
        )
        at.history.append(found.score)
        if found.score > at.best:
            at.best, at.best_epoch = found.score, at.epoch
            self.keep_best(self.judged)
        self._save()

    def _figures(self) -> dict[str, float]:
        at = self.progress
        best = {"best": self.objective.value(at.best)} if at.best_epoch else {}
        return ({"loss": at.loss_sum / at.loss_count} if at.loss_count else {}) | best

    def _log_loss(self) -> None:
        at = self.progress
        if at.loss_count:
            rate = self.scheduler.get_last_lr()[0]
            self.tracker.log({f"{self.name}/train/loss": at.loss_sum / at.loss_count, "lr": rate}, at.step)
        at.loss_sum, at.loss_count = 0.0, 0

    def _save(self) -> None:
        if not all(bool(p.isfinite().all()) for p in self._learner.parameters()):
            raise self._not_finite("weights are not finite", self.progress.step)
        if self.accelerator.is_main_process:
            save_state(
                self.state, self._resumable, self.optimizer.optimizer, self.scheduler, asdict(self.progress)
            )
        self.last_good = self.progress.step

    def _refuse_nan(self, value: float) -> None:
        if not math.isfinite(value):
            raise self._not_finite(f"the loss is {value}", self.progress.step + 1)

    def _not_finite(self, what: str, step: int) -> TrainingError:
        kept = f"the state of step {self.last_good} and the best network so far are kept"
        return TrainingError(
            f"{self.name}: {what} at step {step} (epoch {self.progress.epoch + 1}); training stopped; "
            f"{kept if self.state.exists() else 'no state was saved before'}. "
            "A lower optimizer.lr or training.clip_norm may help"
        )

    def _out_of_patience(self) -> bool:
        at = self.progress
        return (
            self.stage.patience is not None
            and at.epoch - at.best_epoch >= self.stage.patience
            and at.epoch > 0
        )


def stop_dropout(model: nn.Module) -> None:
    """Leave in training mode only what learns from its batches: batch norm, and quantisers that are still to start.

    Dropout is not one kind of module: attention, for one, hands a probability to a kernel while it is in training mode.
    """
    for module in model.modules():
        module.training = module.training and isinstance(module, (_BatchNorm, Quantizer))


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that matrix products are computed in while training; ``None``: float32.

    ``auto`` is bfloat16 where the device multiplies it fast: recent GPUs, and CPUs with instructions for it (AMX,
    AVX-512 BF16).
    """
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
        if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
            return torch.bfloat16
    return None
