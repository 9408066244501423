"""Many forwards at once, all held before the same module, so that it can be corrected before any of them goes on.

Correcting layer after layer would otherwise take a forward of every batch for every layer. Each forward has a
thread of its own, because an arbitrary network cannot be suspended otherwise; one runs at a time, in turn, so
results do not depend on timing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor, nn

from snn.conversion.call import call_model, labels_removed
from snn.errors import ConversionError
from snn.functional.padding import valid_positions

#: From a module, its input and the number of the batch to what is kept of it.
Take = Callable[[nn.Module, Tensor, int], Tensor]
#: Called with a name and what was kept of each batch in each of the networks; whether to go on.
Visit = Callable[[str, list[tuple[Tensor, ...]]], bool]

_present: ContextVar[_Forward | None] = ContextVar("forward", default=None)


class _Enough(Exception):
    """The rest of the forward is not needed."""


class _Forward(threading.Thread):
    """One forward, which hands over what its watched modules get, and waits each time."""

    def __init__(self, model: nn.Module, batch: Mapping[str, Tensor], turn: int):
        super().__init__(daemon=True)
        device = next(model.parameters()).device
        self.inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
        self.model, self.turn = model, turn
        self.threads = torch.get_num_threads()
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self._go: SimpleQueue[bool] = SimpleQueue()

    def run(self) -> None:
        _present.set(self)  # a thread starts with a context of its own, and with its own number of workers
        torch.set_num_threads(self.threads)
        try:
            with torch.no_grad(), valid_positions(self.inputs.get("attention_mask")):
                call_model(self.model, self.inputs)
            self._arrived.put(None)
        except _Enough:
            self._arrived.put(None)
        except BaseException as error:  # it belongs to whoever waits for this forward
            self._arrived.put(error)

    def hold(self, name: str, kept: Tensor) -> None:
        """Hand over, and wait. Called in the forward's own thread."""
        self._arrived.put((name, kept))
        if not self._go.get():
            raise _Enough

    def advance(self) -> tuple[str, Tensor] | None:
        """Go on to the next watched module; ``None`` at the end."""
        if self.ident is None:
            self.start()
        else:
            self._go.put(True)
        found = self._arrived.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self) -> None:
        if self.ident is not None and self.is_alive():
            self._go.put(False)
            self.join()


def run_in_lockstep(
    models: tuple[nn.Module, ...],
    batches: list[Mapping[str, Tensor]],
    names: Iterable[str],
    take: Take,
    visit: Visit,
) -> None:
    """Run every batch through every network, all of them held before each watched module in turn.

    Args:
        models: Networks with the same modules, in evaluation mode.
        batches: Model inputs; ``labels`` are ignored.
        names: Modules to watch.
        take: What to keep of a module's input.
        visit: Called when all forwards have come to a module, before any of them calls it.

    Raises:
        ConversionError: The batches take different ways through the network.
    """
    forwards = [[_Forward(model, batch, turn) for model in models] for turn, batch in enumerate(batches)]
    with _watched(models, list(names), take):
        try:
            while True:
                arrived = [[forward.advance() for forward in group] for group in forwards]
                places = {None if place is None else place[0] for group in arrived for place in group}
                if len(places) > 1:
                    raise ConversionError(
                        "the batches take different ways through the network, so its layers cannot be corrected one "
                        "by one; use conversion.correction.order=online"
                    )
                name = places.pop()
                kept = [tuple(place[1] for place in group if place is not None) for group in arrived]
                if name is None or not visit(name, kept):
                    return
        finally:
            for group in forwards:
                for forward in group:
                    forward.end()


@contextmanager
def _watched(models: tuple[nn.Module, ...], names: list[str], take: Take) -> Iterator[None]:
    def hold(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            forward = _present.get()
            if forward is not None:
                forward.hold(name, take(module, args[0], forward.turn))

        return hook

    # Hooks are called in the order in which they came, so ours see what a quantiser before the module made of it.
    handles = [m.get_submodule(name).register_forward_pre_hook(hold(name)) for m in models for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
