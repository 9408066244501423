"""Short forms on the command line, written out before Hydra sees them."""

from __future__ import annotations

import re

_MODEL, _TIMM = "model=", "timm:"
#: Mappings that take keys of the user's own, which Hydra adds only where that is said.
_OPEN = re.compile(r"(?:(?:\w+\.)*dataset\.(?:rename|splits|hub_splits)|model\.args\.options)(?:\.[^=]+)?=")


def written_out(arguments: list[str]) -> list[str]:
    """``model=timm:NAME`` is ``model=timm model.args.name=NAME``, also for a list of them, and new keys of
    ``dataset.rename``, ``dataset.splits``, ``dataset.hub_splits`` and ``model.args.options`` need no ``+``.

    Example:
        >>> written_out(["model=timm:resnet50", "T=4"])
        ['model=timm', 'model.args.name=resnet50', 'T=4']
        >>> written_out(["-m", "model=timm:resnet18,timm:resnet34"])
        ['-m', 'model=timm', 'model.args.name=resnet18,resnet34']
        >>> written_out(["dataset.rename={title: text}"])
        ['++dataset.rename={title: text}']
        >>> written_out(["model.args.options.depth=4"])
        ['++model.args.options.depth=4']
    """
    out = []
    for argument in arguments:
        names = argument.removeprefix(_MODEL).split(",")
        if argument.startswith(_MODEL) and all(name.startswith(_TIMM) for name in names):
            chosen = ",".join(name.removeprefix(_TIMM) for name in names)
            out += [f"{_MODEL}timm", f"model.args.name={chosen}"]
        elif _OPEN.match(argument):
            out.append(f"++{argument}")
        else:
            out.append(argument)
    return out
