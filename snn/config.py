"""Schemas of the configs.

Light to import: no torch here, so that ``--help`` is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from snn.data.schema import DatasetConfig
from snn.errors import ConfigError
from snn.evaluation.energy_profile import EnergyProfile
from snn.models.schema import ModelConfig
from snn.tracking.schema import TrackingConfig

#: What a conversion goes through.
CONVERSION_STAGES = ("float", "calibrate", "quantized", "convert", "spiking", "evaluate")


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
        offsets: Charge that integrate-and-fire neurons get beside their input, chosen layer by layer just before
            conversion: ``membrane``: one per channel, at the start; ``steps``: another at every step; null: none.
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
    offsets: str | None = None
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
        integer: Multiply spikes as integers where the machine is faster so (CPUs with AMX); as exact as float32.
    """

    mode: str = "parallel"
    chunk: int | None = None
    integer: bool = False


@dataclass
class DistillationConfig:
    """What there is to be learnt from a teacher; ``training.STAGE.distill`` says how much of the loss it is.

    Attributes:
        teacher: A run's folder, a checkpoint's, a folder or Hub name of transformers, or ``minilm``; null: the float
            network of this run.
        hidden: Weight of the outputs of embedding and layers, by mean squared error, >= 0.
        attention: Weight of attention scores in front of the softmax, by mean squared error, >= 0.
        logits: Weight of predictions: divergence of classes, mean squared error of measurements; >= 0.
        temperature: That softens the predictions of classes, > 0.
        weighting: Of a sample's predictions: null: all alike; ``error``: by how much larger the student's error is
            than the teacher's.
        layers: The teacher's layer for each of the student's: ``uniform``, the last of each of as many equal
            blocks; ``last``, the last ones; or a list of their numbers, from 1.
        adapter: Linear map that is learnt from the student's width to the teacher's: ``shared`` by all outputs, one for
            ``each``, or null: none, for equal widths.
        start: Whether a SpikingBERT starts from the teacher's embeddings and the layers that its own learn from.
        cache: Whether the teacher's outputs for a data set are kept on disk, below ``paths.cache``.
    """

    teacher: str | None = None
    hidden: float = 0.0
    attention: float = 0.0
    logits: float = 1.0
    temperature: float = 2.0
    weighting: str | None = None
    layers: Any = "uniform"
    adapter: str | None = "shared"
    start: bool = False
    cache: bool = False


@dataclass
class StageConfig:
    """One stage of training.

    Attributes:
        epochs: Passes over the training split; 0 leaves the weights alone.
        lr: Learning rate; null: that of the optimizer.
        threshold_lr: Learning rate of thresholds; null: as ``lr``.
        fade: Share of the steps, in [0, 1), after which quantisers quantise in full; until then they fade in.
        freeze_norm: Share of the steps, in [0, 1], after which batch norms use their running statistics, as in
            evaluation, and no longer those of each batch; 1: never.
        patience: Stop after this many epochs without a better validation metric; null: never.
        dropout: Whether the network's own dropout (of units, probabilities, paths) is on; false suits a network that is
            to equal its teacher. A spiking network is trained through time without it in any case.
        distill: Share of ``distillation`` in the loss, in [0, 1]; the rest is that of labels. null: 1 where it names
            a teacher, else 0.
        dataset: Instead of the run's; null: that.
        distillation: Instead of the run's; null: that. One without a teacher has the run's.
        optimizer: Instead of the run's; null: that.
        scheduler: Instead of the run's; null: that.
    """

    epochs: int = 1
    lr: float | None = None
    threshold_lr: float | None = None
    fade: float = 0.0
    freeze_norm: float = 1.0
    patience: int | None = None
    dropout: bool = True
    distill: float | None = None
    dataset: DatasetConfig | None = None
    distillation: DistillationConfig | None = None
    optimizer: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None


@dataclass
class TrainingConfig:
    """The stages of a run and how training goes.

    Attributes:
        stages: In order, any of ``float``, ``general``, ``layers``, ``logits``, ``calibrate``, ``quantized``,
            ``convert``, ``spiking``, ``native``, ``evaluate``.
        batch_size: Rows per training step on each device.
        eval_batch_size: Rows per evaluation step.
        bucket: Group texts of similar length, which saves padding.
        accumulate: Batches per optimiser step.
        clip_norm: Largest norm of the gradient; null: unlimited.
        label_smoothing: In [0, 1).
        ema: Decay of a moving average of the weights, such as 0.999, that is judged and kept in place of the weights
            themselves; null: none.
        mixup: Parameter of the beta distribution that pictures are mixed by; 0: off.
        cutmix: The same for pasting a part of another picture; 0: off. With both, half of the batches each.
        mix_probability: Share of the batches that are mixed, in [0, 1].
        channels_last: Whether the values of a pixel lie side by side in memory, which suits convolutions.
        compile: Whether quantisers and LIF neurons that train are compiled: see :func:`snn.functional.fused.fused`.
        precision: ``no``, ``bf16``, or ``auto``: bf16 where the device is fast at it. Evaluation is
            always float32.
        workers: Processes that prepare batches.
        log_every: Optimiser steps between two lines of ``metrics.jsonl``.
        save_every: Optimiser steps between two resumable states; one is saved after each epoch as well. null:
            epochs only.
        monitor: What the best epoch is chosen by on validation: ``metric``, the first of the data set, or ``loss``,
            which says more where samples are few.
        time_loss: Of a network that spikes by itself: ``mean``, the loss of its mean output over the steps, or
            ``tet``, the mean of the losses of all steps.
        float: Training of the float network.
        quantized: Training of the quantised network.
        spiking: Training of the spiking network itself, through time.
        native: Training of a network that spikes by itself.
        general: The first of three stages of distillation in a row: on plain text. What each of the three learns, and
            on which data, its own section says.
        layers: The second: the teacher's layers, on the task's data.
        logits: The third: the teacher's predictions.
    """

    stages: list[str] = field(default_factory=lambda: list(CONVERSION_STAGES))
    batch_size: int = 32
    eval_batch_size: int = 64
    bucket: bool = True
    accumulate: int = 1
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    ema: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0
    channels_last: bool = False
    compile: bool = False
    precision: str = "auto"
    workers: int = 0
    log_every: int = 10
    save_every: int | None = 200
    monitor: str = "metric"
    time_loss: str = "mean"
    float: StageConfig = field(default_factory=StageConfig)
    quantized: StageConfig = field(default_factory=StageConfig)
    spiking: StageConfig = field(default_factory=lambda: StageConfig(epochs=0))
    native: StageConfig = field(default_factory=StageConfig)
    general: StageConfig = field(default_factory=StageConfig)
    layers: StageConfig = field(default_factory=StageConfig)
    logits: StageConfig = field(default_factory=StageConfig)


@dataclass
class EvaluationConfig:
    """What is measured.

    Attributes:
        split: Split that is measured.
        ann: Whether to measure the quantised network beside the spiking one.
        limit: Use this many batches only, of rows spread evenly over the split; null: all.
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
        device: ``auto``, a GPU if there is one, or ``cpu``.
        threads: CPU threads; null: torch decides.
        plan: Print what every module becomes, and stop.
        checkpoint: A run's folder, or a checkpoint's.
        resume: A run's folder: go on where it stopped.
        export: Of convert.py: ``nir`` writes the network as a NIR graph, too; null: not.
        report: Of evaluate.py: sweeps and runs, a folder or a list of them, to write a report of instead.
    """

    T: int | None = 8
    seed: int = 0
    name: str | None = None
    device: str = "auto"
    threads: int | None = None
    plan: bool = False
    checkpoint: str | None = None
    resume: str | None = None
    export: str | None = None
    report: Any = None
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    neuron: dict[str, Any] = field(default_factory=dict)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    conversion: ConversionConfig = field(default_factory=ConversionConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
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


def optimizer_section(config: Config, name: str, stage: StageConfig) -> tuple[str, dict[str, Any]]:
    """The section that the optimiser of the stage ``name`` is made from, its own or the run's, after its key."""
    if stage.optimizer is not None:
        return f"training.{name}.optimizer", stage.optimizer
    return "optimizer", config.optimizer
