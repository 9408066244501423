"""Learning from a teacher: outputs of layers, attention scores, predictions, with or without true labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from snn.config import DistillationConfig
from snn.conversion.call import labels_removed
from snn.errors import CheckpointError, ConfigError
from snn.tracking.files import write_bytes
from snn.training.layer_map import layer_map
from snn.training.losses import (
    distillation_loss,
    error_weights,
    for_outputs,
    masked_difference,
    regression_loss,
)
from snn.training.objective import Batch, LabelObjective, Objective, Verdict
from snn.training.taps import Signals, Taps
from snn.training.teacher import Teacher

log = logging.getLogger(__name__)

#: The adapter of a stage, beside its checkpoint.
ADAPTER = "adapter.safetensors"


class Adapter(nn.Module):
    """Linear maps from the outputs of a student's layers to the width of its teacher's.

    Args:
        width: Of the student.
        target: Of the teacher.
        outputs: Number of outputs, the embedding's among them.
        kind: ``shared``: one map for all; ``each``: one for each; None: none.

    Raises:
        ConfigError: No map, but different widths.
    """

    def __init__(self, width: int, target: int, outputs: int, kind: str | None):
        super().__init__()
        if kind is None and width != target:
            raise ConfigError(
                f"distillation.adapter=null needs equal widths, but the student's is {width} and the teacher's "
                f"{target}; use distillation.adapter=shared or each"
            )
        count = {None: 0, "shared": 1, "each": outputs}[kind]
        maps = [nn.Linear(width, target) for _ in range(count)]
        for linear in maps:
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.maps = nn.ModuleList(maps)

    def forward(self, outputs: tuple[Tensor, ...]) -> list[Tensor]:
        if len(self.maps) == 0:
            return list(outputs)
        return [self.maps[index % len(self.maps)](x) for index, x in enumerate(outputs)]


def reaches_head(config: DistillationConfig, share: float) -> bool:
    """Whether a student's predictions are trained: by labels, or by what the teacher predicts."""
    return share < 1 or config.logits > 0


class DistilledObjective(Objective):
    """The loss of a student: ``(1 - share) * labels + share * (hidden + attention + logits)``, each part weighted.

    Hidden states and scores are compared by mean squared error over what is no padding, and summed over the layers.
    A network whose predictions nothing here trains is judged by this loss, any other by the labels, or, if
    ``training.monitor`` says so, by this loss too.

    Args:
        student: The network that will be trained.
        teacher: The network to learn from.
        config: What is learnt.
        share: Of the teacher in the loss, in (0, 1].
        labels: The loss of labels; None where there are none.
        example: A batch, to look at both networks.

    Raises:
        ConfigError: The two networks cannot be compared as asked.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        config: DistillationConfig,
        share: float,
        labels: LabelObjective | None,
        example: Batch,
    ):
        super().__init__()
        self.teacher, self.settings, self.share, self.labels = teacher, config, share, labels
        self.hidden, self.attention = config.hidden > 0, config.attention > 0
        self.lesson = teacher.look(self.hidden, self.attention)
        self.judge = labels if reaches_head(config, share) else None
        self.metric = "loss" if self.judge is None else self.judge.metric
        self.smaller_is_better = self.metric == "loss"
        self.adapter, self.numbers = self._compare(student, example)
        #: What the teacher shows of a batch; a store of it may come in between.
        self.taught: Callable[[Batch], Signals] = self.ask

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        taps = Taps(network, self.hidden, self.attention)
        return self.parts(taps(labels_removed(batch)), self.taught(batch), batch)["loss"]

    def ask(self, batch: Batch) -> Signals:
        """What the teacher shows of a batch: of the layers that the student's learn from, in order."""
        found = self.teacher.show(self.lesson, batch)
        hidden = tuple(found.hidden[number] for number in (0, *self.numbers)) if self.hidden else ()
        scores = tuple(found.scores[number - 1] for number in self.numbers) if self.attention else ()
        return Signals(found.logits, hidden, scores)

    def parts(self, ours: Signals, theirs: Signals, batch: Batch) -> dict[str, Tensor]:
        """The loss and what it is made of: ``hidden``, ``attention``, ``logits``, as far as they are learnt.

        Args:
            ours: What the student showed.
            theirs: What the teacher showed, of as many layers.
            batch: With ``labels``, and ``attention_mask`` for texts.
        """
        config, parts = self.settings, {}
        if self.hidden or self.attention:
            real = _real(batch)
        if self.hidden:
            pairs = zip(self.adapter(ours.hidden), theirs.hidden, strict=True)
            parts["hidden"] = sum_of(masked_difference(x, y, real[:, :, None]) for x, y in pairs)
        if self.attention:
            mask = (real[:, :, None] & real[:, None, :])[:, None]
            pairs = zip(ours.scores, theirs.scores, strict=True)
            parts["attention"] = sum_of(masked_difference(x, y, mask) for x, y in pairs)
        if config.logits > 0:
            parts["logits"] = self._predictions(ours.logits, theirs.logits, batch["labels"])
        weights = {"hidden": config.hidden, "attention": config.attention, "logits": config.logits}
        loss = self.share * sum_of(weights[name] * value for name, value in parts.items())
        if self.share < 1:
            assert self.labels is not None
            loss = (1 - self.share) * self.labels.loss(ours.logits, batch["labels"]) + loss
        return {"loss": loss, **parts}

    def validate(self, network: nn.Module, batches: Iterable[Batch], description: str) -> Verdict:
        found = None if self.judge is None else self.judge.validate(network, batches, description)
        if found is not None and not self.smaller_is_better:
            return found
        means = self.measure(network, batches)
        return Verdict({**(found.metrics if found else {}), **means}, "loss", -means["loss"])

    @torch.no_grad()
    def measure(self, network: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss and its parts in evaluation mode, as means over samples."""
        modes = {module: module.training for module in (*network.modules(), *self.modules())}
        device = next(network.parameters()).device
        taps = Taps(network.eval(), self.hidden, self.attention)
        self.eval()
        sums: dict[str, float] = {}
        samples = 0
        try:
            for batch in batches:
                batch = {name: value.to(device) for name, value in batch.items()}
                rows = len(batch["labels"])
                for name, value in self.parts(taps(labels_removed(batch)), self.taught(batch), batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * rows
                samples += rows
        finally:
            for module, training in modes.items():
                module.training = training
        return {name: value / samples for name, value in sums.items()}

    def _predictions(self, logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
        logits, targets = (x.mean(0) if x.dim() == 3 else x for x in (logits, targets))
        if logits.shape[-1] == 1:
            return regression_loss(logits, targets[:, 0])
        weights = None
        if self.settings.weighting == "error":
            weights = error_weights(logits, targets, for_outputs(labels, logits.shape[-1]))
        return distillation_loss(logits, targets, self.settings.temperature, weights)

    @torch.no_grad()
    def _compare(self, student: nn.Module, example: Batch) -> tuple[nn.Module, list[int]]:
        """Look at both networks; return the adapter and the map of layers."""
        ours = Taps(student.eval(), self.hidden, self.attention)(labels_removed(example))
        theirs = self.teacher.show(self.lesson, example)
        if self.settings.logits > 0 and ours.logits.shape[-1] != theirs.logits.shape[-1]:
            raise ConfigError(
                f"distillation.logits: the student has {ours.logits.shape[-1]} outputs, the teacher "
                f"{theirs.logits.shape[-1]}; use a teacher of the same task"
            )
        if not (self.hidden or self.attention):
            return nn.Identity(), []
        depths = [max(len(s.hidden) - 1, len(s.scores)) for s in (ours, theirs)]
        numbers = layer_map(self.settings.layers, *depths)
        if self.attention:
            heads = [s.scores[0].shape[1] for s in (ours, theirs)]
            if heads[0] != heads[1]:
                raise ConfigError(
                    f"distillation.attention: the student has {heads[0]} attention heads, the teacher {heads[1]}; "
                    f"use model.args.num_attention_heads={heads[1]}, or distillation.attention=0"
                )
        if not self.hidden:
            return nn.Identity(), numbers
        width, target = (s.hidden[0].shape[-1] for s in (ours, theirs))
        adapter = Adapter(width, target, len(ours.hidden), self.settings.adapter)
        return adapter.to(ours.logits.device), numbers


def save_adapter(objective: Objective, folder: Path) -> None:
    """Put the adapter beside a checkpoint; the network itself is without one."""
    tensors = _adapter_of(objective)
    if tensors:
        write_bytes(folder / ADAPTER, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def load_adapter(objective: Objective, folder: Path | None) -> None:
    """Go on with the adapter beside a checkpoint, if there is one of the same form."""
    tensors = _adapter_of(objective)
    if folder is None or not tensors or not (folder / ADAPTER).exists():
        return
    try:
        found = load_file(folder / ADAPTER)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / ADAPTER} cannot be read: {error}") from error
    if {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in tensors.items()}:
        with torch.no_grad():
            for name, value in tensors.items():
                value.copy_(found[name])
        log.info("adapter: taken from %s", folder)


def copy_adapter(source: Path, target: Path) -> None:
    """From beside one checkpoint to beside another, if there is one."""
    if (source / ADAPTER).exists():
        write_bytes(target / ADAPTER, (source / ADAPTER).read_bytes())


def _adapter_of(objective: Objective) -> dict[str, Tensor]:
    return objective.adapter.state_dict() if isinstance(objective, DistilledObjective) else {}


def sum_of(values: Iterable[Tensor]) -> Tensor:
    """Of one or more tensors."""
    return torch.stack(list(values)).sum()


def _real(batch: Mapping[str, Tensor]) -> Tensor:
    mask = batch.get("attention_mask")
    return torch.ones_like(batch["input_ids"]).bool() if mask is None else mask.bool()
