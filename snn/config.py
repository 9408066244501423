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
from snn.evaluation.energy_profile import EnergyProfile
from snn.models.schema import ModelConfig
from snn.quantizers.registry import INITS
from snn.tracking.schema import TrackingConfig

STAGES = ("float", "calibrate", "quantized", "convert", "spiking", "native", "evaluate")
#: What a conversion goes through.
CONVERSION_STAGES = ("float", "calibrate", "quantized", "convert", "spiking", "evaluate")
#: The three stay light to import; tests hold them to :mod:`snn.conversion.training_free`.
CORRECTION_RULES = ("spread", "closed_form", "integral", "leaky")
CORRECTION_ORDERS = ("layerwise", "online")
CORRECTION_REFERENCES = ("relu", "clipped_relu", "qcfs")
PRECISIONS = ("auto", "no", "bf16")
#: ``neuron=own``: the model's arguments describe its neurons.
OWN_NEURON = "own"
#: Where a ``_target_`` may point. Everything else is chosen by registry name.
ALLOWED_TARGETS = ("torch.optim.", "snn.training.schedule.", "snn.training.bert_adam.")


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
        threshold: A number for every threshold, one per tensor, trained from there; null: set from data.
        init: How thresholds are set from data: ``mse``, ``max``, ``percentile``, ``first_batch``, ``ema20`` or
            ``one_over_qp``; a rule may say otherwise for its places.
        percentile: For ``init: percentile``, in (0, 100].
        batches: Training batches that thresholds are set from; ``first_batch`` and ``one_over_qp`` take 1,
            ``ema20`` takes 20 or as many as these.
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
class CorrectionConfig:
    """How DA-QCFS gets its shifts and heights, from the batches that thresholds are set from.

    Attributes:
        rule: ``spread``, ``closed_form``, ``integral`` or ``leaky``; null: thresholds alone are set.
        order: ``layerwise``: one quantiser after the other; ``online``: all at once, batch by batch.
        reference: What a quantiser ought to put out: ``relu``, ``clipped_relu`` or ``qcfs``.
        reference_levels: Levels of ``reference: qcfs``.
        decay: Of ``leaky``, per batch, in [0, 1).
        rate: Of ``integral``, in (0, 1].
        rows: Pairs of input values per channel that are looked at, over all batches.
        weights: Whether linear layers and convolutions are solved anew for quantised inputs, by least squares;
            with ``order: layerwise``.
    """

    rule: str | None = "spread"
    order: str = "layerwise"
    reference: str = "relu"
    reference_levels: int = 8
    decay: float = 0.99
    rate: float = 0.5
    rows: int = 16384
    weights: bool = False


@dataclass
class ConversionConfig:
    """What happens around the replacement of quantisers by neurons.

    Attributes:
        stages: What ``training.stages`` is unless it is given: in order, any of ``float``, ``calibrate``,
            ``quantized``, ``convert``, ``spiking``, ``evaluate``.
        correction: Of shifts and heights, where the quantiser has them.
        balance: ``local``: after that, thresholds are chosen anew, layer by layer, for integrate-and-fire neurons
            that get spikes; null: not.
        thresholds: When T is not the number of levels that was trained: ``follow`` estimates thresholds for T
            levels anew from training data, ``fixed`` keeps them.
        verify: Whether to compare the spiking network with the quantised one, layer by layer.
        verify_batches: Validation batches compared.
        verify_batch_size: Samples in each.
        verify_dtype: ``float64`` compares copies in double precision, where no code may differ; null: as the
            network runs.
        tolerance: Largest logit error allowed where no code differs; null: 1e-4 (1e-9 in float64) of the
            largest logit.
        transform_config: A NewComputeBench ``transform_cfg.yaml`` that says where the quantisers go, instead of
            ``quantization.rules`` and the model's places.
        max_error: Largest logit error allowed at all, also for methods that promise no equality; null: any.
        min_agreement: Least share of predictions that both networks must share, in [0, 1]; null: any.
        require_settled: Whether counts that would still change after T are a failure, or only reported.
        attribute: Whether to measure what clipping, rounding and unevenness cost; null: where the method
            is not exact.
    """

    stages: list[str] = field(default_factory=lambda: list(CONVERSION_STAGES))
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    balance: str | None = None
    thresholds: str = "follow"
    verify: bool = True
    verify_batches: int = 2
    verify_batch_size: int = 16
    verify_dtype: str | None = None
    tolerance: float | None = None
    transform_config: str | None = None
    max_error: float | None = None
    min_agreement: float | None = None
    require_settled: bool = False
    attribute: bool | None = None


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
        stages: In order, any of ``float``, ``calibrate``, ``quantized``, ``convert``, ``spiking``, ``native``,
            ``evaluate``.
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
        time_loss: Of a network that spikes by itself: ``mean``, the loss of its mean output over the steps, or
            ``tet``, the mean of the losses of all steps.
        float: Training of the float network.
        quantized: Training of the quantised network.
        spiking: Training of the spiking network itself, through time.
        native: Training of a network that spikes by itself.
    """

    stages: list[str] = field(default_factory=lambda: list(CONVERSION_STAGES))
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
    time_loss: str = "mean"
    float: StageConfig = field(default_factory=StageConfig)
    quantized: StageConfig = field(default_factory=StageConfig)
    spiking: StageConfig = field(default_factory=lambda: StageConfig(epochs=0))
    native: StageConfig = field(default_factory=StageConfig)


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
    energy: EnergyProfile = field(default_factory=EnergyProfile)
    analysis: dict[str, Any] = field(default_factory=dict)
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
    if config.analysis:
        from snn.evaluation.analyses import create_analysis

        create_analysis(config.analysis)
    _one_of("training.precision", config.training.precision, PRECISIONS)
    _one_of("quantization.init", config.quantization.init, INITS)
    if not 0 < config.quantization.percentile <= 100:
        raise ConfigError(
            f"quantization.percentile must be in (0, 100]; got {config.quantization.percentile}"
        )
    config.energy.check()
    _one_of("conversion.thresholds", config.conversion.thresholds, ("follow", "fixed"))
    _check_training_free(config)
    if config.conversion.transform_config is not None:
        _check_transform(config)
    for name in ("tolerance", "max_error"):
        if getattr(config.conversion, name) is not None:
            _at_least(f"conversion.{name}", getattr(config.conversion, name), 0)
    agreement = config.conversion.min_agreement
    if agreement is not None and not 0 <= agreement <= 1:
        raise ConfigError(f"conversion.min_agreement must be in [0, 1]; got {agreement}")
    for index, stage in enumerate(config.training.stages):
        _one_of(f"training.stages[{index}]", stage, STAGES)
    for name in ("batch_size", "eval_batch_size", "accumulate", "log_every"):
        _at_least(f"training.{name}", getattr(config.training, name), 1)
    for name in ("batches", "rows", "levels"):
        if getattr(config.quantization, name) is not None:
            _at_least(f"quantization.{name}", getattr(config.quantization, name), 1)
    _one_of("training.time_loss", config.training.time_loss, ("mean", "tet"))
    for stage in ("float", "quantized", "spiking", "native"):
        _at_least(f"training.{stage}.epochs", getattr(config.training, stage).epochs, 0)
    if script != "train":
        if config.checkpoint is None:
            raise ConfigError(f"checkpoint: {script}.py needs checkpoint=FOLDER, such as outputs/NAME/TIME")
    elif config.T is None:
        raise ConfigError("T: train.py needs a number of time steps")
    if config.neuron.get("name") is not None and not _native(config):
        check_pair(config.neuron["name"], config.quantization.name if script == "train" else None, config)


def _check_transform(config: Config) -> None:
    if config.quantization.name != "lsq":
        raise ConfigError(
            "conversion.transform_config places LSQ quantisers, so it needs quantization=lsq (neuron=st_bif brings "
            f"it); got {config.quantization.name}"
        )
    if config.quantization.rules is not None:
        raise ConfigError(
            "conversion.transform_config and quantization.rules both say where the quantisers go; give one of them"
        )


def _native(config: Config) -> bool:
    """Whether the model spikes by itself, with a neuron that then fits.

    Raises:
        ConfigError: A neuron or an option of it that the model cannot have.
    """
    from snn.models.registry import MODELS, architecture_of, list_models
    from snn.neurons.registry import NATIVE_NEURONS, NEURONS
    from snn.registry import accepted

    def takes_neuron(name: str) -> bool:
        return "neuron" in accepted(architecture_of(name).build)

    neuron, model = config.neuron["name"], config.model.name
    if model in MODELS and architecture_of(model).native:
        from snn.neurons.native import neuron_factory

        if takes_neuron(model) == (neuron == OWN_NEURON):
            native = ", ".join(NATIVE_NEURONS.names())
            fitting = native if neuron == OWN_NEURON else f"{OWN_NEURON} and model.args"
            raise ConfigError(f"neuron={neuron} does not fit model={model}, which takes neuron={fitting}")
        if neuron != OWN_NEURON:
            neuron_factory(config.neuron)
        return True
    if neuron == OWN_NEURON or (neuron in NATIVE_NEURONS and neuron not in NEURONS):
        fits = [name for name in list_models(native=True) if takes_neuron(name) != (neuron == OWN_NEURON)]
        native = ", ".join(fits)
        raise ConfigError(
            f"neuron={neuron} is for networks that are trained as spiking ones (model={native}); "
            f"others are converted to neuron={', '.join(NEURONS.names())}; got model={model}"
        )
    return False


def check_pair(neuron: str, quantization: str | None, config: Config) -> None:
    """Refuse a neuron that is no twin of the quantiser, or that cannot be executed as asked.

    Raises:
        ConfigError: One line that names both keys.
    """
    from snn.neurons.execution import EXECUTIONS, check_execution, check_spread
    from snn.neurons.registry import NEURONS

    law = NEURONS.get(neuron)
    if quantization is not None and quantization not in law.twins:
        raise ConfigError(f"neuron={neuron} needs quantization={' or '.join(law.twins)}; got {quantization}")
    coding = config.neuron.get("coding")
    if coding is not None and coding not in law.codings:
        raise ConfigError(
            f"neuron={neuron} works under coding {' or '.join(law.codings)}; got neuron.coding={coding}"
        )
    spread = config.neuron.get("spread")
    check_spread(1 if spread is None else spread, coding or law.codings[0], config.T)
    _one_of("execution.mode", config.execution.mode, EXECUTIONS)
    check_execution(law, config.T, config.execution.mode, config.execution.chunk)


def _check_training_free(config: Config) -> None:
    asked, where = config.conversion.correction, "conversion.correction"
    if asked.rule is not None:
        _one_of(f"{where}.rule", asked.rule, CORRECTION_RULES)
    _one_of(f"{where}.order", asked.order, CORRECTION_ORDERS)
    _one_of(f"{where}.reference", asked.reference, CORRECTION_REFERENCES)
    if asked.weights and asked.order != "layerwise":
        raise ConfigError(f"{where}.weights needs {where}.order=layerwise; got {asked.order}")
    for name in ("rows", "reference_levels"):
        _at_least(f"{where}.{name}", getattr(asked, name), 1)
    if not 0 <= asked.decay < 1:
        raise ConfigError(f"{where}.decay must be in [0, 1); got {asked.decay}")
    if not asked.rate > 0:
        raise ConfigError(f"{where}.rate must be positive; got {asked.rate}")
    if config.conversion.balance is not None:
        _one_of("conversion.balance", config.conversion.balance, ("local",))
        if config.neuron.get("name") not in (None, "integrate_fire"):
            raise ConfigError(f"conversion.balance needs neuron=integrate_fire; got {config.neuron['name']}")


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


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}; got {value}")
