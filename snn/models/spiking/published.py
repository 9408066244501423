"""Names of the published networks' weights, so that files from their authors load as they are.

Layers of the blocks are called there by what they are and a number (``proj_conv1``, ``fc1_linear``); weights that the
networks hold and never use are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import Tensor

from snn.models.architecture import Renames, WeightsDescription
from snn.models.renaming import rename_keys

#: What a network wrapped for several devices puts in front.
_WRAPPED = r"(?:module\.)?"
_CONV = "(?:conv|linear)"
#: Norms that are built and never called, a table of positions that nobody reads, a mixing of heads likewise, and what
#: neurons hold as parameters.
_DEAD = (
    r"norm\d?\.\w+",
    r"(?:block|stage\d)\.\d+\.norm\d\.\w+",
    r"(?:\w+\.)*pos_embed\d?",
    r"(?:\w+\.)*talking_heads\.\w+",
    r"(?:\w+\.)*\w*lif\d?\.(?:\w+\.)*\w+",
)


def _layers(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Rules for a convolution or linear layer, and the norm behind it.

    Args:
        pairs: Pattern of the name there, ``{}`` where it says which of the two it is, and the place here.
    """
    for there, here in pairs:
        for kind, name in ((_CONV, "conv"), ("bn", "norm")):
            pattern = _WRAPPED + there.format(kind) + r"\.(\w+)"
            yield f"re:{pattern}", f"{here}.{name}.\\{re.compile(pattern).groups}"


def _rules(layers: Iterable[tuple[str, str]]) -> Renames:
    dead = tuple((f"re:{_WRAPPED}{pattern}", None) for pattern in _DEAD)
    head = ((rf"re:{_WRAPPED}head\.(\w+)", r"classifier.\1"),)
    return (*_layers(layers), *head, *dead)


def _attention(there: str, here: str, out: str) -> list[tuple[str, str]]:
    parts = [(f"{there}{name[0]}_{{}}", f"{here}{name}.layer") for name in ("query", "key", "value")]
    return [*parts, (f"{there}proj_{{}}", f"{here}{out}")]


_STAGES = [(rf"patch_embed\.proj_{{}}{stage or ''}", f"embedding.stages.{stage}.layer") for stage in range(4)]
_BLOCK, _OUR_BLOCK = r"block\.(\d+)\.", r"blocks.\1."
SPIKFORMER_NAMES = _rules(
    [
        *_STAGES,
        (r"patch_embed\.rpe_{}", "embedding.position.layer"),
        *_attention(rf"{_BLOCK}attn\.", f"{_OUR_BLOCK}attention.", "out.layer"),
        (rf"{_BLOCK}mlp\.fc1_{{}}", f"{_OUR_BLOCK}mlp.0.layer"),
        (rf"{_BLOCK}mlp\.fc2_{{}}", f"{_OUR_BLOCK}mlp.1.layer"),
    ]
)
TIM_NAMES = (
    (rf"re:{_WRAPPED}{_BLOCK}attn\.(?:\w+\.)?interactor\.(\w+)", rf"{_OUR_BLOCK}attention.on_query.conv.\2"),
    *SPIKFORMER_NAMES,
)
SDT_NAMES = _rules(
    [
        *_STAGES[:3],
        (r"patch_embed\.proj_{}3", "embedding.stages.3"),
        (r"patch_embed\.rpe_{}", "embedding.position"),
        *_attention(rf"{_BLOCK}attn\.", f"{_OUR_BLOCK}attention.", "out"),
        (rf"{_BLOCK}mlp\.fc1_{{}}", f"{_OUR_BLOCK}mlp.1"),
        (rf"{_BLOCK}mlp\.fc2_{{}}", f"{_OUR_BLOCK}mlp.3"),
    ]
)
#: Layers of the first patch embedding in the order of their numbers, by stem.
_STEMS = {
    "cifar": ["0", "1.main"],
    "imagenet": ["0", "1.main.0", "1.main.1"],
    "events": ["0.0", "0.1", "1.main.0", "1.main.1"],
}
_MOST_STAGES = 3


def qkformer_names(stem: str) -> Renames:
    """Of a QKFormer with that stem: stages and the embeddings in front of them take turns."""
    layers = [("patch_embed1.proj_res_{}", "embedding.1.shortcut.layer")]
    for number, here in enumerate(_STEMS[stem]):
        layers.append((rf"patch_embed1\.proj{number or ''}_{{}}", f"embedding.{here}.layer"))
    for stage in range(1, _MOST_STAGES + 1):
        there, here = rf"stage{stage}\.(\d+)\.", rf"blocks.{2 * stage - 2}.\1."
        layers += _attention(rf"{there}\w*(?:attn|ssa)\.", f"{here}attention.", "out.layer")
        layers += [(rf"{there}mlp\.(?:fc|mlp)1_{{}}", f"{here}mlp.0.layer")]
        layers += [(rf"{there}mlp\.(?:fc|mlp)2_{{}}", f"{here}mlp.1.layer")]
    for stage in range(2, _MOST_STAGES + 1):
        there, here = rf"patch_embed{stage}\.", f"blocks.{2 * stage - 3}."
        layers += [
            (f"{there}proj3_{{}}", f"{here}main.0.layer"),
            (f"{there}proj4_{{}}", f"{here}main.1.layer"),
        ]
        layers += [(f"{there}proj_res_{{}}", f"{here}shortcut.layer")]
    return _rules(layers)


def _qkformer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The stem is told by how many layers the first embedding has."""
    stem = "cifar"
    for key in tensors:
        if re.fullmatch(rf"{_WRAPPED}patch_embed1\.proj3_conv\.weight", key):
            stem = "events"
        elif stem == "cifar" and re.fullmatch(rf"{_WRAPPED}patch_embed1\.proj2_conv\.weight", key):
            stem = "imagenet"
    return _as_maps(rename_keys(tensors, [], qkformer_names(stem)))


def _as_maps(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layers of single tokens as convolutions with a kernel of 1, whichever layer they are in the file."""

    def shaped(key: str, tensor: Tensor) -> Tensor:
        of_tokens = tensor.dim() == 2 or (tensor.dim() == 3 and tensor.shape[2] == 1)
        if not key.endswith(".layer.conv.weight") and not re.search(r"(out|mlp\.\d)\.conv\.weight$", key):
            return tensor
        return tensor.reshape(*tensor.shape[:2], 1, 1) if of_tokens else tensor

    return {key: shaped(key, tensor) for key, tensor in tensors.items()}


def published(names: Renames) -> Callable[[Path], WeightsDescription]:
    """What :class:`~snn.models.architecture.Architecture` asks of files with such names."""
    return lambda _: WeightsDescription(renames=names, convert=_as_maps)


def published_qkformer(_: Path) -> WeightsDescription:
    """As :func:`published`, for a QKFormer with any stem."""
    return WeightsDescription(convert=_qkformer)
