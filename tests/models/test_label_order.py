"""A checkpoint's classes beside the data's."""

from __future__ import annotations

import logging

import pytest
import torch

from snn.errors import ConfigError
from snn.models.label_order import check_classes, ordered_head


def test_the_same_classes_in_another_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"in the order pos, neg: dataset\.label_names=\[neg,pos\]"):
        check_classes(["neg", "pos"], ["pos", "neg"], "run")


@pytest.mark.parametrize("ours", [["Neg.", "pos"], []])
def test_what_agrees_or_has_no_names_passes(ours: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "snn"):
        check_classes(["neg", "pos"], ours, "run")
    assert not caplog.messages


def test_numbers_are_taken_one_for_one_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "snn"):
        check_classes(["neg", "pos"], ["0", "1"], "run")
        head = {"classifier.weight": torch.eye(2), "classifier.bias": torch.zeros(2)}
        assert not ordered_head(head, "classifier", ["neg", "pos"], ["0", "1"], "folder")
    assert len(caplog.messages) == 2
    assert all(
        "0 is neg, 1 is pos; dataset.label_names=[...] names them" in message for message in caplog.messages
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING, "snn"):
        check_classes(["0", "1"], ["0", "1"], "run")
    assert not caplog.messages


def test_other_classes_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "snn"):
        check_classes(["neg", "pos"], ["sad", "glad"], "run")
    (message,) = caplog.messages
    assert "for the classes neg, pos, those here are sad, glad" in message
