"""What can be looked into beyond the figures of a run: ``python evaluate.py checkpoint=FOLDER analysis=NAME``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from snn.errors import ConfigError, did_you_mean
from snn.registry import Registry, accepted

if TYPE_CHECKING:
    from snn.evaluation.session import Session

ANALYSES = Registry(
    "analysis.name",
    {
        "tokens": "snn.evaluation.tokens:TokenAnalysis",
        "early_exit": "snn.evaluation.early_exit:EarlyExit",
        "latency": "snn.evaluation.latency:Latency",
    },
)


class Analysis(ABC):
    """Base of the analyses: dataclasses whose fields are the keys of their config."""

    #: Whether networks that spike by themselves can be looked into as well.
    native: ClassVar[bool] = False

    @abstractmethod
    def check(self, session: Session) -> None:
        """Refuse what cannot work, before any work.

        Raises:
            ConfigError: Names the key and what would work.
        """

    @abstractmethod
    def run(self, session: Session, network: Any) -> None:
        """Look into a network: figures into the session's summary, tables and figures to its trackers.

        Args:
            session: The run.
            network: A :class:`~snn.conversion.network.SpikingNetwork`; any module if :attr:`native`.
        """


def create_analysis(section: Mapping[str, Any]) -> Analysis | None:
    """The analysis that the config section ``analysis`` names; ``None`` if it is empty.

    Raises:
        ConfigError: An unknown name or key, or a value that cannot work.

    Example:
        >>> create_analysis({"name": "early_exit", "tolerance": 0.01}).tolerance
        0.01
    """
    options = dict(section)
    if not options:
        return None
    kind = ANALYSES.get(options.pop("name", None))
    known = accepted(kind)
    for key in options:
        if key not in known:
            raise ConfigError(f"analysis.{key}: no such key; {did_you_mean(str(key), known)}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), options))  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"analysis.{error.full_key}: {str(error).splitlines()[0]}") from None
