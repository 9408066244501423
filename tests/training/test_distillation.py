"""What networks show of themselves, what is made of it, and which teachers are refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snn.config import DistillationConfig, TrainingConfig
from snn.errors import ConfigError
from snn.models import create_model
from snn.training.distillation import Adapter, DistilledObjective, load_adapter, save_adapter
from snn.training.layer_map import layer_map
from snn.training.lesson import stored
from snn.training.losses import classification_loss, distillation_loss, error_weights, masked_difference
from snn.training.objective import LabelObjective
from snn.training.taps import Signals, Taps
from snn.training.teacher import Teacher
from snn.training.teacher_store import TeacherStore, fingerprint, size_of
from tests.models.small import SMALL

SIZES: dict[str, Any] = {
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
    "max_position_embeddings": 12,
}
TEXT = ("bert", "distilbert", "roberta", "t5_encoder")


def text_model(name: str, **more: Any) -> nn.Module:
    taken = {**SIZES, **more} if name != "t5_encoder" else {**SMALL[name], **more}
    return create_model(name, num_classes=2, **taken).eval()


def texts(rows: int = 3, length: int = 7, real: tuple[int, ...] = (7, 4, 2)) -> dict[str, Tensor]:
    mask = torch.tensor([[int(i < n) for i in range(length)] for n in real[:rows]])
    ids = torch.randint(5, 30, (rows, length)) * mask + (1 - mask)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(rows) % 2}


def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in batch.items() if k != "labels"}


def objective(
    student: nn.Module, teacher: nn.Module, share: float = 1.0, **settings: Any
) -> DistilledObjective:
    config = DistillationConfig(**{"logits": 0.0, **settings})
    labels = LabelObjective(["accuracy"], TrainingConfig())
    return DistilledObjective(student, Teacher(teacher), config, share, labels, texts())


@pytest.mark.parametrize("name", TEXT)
def test_outputs_of_layers_are_those_of_the_library(name: str) -> None:
    model: Any = text_model(name)
    batch = inputs(texts())
    with torch.no_grad():
        shown = Taps(model, hidden=True, scores=True)(batch)
        logits = model(**batch).logits
    assert torch.equal(shown.logits, logits)  # being watched changes nothing
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    depth = len(shown.scores)
    assert len(shown.hidden) == depth + 1
    hidden = list(shown.hidden)
    with torch.no_grad():
        if name == "t5_encoder":  # whose library adds a norm behind the last
            mask = batch["attention_mask"]
            asked = {"input_ids": batch["input_ids"], "attention_mask": mask, "output_hidden_states": True}
            theirs = model.encoder(**asked).hidden_states
            hidden[-1] = model.encoder.final_layer_norm(hidden[-1])
        else:
            theirs = model(**batch, output_hidden_states=True).hidden_states
    assert all(torch.equal(a, b) for a, b in zip(hidden, theirs, strict=True))


@pytest.mark.parametrize("name", TEXT[:3])
def test_scores_are_what_probabilities_are_made_of(name: str) -> None:
    model: Any = text_model(name)
    batch = inputs(texts())
    with torch.no_grad():
        shown = Taps(model, hidden=False, scores=True)(batch)
        expected = model(**batch, output_attentions=True).attentions
    for score, probability in zip(shown.scores, expected, strict=True):
        torch.testing.assert_close(score.softmax(-1), probability)
        # Not logarithms of the probabilities, whose rows would sum to one.
        assert not torch.allclose(score.exp().sum(-1), torch.ones(score.shape[:-1]), atol=1e-2)


def test_fused_attention_shows_the_same_scores() -> None:
    model: Any = text_model("bert")
    batch = inputs(texts())
    with torch.no_grad():
        eager = Taps(model, hidden=False, scores=True)(batch)
        model.set_attn_implementation("sdpa")
        fused = Taps(model, hidden=False, scores=True)(batch)
    real = batch["attention_mask"].bool()
    mask = (real[:, :, None] & real[:, None, :])[:, None].expand_as(eager.scores[0])
    for a, b in zip(eager.scores, fused.scores, strict=True):
        torch.testing.assert_close(a[mask], b[mask])


def test_a_quantised_network_shows_what_its_layers_put_out() -> None:
    from snn.conversion.quantize import calibrate, quantize

    rules = [
        {"match": r"re:.*output\.LayerNorm", "do": "append", "signed": True},
        {"match": r"re:.*attention\.self", "call": "softmax", "do": "append", "signed": False},
    ]
    batch = inputs(texts())
    quantised = quantize(text_model("bert"), rules, levels=4)
    calibrate(quantised, [batch])
    quantised.eval()
    with torch.no_grad():
        shown = Taps(quantised, hidden=True, scores=True)(batch)
    assert len(shown.scores) == 2
    for output in shown.hidden[1:]:  # at most nine values in a channel: 4 levels of either sign, and 0
        assert max(len(output[..., c].unique()) for c in range(12)) <= 9


def test_spikingbert_is_asked() -> None:
    student = create_model("spikingbert", num_classes=2, T=3, **SIZES)
    batch = inputs(texts())
    shown = Taps(student, hidden=True, scores=True)(batch)
    assert [h.shape for h in shown.hidden] == [(3, 7, 12)] * 3
    assert [s.shape for s in shown.scores] == [(3, 2, 7, 7)] * 2
    assert all(signal.requires_grad for signal in (*shown.hidden, *shown.scores))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no list of layers to compare.*distillation=logits"):
        Taps(nn.Linear(2, 2), hidden=True, scores=False)


@pytest.mark.parametrize(
    ("rule", "student", "teacher", "expected"),
    [
        ("uniform", 5, 12, "5 layers .* do not divide the teacher's 12.*1, 2, 3, 4, 6, 12"),
        ("uniform", 8, 6, "distillation.layers=\\[1,2,2,3,4,4,5,6\\]"),
        ("last", 4, 2, "the student has 4 layers and the teacher only 2"),
        ([1, 7], 2, 6, "expected 2 numbers.* from 1 to the teacher's 6"),
        ([1], 2, 6, "expected 2 numbers"),
        ("first", 2, 6, "'first' is neither of uniform, last"),
    ],
)
def test_maps_that_do_not_fit(rule: Any, student: int, teacher: int, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        layer_map(rule, student, teacher)
    assert "\n" not in str(error.value)


def test_what_is_suggested_works() -> None:
    for student in range(1, 9):
        for teacher in range(1, 13):
            try:
                layer_map("uniform", student, teacher)
            except ConfigError as error:
                listed = str(error).rpartition("distillation.layers=")[2]
                numbers = [int(n) for n in listed.strip("[]").split(",")]
                assert layer_map(numbers, student, teacher) == numbers


def test_padding_is_no_part_of_the_loss() -> None:
    student, teacher = text_model("bert"), text_model("bert")
    loss = objective(student, teacher, hidden=1.0, attention=1.0, adapter=None)
    short = texts(real=(3, 4, 2))
    cut = {k: v[:, :4] if v.dim() > 1 else v for k, v in short.items()}
    with torch.no_grad():
        wide, narrow = loss(student, short), loss(student, cut)
    torch.testing.assert_close(wide, narrow)
    assert 1e-3 < float(wide) < 1e3


def test_parts_are_means_of_squares_summed_over_layers() -> None:
    student, teacher = text_model("bert"), text_model("bert", num_hidden_layers=4)
    loss = objective(student, teacher, hidden=2.0, attention=0.5, logits=0.25, adapter=None)
    assert loss.numbers == [2, 4]
    batch = texts()
    with torch.no_grad():
        ours, theirs = (Taps(m, True, True)(inputs(batch)) for m in (student, teacher))
        found = loss.parts(ours, loss.ask(batch), batch)
    real = batch["attention_mask"].bool()
    hidden = sum(((ours.hidden[a] - theirs.hidden[b])[real] ** 2).mean() for a, b in ((0, 0), (1, 2), (2, 4)))
    both = (real[:, :, None] & real[:, None, :])[:, None].expand_as(ours.scores[0])
    attention = sum(((ours.scores[a] - theirs.scores[b])[both] ** 2).mean() for a, b in ((0, 1), (1, 3)))
    soft = distillation_loss(ours.logits, theirs.logits, 2.0)
    torch.testing.assert_close(found["hidden"], hidden)
    torch.testing.assert_close(found["attention"], attention)
    torch.testing.assert_close(found["loss"], 2 * hidden + 0.5 * attention + 0.25 * soft)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_labels_have_the_rest_of_the_loss(share: float) -> None:
    student, teacher = text_model("bert"), text_model("bert")
    batch = texts()
    loss = objective(student, teacher, share, hidden=1.0, adapter=None)
    with torch.no_grad():
        ours = Taps(student, True, False)(inputs(batch))
        found = loss.parts(ours, loss.ask(batch), batch)
        hard = classification_loss(ours.logits, batch["labels"])
    torch.testing.assert_close(found["loss"], (1 - share) * hard + share * found["hidden"])
    # A head that nothing trains is not what a network is judged by.
    assert (loss.metric, loss.smaller_is_better) == (("accuracy", False) if share < 1 else ("loss", True))


def test_the_teacher_is_neither_trained_nor_saved_nor_random() -> None:
    student = text_model("bert")
    teacher = text_model("bert", hidden_dropout_prob=0.5).train()
    loss = objective(student, teacher, hidden=1.0, attention=1.0, logits=1.0)
    loss.train()
    assert not any(module.training for module in teacher.modules())
    batch = texts()
    first, second = (loss(student.eval(), batch).detach() for _ in range(2))
    assert torch.equal(first, second)
    loss(student, batch).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert set(loss.state_dict()) == {"adapter.maps.0.weight", "adapter.maps.0.bias"}
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize(("kind", "maps"), [("shared", 1), ("each", 3)])
def test_adapters_reach_another_width(tmp_path: Path, kind: str, maps: int) -> None:
    student, teacher = text_model("bert", hidden_size=8), text_model("bert")
    loss = objective(student, teacher, hidden=1.0, adapter=kind)
    assert isinstance(loss.adapter, Adapter)
    assert [m.weight.shape for m in loss.adapter.maps] == [(12, 8)] * maps
    save_adapter(loss, tmp_path)
    other = objective(student, teacher, hidden=1.0, adapter=kind)
    batch = texts()
    with torch.no_grad():
        assert not torch.equal(other(student, batch), loss(student, batch))
        load_adapter(other, tmp_path)
        assert torch.equal(other(student, batch), loss(student, batch))


def test_students_learn_from_layers() -> None:
    student, teacher = create_model("spikingbert", num_classes=2, T=4, **SIZES), text_model("bert")
    loss = objective(student, teacher, hidden=1.0, attention=1.0)
    batch = texts()
    before = loss.measure(student, [batch])
    optimizer = torch.optim.AdamW([*student.parameters(), *loss.parameters()], lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss(student, batch).backward()
        optimizer.step()
    after = loss.measure(student, [batch])
    assert after["hidden"] < 0.7 * before["hidden"]
    assert after["loss"] < before["loss"]
    assert after["loss"] == pytest.approx(after["hidden"] + after["attention"], rel=1e-5)


def test_a_mean_over_samples_does_not_depend_on_batches() -> None:
    student, teacher = text_model("bert"), text_model("bert")
    with torch.no_grad():
        student.classifier.weight.mul_(100)  # type: ignore[operator, union-attr]
    loss = objective(student, teacher, logits=1.0)
    batch = texts()
    rows = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(3)]
    assert loss.measure(student, rows)["loss"] == pytest.approx(
        loss.measure(student, [batch])["loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("change", "settings", "expected"),
    [
        ({"hidden_size": 8}, {"hidden": 1.0, "adapter": None}, "the student's is 8 and the teacher's 12"),
        ({"num_attention_heads": 3}, {"attention": 1.0}, "the student has 3 attention heads, the teacher 2"),
        ({"num_hidden_layers": 3}, {"hidden": 1.0}, "3 layers of the student do not divide the teacher's 2"),
    ],
)
def test_networks_that_cannot_be_compared(
    change: dict[str, int], settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        objective(text_model("bert", **change), text_model("bert"), **settings)
    assert "\n" not in str(error.value)


def test_predictions_of_another_task_are_refused() -> None:
    three = create_model("bert", num_classes=3, **SIZES)
    with pytest.raises(ConfigError, match="the student has 2 outputs, the teacher 3"):
        objective(text_model("bert"), three, logits=1.0)
    objective(text_model("bert"), three, hidden=1.0)  # its head is of no concern


def test_classes_in_another_order_are_put_right() -> None:
    teacher = text_model("bert")
    batch = texts()
    plain, swapped = (Teacher(teacher, classes) for classes in (None, [1, 0]))
    logits = [t.show(t.look(False, False), batch).logits for t in (plain, swapped)]
    assert torch.equal(logits[0].flip(-1), logits[1])


def test_what_is_masked_has_neither_value_nor_gradient() -> None:
    ours = torch.randn(2, 3, requires_grad=True)
    theirs = torch.full((2, 3), torch.finfo(torch.float32).min)
    mask = torch.tensor([[True, False, False], [True, True, False]])
    theirs[mask] = 1.0
    loss = masked_difference(ours, theirs, mask)
    loss.backward()
    assert ours.grad is not None
    torch.testing.assert_close(loss, (ours[mask] - 1).square().mean())
    torch.testing.assert_close(ours.grad[mask], 2 * (ours[mask] - 1) / 3)
    assert torch.equal(ours.grad[~mask], torch.zeros(3))


def test_weights_by_error() -> None:
    student, teacher = torch.tensor([[0.0, 4.0], [0.0, 4.0]]), torch.tensor([[0.0, 4.0], [4.0, 0.0]])
    weights = error_weights(student, teacher, torch.tensor([0, 0]))
    ours, theirs = np.log1p(np.exp(4.0)), np.log1p(np.exp(-4.0))
    assert weights.tolist() == pytest.approx([1 - np.exp(-1), 1 - np.exp(-ours / theirs)], rel=1e-5)
    loss = distillation_loss(student, teacher, 2.0, weights)
    each = [float(distillation_loss(s[None], t[None], 2.0)) for s, t in zip(student, teacher)]
    assert float(loss) == pytest.approx(sum(w * e for w, e in zip(weights.tolist(), each)) / 2, rel=1e-5)


def test_weights_by_error_of_mixed_labels_where_the_networks_know_more_classes() -> None:
    student, teacher = (create_model("bert", num_classes=3, **SIZES) for _ in range(2))
    learnt = objective(student, teacher, logits=1.0, weighting="error")
    ours, theirs = (Signals(torch.randn(2, 3), (), ()) for _ in range(2))
    labels = torch.tensor([1, 0])
    mixed = torch.nn.functional.one_hot(labels, 2).float()
    one, other = (learnt.parts(ours, theirs, {"labels": x})["logits"] for x in (labels, mixed))
    torch.testing.assert_close(one, other)


def test_what_is_kept_on_disk_is_what_the_teacher_shows(tmp_path: Path, caplog: Any) -> None:
    loss = objective(text_model("bert"), text_model("bert"), hidden=1.0, attention=1.0, logits=1.0)
    asked = []

    def ask(batch: Any) -> Any:
        asked.append(len(batch["labels"]))
        return loss.ask(batch)

    batch = texts()
    store = TeacherStore(tmp_path / "store", ask)
    caplog.set_level("INFO")
    store.fill([batch], [7, 4, 2], torch.device("cpu"))
    assert "the teacher's outputs take" in caplog.text
    again = TeacherStore(tmp_path / "store", ask)
    assert again.filled
    order = [2, 0]
    some = {k: v[order] for k, v in batch.items()}
    found, expected = again(some), loss.ask(some)
    real = some["attention_mask"].bool()
    both = (real[:, :, None] & real[:, None, :])[:, None].expand(-1, 2, -1, -1)
    torch.testing.assert_close(found.logits, expected.logits)
    for a, b in zip(found.hidden, expected.hidden, strict=True):
        torch.testing.assert_close(a[real], b[real])
        assert not a[~real].any()
    for a, b in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(a[both], b[both])
    assert asked == [3]
    # Padded to another length, a text is the same; one that is not there is asked for.
    longer = {k: torch.nn.functional.pad(v, (0, 2)) if v.dim() > 1 else v for k, v in some.items()}
    torch.testing.assert_close(again(longer).logits, expected.logits)
    assert asked == [3]
    some["input_ids"] = some["input_ids"].flip(0)
    again(some)
    assert asked == [3, 2]


def test_the_size_on_disk_is_known_beforehand(tmp_path: Path) -> None:
    loss = objective(text_model("bert"), text_model("bert"), hidden=1.0, attention=1.0, logits=1.0)
    batch = texts()
    store = TeacherStore(tmp_path / "store", loss.ask)
    store.fill([batch], [7, 4, 2], torch.device("cpu"))
    from safetensors.torch import load_file

    (file,) = (tmp_path / "store").glob("*.safetensors")
    written = sum(t.numel() * t.element_size() for t in load_file(file).values())
    assert size_of(loss.ask(batch), [7, 4, 2]) == written


def test_weights_have_a_fingerprint() -> None:
    model = text_model("bert")
    before = fingerprint(model)
    assert fingerprint(model) == before
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1
    assert fingerprint(model) != before


def test_a_random_head_has_no_say_in_the_fingerprint(tmp_path: Path) -> None:
    """Of an encoder without one, the outputs that are kept are the same in every run."""
    made: Any = create_model("bert", **SMALL["bert"])
    made.bert.save_pretrained(tmp_path)
    one, other = (create_model("bert", weights=tmp_path, num_classes=2) for _ in range(2))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert fingerprint(one) == fingerprint(other)
    with torch.no_grad():
        other.bert.pooler.dense.bias[0] += 1
    assert fingerprint(one) != fingerprint(other)
    made.save_pretrained(tmp_path)  # with its head
    trained = create_model("bert", weights=tmp_path, num_classes=2)
    before = fingerprint(trained)
    with torch.no_grad():
        trained.classifier.bias[0] += 1
    assert fingerprint(trained) != before


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"kind": "image", "augment_tokens": 0.0}, "distillation.cache: pictures vary"),
        (
            {"kind": "text", "augment_tokens": 0.1},
            "distillation.cache: with dataset.augment_tokens, texts vary",
        ),
    ],
)
def test_what_varies_is_not_kept(dataset: dict[str, Any], message: str) -> None:
    session: Any = SimpleNamespace(dataset=SimpleNamespace(**dataset))
    with pytest.raises(ConfigError, match=message):
        stored(None, session)  # type: ignore[arg-type]
