"""Checks of a whole config, across its groups, before any work.

Light to import: what is heavy is imported where it is asked.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from snn.compiler import find_compiler
from snn.config import Config, optimizer_section
from snn.errors import ConfigError, did_you_mean
from snn.quantizers.registry import INITS

#: Stages that train a network, each with a section of its own below ``training``.
TRAINED = ("float", "general", "layers", "logits", "quantized", "spiking", "native")
STAGES = (*TRAINED[:4], "calibrate", "quantized", "convert", "spiking", "native", "evaluate")
#: The four stay light to import; tests hold them to :mod:`snn.conversion.training_free`.
CORRECTION_RULES = ("spread", "closed_form", "integral", "leaky")
CORRECTION_ORDERS = ("layerwise", "online")
CORRECTION_REFERENCES = ("relu", "clipped_relu", "qcfs")
OFFSETS = ("membrane", "steps")
DEVICES = ("auto", "cpu")
PRECISIONS = ("auto", "no", "bf16")
_TEACHERS = "name a run's folder, a checkpoint's, a folder or Hub name of transformers, or minilm"
#: ``neuron=own``: the model's arguments describe its neurons.
OWN_NEURON = "own"


def check(config: Config, script: str) -> None:
    """Refuse what cannot work, before any work.

    Args:
        config: The whole config.
        script: ``train``, ``convert`` or ``evaluate``.

    Raises:
        ConfigError: Names the keys and what would work.
    """
    if config.report is not None:
        _check_report(config.report, script)
        return
    if config.export is not None:
        _check_export(config.export, script)
    for name in ("T", "threads"):
        if getattr(config, name) is not None:
            _at_least(name, getattr(config, name), 1)
    _one_of("device", config.device, DEVICES)
    if config.analysis:
        from snn.evaluation.analyses import create_analysis

        create_analysis(config.analysis)
    _one_of("training.precision", config.training.precision, PRECISIONS)
    if config.training.compile and script == "train":
        _check_compiler()
    _one_of("quantization.init", config.quantization.init, INITS)
    if not 0 < config.quantization.percentile <= 100:
        raise ConfigError(
            f"quantization.percentile must be in (0, 100]; got {config.quantization.percentile}"
        )
    config.energy.check()
    _one_of("conversion.thresholds", config.conversion.thresholds, ("follow", "fixed"))
    _one_of("conversion.verify_dtype", config.conversion.verify_dtype, (None, "float32", "float64"))
    for name in ("verify_batches", "verify_batch_size"):
        _at_least(f"conversion.{name}", getattr(config.conversion, name), 1)
    if config.evaluation.limit is not None:
        _at_least("evaluation.limit", config.evaluation.limit, 1)
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
    _check_order(config)
    for name in ("batch_size", "eval_batch_size", "accumulate", "log_every"):
        _at_least(f"training.{name}", getattr(config.training, name), 1)
    for name in ("batches", "rows", "levels"):
        if getattr(config.quantization, name) is not None:
            _at_least(f"quantization.{name}", getattr(config.quantization, name), 1)
    _check_recipe(config)
    _check_frames(config)
    for stage in TRAINED:
        _check_stage(config, stage)
    _check_distillation(config)
    if script != "train":
        if config.checkpoint is None:
            raise ConfigError(f"checkpoint: {script}.py needs checkpoint=FOLDER, such as outputs/NAME/TIME")
    elif config.T is None:
        raise ConfigError("T: train.py needs a number of time steps")
    if config.neuron.get("name") is not None and not _native(config):
        check_pair(config.neuron["name"], config.quantization.name if script == "train" else None, config)


def _check_order(config: Config) -> None:
    stages = config.training.stages
    ordered = [stage for stage in STAGES if stage in stages]
    if list(stages) != ordered:
        raise ConfigError(
            f"training.stages: each once, in the order [{','.join(ordered)}]; got [{','.join(stages)}]"
        )
    if "spiking" in stages and "convert" not in stages and config.training.spiking.epochs > 0:
        raise ConfigError("training.stages: spiking needs convert before it")


def _check_export(form: str, script: str) -> None:
    if script != "convert":
        raise ConfigError(f"export is a key of convert.py; got it for {script}.py")
    _one_of("export", form, ("nir",))
    if find_spec("nir") is None:
        raise ConfigError("export=nir needs the package nir; `pip install nir`")


def _check_compiler() -> None:
    """Refuse to compile where nothing is that compiles."""
    if find_compiler() is None:
        raise ConfigError(
            "training.compile=true needs a C++ compiler (such as g++, or what CXX names), and none was found; "
            "training.compile=false trains the same network more slowly"
        )


def _check_report(report: object, script: str) -> None:
    if script != "evaluate":
        raise ConfigError(f"report is a key of evaluate.py; got it for {script}.py")
    folders = report if isinstance(report, list) else [report]
    wanted = "a folder such as multirun/evaluate/TIME, or a list of folders"
    if not folders:
        raise ConfigError(f"report must be {wanted}; got {report!r}")
    for folder in folders:
        if not isinstance(folder, str):
            raise ConfigError(f"report must be {wanted}; got {report!r}")
        if not Path(folder).is_dir():
            raise ConfigError(f"report={folder}: there is no such folder; expected {wanted}")


def _check_recipe(config: Config) -> None:
    training = config.training
    _one_of("training.monitor", training.monitor, ("metric", "loss"))
    _one_of("training.time_loss", training.time_loss, ("mean", "tet"))
    _at_least("training.workers", training.workers, 0)
    if training.clip_norm is not None and not training.clip_norm > 0:
        raise ConfigError(
            f"training.clip_norm must be above 0, or null for no limit; got {training.clip_norm}"
        )
    if not 0 <= training.label_smoothing < 1:
        raise ConfigError(f"training.label_smoothing must be in [0, 1); got {training.label_smoothing}")
    if training.ema is not None and not 0 < training.ema < 1:
        raise ConfigError(f"training.ema must be between 0 and 1, such as 0.999, or null; got {training.ema}")
    for name in ("mixup", "cutmix"):
        _at_least(f"training.{name}", getattr(training, name), 0)
    if not 0 <= training.mix_probability <= 1:
        raise ConfigError(f"training.mix_probability must be in [0, 1]; got {training.mix_probability}")
    if (training.mixup or training.cutmix) and (config.dataset.kind, config.dataset.task) != (
        "image",
        "classification",
    ):
        key = "mixup" if training.mixup else "cutmix"
        raise ConfigError(
            f"training.{key} mixes pictures and their classes; dataset={config.dataset.name} has none: set it to 0"
        )


def _check_stage(config: Config, stage: str) -> None:
    section, where = getattr(config.training, stage), f"training.{stage}"
    _at_least(f"{where}.epochs", section.epochs, 0)
    for name in ("lr", "threshold_lr"):
        if getattr(section, name) is not None:
            _at_least(f"{where}.{name}", getattr(section, name), 0)
    if not 0 <= section.fade < 1:
        raise ConfigError(f"{where}.fade must be in [0, 1); got {section.fade}")
    if section.fade and stage != "quantized":
        raise ConfigError(f"{where}.fade: quantisers fade in while training.quantized learns; set it to 0")
    if not 0 <= section.freeze_norm <= 1:
        raise ConfigError(f"{where}.freeze_norm must be in [0, 1]; got {section.freeze_norm}")
    runs = stage in config.training.stages and not (stage == "spiking" and section.epochs == 0)
    key, optimizer = optimizer_section(config, stage, section)
    rate = optimizer.get("lr", 0)  # without the key the optimiser has a default of its own
    if rate is not None and not isinstance(rate, int | float):
        raise ConfigError(f"{key}.lr must be a number; got {rate!r}")
    if runs and rate is None and section.lr is None:
        raise ConfigError(f"{key}.lr is null, and so is {where}.lr: give one of them a learning rate")


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


def _check_frames(config: Config) -> None:
    """Frames of events are time steps, so there must be as many as the network has."""
    events = config.dataset.events
    frames = None if events is None else events.frames or config.T
    for key, steps in (("T", config.T), ("model.args.T", config.model.args.get("T"))):
        if frames is not None and steps is not None and frames != steps:
            raise ConfigError(
                f"dataset.events.frames={frames}, but {key}={steps}: each frame is one time step, so they must be "
                "equal (dataset.events.frames=null follows T)"
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
    from snn.conversion.convert import check_options
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
    of_the_network = ("name", "coding", "spread")
    check_options(law, {k: v for k, v in config.neuron.items() if v is not None and k not in of_the_network})


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
    for name, choices in (("balance", ("local",)), ("offsets", OFFSETS)):
        value, neuron = getattr(config.conversion, name), config.neuron.get("name")
        if value is None:
            continue
        _one_of(f"conversion.{name}", value, choices)
        if neuron not in (None, "integrate_fire"):
            raise ConfigError(f"conversion.{name} needs neuron=integrate_fire; got {neuron}")


def _check_distillation(config: Config) -> None:
    sections = {"distillation": config.distillation}
    for stage in TRAINED:
        section = getattr(config.training, stage)
        if section.distillation is not None:
            sections[f"training.{stage}.distillation"] = section.distillation
        if section.distill is not None and not 0 <= section.distill <= 1:
            raise ConfigError(f"training.{stage}.distill must be in [0, 1]; got {section.distill}")
    for where, asked in sections.items():
        if asked.teacher == "":
            raise ConfigError(f"{where}.teacher: {_TEACHERS}")
        weights = {name: getattr(asked, name) for name in ("hidden", "attention", "logits")}
        for name, weight in weights.items():
            _at_least(f"{where}.{name}", weight, 0)
        if not any(weights.values()):
            raise ConfigError(f"{where}: one of {', '.join(weights)} must be above 0, or nothing is learnt")
        if not asked.temperature > 0:
            raise ConfigError(f"{where}.temperature must be positive; got {asked.temperature}")
        _one_of(f"{where}.weighting", asked.weighting, (None, "error"))
        _one_of(f"{where}.adapter", asked.adapter, ("shared", "each", None))
        if isinstance(asked.layers, str):
            _one_of(f"{where}.layers", asked.layers, ("uniform", "last"))
    for stage in config.training.stages:
        if stage in ("general", "layers", "logits") and _no_teacher(config, stage):
            raise ConfigError(
                f"training.stages: {stage} learns from a teacher, distillation.teacher: {_TEACHERS}"
            )


def _no_teacher(config: Config, stage: str) -> bool:
    section = getattr(config.training, stage)
    named = (section.distillation and section.distillation.teacher) or config.distillation.teacher
    return named is None and section.distill != 0 and "float" not in config.training.stages


def _one_of(key: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        names = [str(choice) if choice is not None else "null" for choice in choices]
        raise ConfigError(f"{key}: unknown name {value!r}; {did_you_mean(str(value), names)}")


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}; got {value}")
