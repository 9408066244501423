"""Schemas of the configs, checks across groups, and the one place that instantiates a ``_target_``.

Light to import: no torch here, so that ``--help`` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from snn.data.schema import DatasetConfig
from snn.errors import ConfigError, did_you_mean
from snn.models.schema import ModelConfig
from snn.tracking.schema import TrackingConfig

STAGES = ("float", "calibrate", "quantized", "convert", "evaluate")
PRECISIONS = ("auto", "no", "bf16")
#: Where a ``_target_`` may point. Everything else is chosen by registry name.
ALLOWED_TARGETS = ("torch.optim.", "snn.training.schedule.")


@dataclass
class QuantizationConfig:
    """Which quantiser, where, and how its thresholds are set.

    Attributes:
        name: Registered quantiser.
        levels: Number of levels, null: T; what it means is the quantiser's business. QCFS: steps from 0 to the
            threshold.
        coverage: Which of the model's ``places`` get a quantiser.
        rules: Instead of the places of ``coverage``; see the docs on rules.
        granularity: ``channel`` or ``tensor``: how many values share a threshold.
        threshold: A number for every threshold, trained from there; null: set from data.
        init: How thresholds are set from data: ``mse``, ``max`` or ``percentile``.
        percentile: For ``init: percentile``, in (0, 100].
        batches: Training batches that thresholds are set from.
        rows: Tokens or pixels kept for each quantiser, over all batches.
    """

    name: str = "qcfs"
    levels: int | None = 8
    coverage: str = "full"
    rules: list[dict[str, Any]] | None = None
    granularity: str = "channel"
    threshold: float | None = None
    init: str = "mse"
    percentile: float = 99.9
    batches: int = 11
    rows: int = 4096


@dataclass
class ConversionConfig:
    """What happens around the replacement of quantisers by neurons.

    Attributes:
        thresholds: When T is not the number of levels that was trained: ``follow`` estimates thresholds for T
            levels anew from training data, ``fixed`` keeps them.
        verify: Whether to compare the spiking network with the quantised one, layer by layer.
        verify_batches: Validation batches compared.
        verify_batch_size: Samples in each.
        verify_dtype: ``float64`` compares copies in double precision, where no code may differ; null: as the
            network runs.
        tolerance: Largest logit error allowed where no code differs; null: 1e-4 (1e-9 in float64) of the
            largest logit.
    """

    thresholds: str = "follow"
    verify: bool = True
    verify_batches: int = 2
    verify_batch_size: int = 16
    verify_dtype: str | None = None
    tolerance: float | None = None


@dataclass
class ExecutionConfig:
    """How the time steps of a spiking network are computed.

    Attributes:
        mode: ``parallel``: all at once; ``stepwise``: one by one, memory flat in T; ``collapsed``: final
            counts alone.
        chunk: Steps at once, instead of what ``mode`` says.
    """

    mode: str = "parallel"
    chunk: int | None = None


@dataclass
class StageConfig:
    """One stage of training.

    Attributes:
        epochs: Passes over the training split; 0 leaves the weights alone.
        lr: Learning rate; null: that of the optimizer.
        threshold_lr: Learning rate of thresholds; null: as ``lr``.
        patience: Stop after this many epochs without a better validation metric; null: never.
        distill: Weight of the float network's predictions as soft targets, in [0, 1]; 0: labels alone.
    """

    epochs: int = 1
    lr: float | None = None
    threshold_lr: float | None = None
    patience: int | None = None
    distill: float = 0.0


@dataclass
class TrainingConfig:
    """The stages of a run and how training goes.

    Attributes:
        stages: In order, any of ``float``, ``calibrate``, ``quantized``, ``convert``, ``evaluate``.
        batch_size: Rows per training step on each device.
        eval_batch_size: Rows per evaluation step.
        bucket: Group texts of similar length, which saves padding.
        accumulate: Batches per optimiser step.
        clip_norm: Largest norm of the gradient; null: unlimited.
        label_smoothing: In [0, 1).
        precision: ``no``, ``bf16``, or ``auto``: bf16 where the device is fast at it. Evaluation is
            always float32.
        workers: Processes that prepare batches.
        log_every: Optimiser steps between two lines of ``metrics.jsonl``.
        save_every: Optimiser steps between two resumable states; one is saved after each epoch as well. null:
            epochs only.
        temperature: Of distillation.
        float: Training of the float network.
        quantized: Training of the quantised network.
    """

    stages: list[str] = field(default_factory=lambda: list(STAGES))
    batch_size: int = 32
    eval_batch_size: int = 64
    bucket: bool = True
    accumulate: int = 1
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    precision: str = "auto"
    workers: int = 0
    log_every: int = 10
    save_every: int | None = 200
    temperature: float = 2.0
    float: StageConfig = field(default_factory=StageConfig)
    quantized: StageConfig = field(default_factory=StageConfig)


@dataclass
class EvaluationConfig:
    """What is measured.

    Attributes:
        split: Split that is measured.
        ann: Whether to measure the quantised network beside the spiking one.
        limit: Use this many batches only; null: all.
    """

    split: str = "test"
    ann: bool = True
    limit: int | None = None


@dataclass
class PathsConfig:
    """Folders.

    Attributes:
        outputs: Where single runs go.
        multirun: Where sweeps go.
        cache: Where downloads are kept; null: ``~/.cache/snn``, or ``SNN_CACHE``.
    """

    outputs: str = "outputs"
    multirun: str = "multirun"
    cache: str | None = None


@dataclass
class Config:
    """What all three scripts know.

    Attributes:
        T: Number of time steps of the spiking network; null (convert, evaluate): that of the checkpoint.
        seed: Of weights, order and dropout.
        name: Of the run; null: made of what it does.
        device: ``auto`` or ``cpu``.
        threads: CPU threads; null: torch decides.
        plan: Print what every module becomes, and stop.
        checkpoint: A run's folder, or a checkpoint's.
        resume: A run's folder: go on where it stopped.
    """

    T: int | None = 8
    seed: int = 0
    name: str | None = None
    device: str = "auto"
    threads: int | None = None
    plan: bool = False
    checkpoint: str | None = None
    resume: str | None = None
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    neuron: dict[str, Any] = field(default_factory=dict)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    conversion: ConversionConfig = field(default_factory=ConversionConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


def typed(config: DictConfig) -> Config:
    """The composed config as plain dataclasses, interpolations resolved.

    Raises:
        ConfigError: A value of the wrong type, or an interpolation that leads nowhere.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), config)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(
            ": ".join(str(part).splitlines()[0] for part in (error.full_key, error) if part)
        ) from error
    assert isinstance(result, Config)
    return result


def check(config: Config, script: str) -> None:
    """Refuse what cannot work, before any work.

    Args:
        config: The whole config.
        script: ``train``, ``convert`` or ``evaluate``.

    Raises:
        ConfigError: Names the keys and what would work.
    """
    if config.T is not None and config.T < 1:
        raise ConfigError(f"T must be at least 1; got {config.T}")
    _one_of("training.precision", config.training.precision, PRECISIONS)
    _one_of("conversion.thresholds", config.conversion.thresholds, ("follow", "fixed"))
    for index, stage in enumerate(config.training.stages):
        _one_of(f"training.stages[{index}]", stage, STAGES)
    for name in ("batch_size", "eval_batch_size", "accumulate", "log_every"):
        _at_least(f"training.{name}", getattr(config.training, name), 1)
    for name in ("batches", "rows", "levels"):
        if getattr(config.quantization, name) is not None:
            _at_least(f"quantization.{name}", getattr(config.quantization, name), 1)
    for stage in ("float", "quantized"):
        _at_least(f"training.{stage}.epochs", getattr(config.training, stage).epochs, 0)
    if script != "train":
        if config.checkpoint is None:
            raise ConfigError(f"checkpoint: {script}.py needs checkpoint=FOLDER, such as outputs/NAME/TIME")
    elif config.T is None:
        raise ConfigError("T: train.py needs a number of time steps")
    if config.neuron.get("name") is not None:
        check_pair(config.neuron["name"], config.quantization.name if script == "train" else None, config)


def check_pair(neuron: str, quantization: str | None, config: Config) -> None:
    """Refuse a neuron that is no twin of the quantiser, or that cannot be executed as asked.

    Raises:
        ConfigError: One line that names both keys.
    """
    from snn.neurons.execution import EXECUTIONS, check_execution
    from snn.neurons.registry import NEURONS

    law = NEURONS.get(neuron)
    if quantization is not None and quantization not in law.twins:
        raise ConfigError(f"neuron={neuron} needs quantization={' or '.join(law.twins)}; got {quantization}")
    coding = config.neuron.get("coding")
    if coding is not None and coding not in law.codings:
        raise ConfigError(
            f"neuron={neuron} works under coding {' or '.join(law.codings)}; got neuron.coding={coding}"
        )
    _one_of("execution.mode", config.execution.mode, EXECUTIONS)
    check_execution(law, config.T, config.execution.mode, config.execution.chunk)


def instantiate(config: dict[str, Any], where: str, **arguments: Any) -> Any:
    """Call the ``_target_`` of a config section with its other keys and ``arguments``.

    The only place where a config names code, and only code below :data:`ALLOWED_TARGETS`.

    Raises:
        ConfigError: No target, one that is not allowed or does not exist, or arguments that it does not take.
    """
    settings = dict(config)
    target = settings.pop("_target_", None)
    if not isinstance(target, str) or not target.startswith(ALLOWED_TARGETS):
        raise ConfigError(
            f"{where}._target_: {target!r} is not allowed; it must begin with {' or '.join(ALLOWED_TARGETS)}"
        )
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ConfigError(f"{where}._target_: there is no {target}") from None
    try:
        return found(**arguments, **settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}: unknown name {value!r}; {did_you_mean(str(value), choices)}")


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}; got {value}")
