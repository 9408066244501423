"""Checks of a whole config, across its groups, before any work.

Light to import: what is heavy is imported where it is asked.
"""

from __future__ import annotations

from snn.config import Config
from snn.errors import ConfigError, did_you_mean
from snn.quantizers.registry import INITS

STAGES = ("float", "calibrate", "quantized", "convert", "spiking", "native", "evaluate")
#: The three stay light to import; tests hold them to :mod:`snn.conversion.training_free`.
CORRECTION_RULES = ("spread", "closed_form", "integral", "leaky")
CORRECTION_ORDERS = ("layerwise", "online")
CORRECTION_REFERENCES = ("relu", "clipped_relu", "qcfs")
PRECISIONS = ("auto", "no", "bf16")
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


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}: unknown name {value!r}; {did_you_mean(str(value), choices)}")


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise ConfigError(f"{key} must be at least {least}; got {value}")
