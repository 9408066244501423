"""A NewComputeBench ``transform_cfg.yaml``, read as it is: the rules that put quantisers in the same places.

Its three blocks quantise a RoBERTa module by module, turn the attention modules into spiking ones, and then
everything else, type by type. Here the first block becomes rules; the other two have nothing left to do, because
every module is its own spiking operator in aggregate coordinates. They are checked, and what they would touch is
counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from snn.conversion.rules import Rule
from snn.errors import ConfigError, did_you_mean

QUANTIZATION, ATTENTION, REST = BLOCKS = (
    "quantization_config",
    "snn_transformer_config_attn",
    "snn_transformer_config_fc",
)
_NEURON = "ST-BIF"
#: What each replacement is called for, and the arguments that it takes beside its name.
_LSQ, _ZIP, _BIAS, _IDENTITY, _ST_BIF = "lsqinteger", "zip_tf", "unfold_bias", "identity", "st_bif"
_BY_TYPE: dict[str, tuple[str, type[nn.Module] | None]] = {
    "embedding": (_ZIP, nn.Embedding),
    "layernorm": (_ZIP, nn.LayerNorm),
    "linear": (_BIAS, nn.Linear),
    "relu": (_IDENTITY, nn.ReLU),
    "lsqinteger": (_ST_BIF, None),
}


@dataclass(frozen=True)
class _Place:
    """One quantiser relative to a matched module.

    Args:
        child: What is appended to: a child's name, or empty for the module itself.
        signed: Whether codes may be negative.
        call: A function inside the module instead.
    """

    child: str
    signed: bool
    call: str | None = None


#: Quantisers by the end of the module's name. As released: the context and what goes into tanh are unsigned, so
#: that all their negative values are lost; the embeddings stay without.
_PLACES: dict[str, tuple[_Place, ...]] = {
    "attention.self": (
        _Place("query", True),
        _Place("key", True),
        _Place("value", True),
        _Place("", False, call="softmax"),
        _Place("", False),
    ),
    "attention.output": (_Place("dense", True), _Place("LayerNorm", True)),
    "intermediate": (_Place("dense", False),),
    "output": (_Place("dense", True), _Place("LayerNorm", True)),
    "classifier": (_Place("dense", False),),
}


@dataclass(frozen=True)
class TransformReport:
    """What a configuration touches in a model.

    Args:
        quantized_modules: Modules that the first block replaces.
        quantizers: Quantisers in them.
        attention_modules: Modules that the second block replaces.
        by_type: Modules that the third block replaces, by its type names.
    """

    quantized_modules: int
    quantizers: int
    attention_modules: int
    by_type: Mapping[str, int]

    def __str__(self) -> str:
        rest = ", ".join(f"{count} {kind}" for kind, count in self.by_type.items())
        return (
            f"{QUANTIZATION}: {self.quantized_modules} modules, {self.quantizers} quantisers; "
            f"{ATTENTION}: {self.attention_modules}; {REST}: {rest}"
        )


@dataclass(frozen=True)
class TransformConfig:
    """A checked configuration, free of any model; it is never changed.

    Args:
        levels: Codes of the quantisers by the pattern of their modules.
        attention: Patterns of the second block.
        types: Type names of the third block, in order.
        where: Config key and file, for messages.
    """

    levels: Mapping[str, int]
    attention: tuple[str, ...]
    types: tuple[str, ...]
    where: str

    def rules(self, model: nn.Module) -> list[Rule]:
        """The first block as rules for ``model``.

        Raises:
            ConfigError: A pattern matches no module, or one that no place is known for.
        """
        return [
            Rule(
                match="re:" + "|".join(re.escape(f"{name}.{place.child}".rstrip(".")) for name in names),
                call=place.call,
                by="lsq",
                options={"levels": self.levels[pattern], "signed": place.signed, "granularity": "tensor"},
            )
            for pattern, names, places in self._matches(model)
            for place in places
        ]

    def report(self, model: nn.Module) -> TransformReport:
        """How many modules of ``model`` each block touches.

        Raises:
            ConfigError: As :meth:`rules`; or a pattern of the second block matches nothing that the first quantised.
        """
        quantized = {name: len(places) for _, names, places in self._matches(model) for name in names}
        spiking = set()
        for pattern in self.attention:
            found = {name for name in quantized if re.fullmatch(pattern, name)}
            if not found:
                raise ConfigError(
                    f"{self.where}: {ATTENTION}: {pattern!r} matches no module that {QUANTIZATION} quantises"
                )
            spiking |= found
        quantizers = sum(quantized.values())
        counts = {}
        for kind in self.types:
            module_type = _BY_TYPE[kind][1]
            if module_type is None:
                counts[kind] = quantizers - sum(quantized[name] for name in spiking)
            else:
                counts[kind] = sum(isinstance(m, module_type) for m in model.modules())
        return TransformReport(len(quantized), quantizers, len(spiking), counts)

    def _matches(self, model: nn.Module) -> list[tuple[str, list[str], tuple[_Place, ...]]]:
        """Per pattern and kind of module: the names that match, and the places of their quantisers."""
        names = [name for name, _ in model.named_modules() if name]
        taken: set[str] = set()
        result: list[tuple[str, list[str], tuple[_Place, ...]]] = []
        for pattern in self.levels:
            where = f"{self.where}: {QUANTIZATION}: {pattern!r}"
            matched = [name for name in names if re.fullmatch(pattern, name) and name not in taken]
            if not matched:
                raise ConfigError(f"{where} matches no module")
            taken.update(matched)
            by_kind: dict[str, list[str]] = {}
            for name in matched:
                by_kind.setdefault(_kind(name, where), []).append(name)
            for kind, found in by_kind.items():
                for name in found:
                    _check_children(model, name, _PLACES[kind], where)
                result.append((pattern, found, _PLACES[kind]))
        return result


def read_transform_config(path: str | Path) -> TransformConfig:
    """Read and check a ``transform_cfg.yaml``.

    Raises:
        ConfigError: No such file, or content that is not supported; the message names the file and the key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError(f"conversion.transform_config={path} cannot be read: {reason}") from None
    where = f"conversion.transform_config={path}"
    if not isinstance(content, dict) or QUANTIZATION not in content:
        raise ConfigError(f"{where}: expected a mapping with {QUANTIZATION}")
    for key in content:
        if key not in BLOCKS:
            raise ConfigError(f"{where}: unknown block {key!r}; {did_you_mean(str(key), BLOCKS)}")
    quantized = _entries(content, QUANTIZATION, "regex", where)
    levels = {}
    for pattern, config in quantized.items():
        place = f"{where}: {QUANTIZATION}.{pattern}"
        _check_pattern(pattern, place)
        _check_config(config, _LSQ, {"level"}, place)
        levels[pattern] = _level(config, place)
    attention = _entries(content, ATTENTION, "regex", where) if ATTENTION in content else {}
    for pattern, config in attention.items():
        place = f"{where}: {ATTENTION}.{pattern}"
        _check_pattern(pattern, place)
        _check_config(config, _ZIP, {"level", "neuron_type"}, place)
    rest = _entries(content, REST, "type", where) if REST in content else {}
    for kind, config in rest.items():
        place = f"{where}: {REST}.{kind}"
        if kind not in _BY_TYPE:
            raise ConfigError(f"{place}: unknown type; {did_you_mean(kind, _BY_TYPE)}")
        _check_config(
            config, _BY_TYPE[kind][0], {"level", "neuron_type"} if kind == "linear" else set(), place
        )
    return TransformConfig(levels, tuple(attention), tuple(rest), where)


def _entries(content: Mapping[str, Any], block: str, by: str, where: str) -> dict[str, Mapping[str, Any]]:
    """The ``config`` of each entry of a block."""
    entries = content[block]
    if not isinstance(entries, dict) or entries.get("by") != by:
        got = entries.get("by") if isinstance(entries, dict) else entries
        raise ConfigError(f"{where}: {block}.by must be {by}; got {got!r}")
    result = {}
    for key, entry in entries.items():
        if key == "by":
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            raise ConfigError(f"{where}: {block}.{key} needs a config with a name; got {entry!r}")
        for other in set(entry) - {"config", "manual_instantiate"}:
            raise ConfigError(
                f"{where}: {block}.{key}.{other} is not supported; config, manual_instantiate are"
            )
        result[str(key)] = entry["config"]
    return result


def _check_pattern(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where} is no regex: {error}") from None


def _check_config(config: Mapping[str, Any], name: str, known: set[str], where: str) -> None:
    if config.get("name") != name:
        raise ConfigError(f"{where}.config.name: only {name} is supported here; got {config.get('name')!r}")
    for key in set(config) - known - {"name"}:
        raise ConfigError(f"{where}.config.{key} is not supported; {', '.join(['name', *sorted(known)])} are")
    if config.get("neuron_type", _NEURON) != _NEURON:
        raise ConfigError(
            f"{where}.config.neuron_type: only {_NEURON} is supported; got {config['neuron_type']!r}"
        )


def _level(config: Mapping[str, Any], where: str) -> int:
    level = config.get("level")
    if not isinstance(level, int) or isinstance(level, bool) or level < 3:
        raise ConfigError(f"{where}.config.level: expected a whole number of codes >= 3; got {level!r}")
    if level >= 256:
        # The released code quantises nothing then, and has no threshold to convert.
        raise ConfigError(
            f"{where}.config.level: {level} codes stand for no quantiser there; give fewer than 256"
        )
    return level


def _kind(name: str, where: str) -> str:
    for kind in _PLACES:  # attention.output comes before output
        if f".{name}".endswith(f".{kind}"):
            return kind
    raise ConfigError(
        f"{where} matches {name}, for which no places are known; names that end in {', '.join(_PLACES)} are"
    )


def _check_children(model: nn.Module, name: str, places: tuple[_Place, ...], where: str) -> None:
    module = model.get_submodule(name)
    for place in places:
        if place.child and place.child not in module._modules:
            raise ConfigError(f"{where} matches {name}, a {type(module).__name__} without a {place.child}")
