"""Where and when the spikes of a text model fall: by token, place and layer; pages that show sentences."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from snn.conversion.call import labels_removed
from snn.conversion.network import SpikingNetwork
from snn.errors import ConfigError, DataError
from snn.evaluation.analyses import Analysis
from snn.evaluation.attention_received import AttentionReceived
from snn.evaluation.read_out import decision_times, full_execution
from snn.evaluation.session import Session
from snn.evaluation.token_spikes import TokenSpikes
from snn.evaluation.token_statistics import AttentionCorrelation, Head, TokenRates
from snn.evaluation.words import WordJoiner
from snn.progress import progress
from snn.tracking.run_figures import describe
from snn.tracking.sentences import Sentence, SpokenWord
from snn.tracking.tracker import Tracker

log = logging.getLogger(__name__)


@dataclass
class TokenAnalysis(Analysis):
    """Spike rates by token, attention against spikes, decision times, and a page for some of the sentences.

    Attributes:
        pages: Sentences that get a page, half of them misclassified where there are so many.
        most: Most and least active words that are named for each sample.
        least_seen: A token that occurs less often is not ranked in the report.
    """

    pages: int = 12
    most: int = 3
    least_seen: int = 5

    def __post_init__(self) -> None:
        for name, least in (("pages", 0), ("most", 1), ("least_seen", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"analysis.{name} must be at least {least}; got {getattr(self, name)}")

    def check(self, session: Session) -> None:
        if session.dataset.kind != "text":
            raise ConfigError(
                f"analysis=tokens is about words; dataset={session.dataset.name} is {session.dataset.kind}"
            )

    def run(self, session: Session, network: SpikingNetwork) -> None:
        # Imported here: drawing is not needed to evaluate.
        from snn.tracking.token_page import write_pages

        with session.timed("analysis tokens"):
            found = look_at_tokens(self, session, network)
        found.publish(session.trackers)
        index = session.folder / "tokens" / "index.html"
        for name, path in write_pages(found.chosen(), index.parent).items():
            session.trackers.figure(f"tokens/{name}", path)
            session.trackers.page(f"token_pages/{name}", path.with_suffix(".html"))
        columns = ("token", "occurrences", "rate")
        ranked = [dict(zip(columns, row)) for row in found.token_rows() if row[1] >= self.least_seen]
        session.summary["tokens"] = {
            "split": session.config.evaluation.split,
            "samples": len(found.sample_rows),
            "T": network.T,
            "causal": network.causal,
            "places": found.rates.places(),
            "attention": [head._asdict() for head in found.attention.heads()],
            "decision_times": found.decisions,
            "most_active": ranked[: min(10, len(ranked) // 2)],
            "least_active": ranked[::-1][: min(10, len(ranked) // 2)],
        }
        log.info("%d sentences looked at; pages: %s", len(found.sample_rows), index)


@dataclass
class Found:
    """What looking at the texts of a split gave.

    Args:
        analysis: What was asked for.
        joiner: Of the tokenizer.
        rates: By place, token and layer.
        attention: Against spike rates, by layer and head.
        decisions: ``right`` and ``wrong``: how many samples decided at each step, 1 first; empty for measurements.
    """

    analysis: TokenAnalysis
    joiner: WordJoiner
    rates: TokenRates
    attention: AttentionCorrelation = field(default_factory=AttentionCorrelation)
    decisions: dict[str, list[int]] = field(default_factory=dict)
    sample_rows: list[list[Any]] = field(default_factory=list)
    #: Sentences that may get a page, by whether they were misclassified.
    candidates: dict[bool, list[Sentence]] = field(default_factory=lambda: {True: [], False: []})

    def add(self, sentence: Sentence) -> None:
        """Add a text; its words are kept only while it may get a page."""
        ranked = [f"{word.text} {word.rate:.3f}" for word in sentence.ranked()]
        most = self.analysis.most
        named = [", ".join(ranked[:most]), ", ".join(ranked[::-1][:most])]
        self.sample_rows.append([getattr(sentence, key) for key in _OF_SENTENCE] + named)
        if sentence.decision_time is not None:
            times = self.decisions.setdefault("right" if sentence.right else "wrong", [0] * sentence.T)
            times[sentence.decision_time - 1] += 1
        same = self.candidates[sentence.right is False]
        if len(same) < self.analysis.pages:
            same.append(sentence)

    def chosen(self) -> list[Sentence]:
        """Those that get a page, in the order of their rows."""
        wrong, others = self.candidates[True], self.candidates[False]
        pages = self.analysis.pages
        few = wrong[: max(pages // 2, pages - len(others))]
        return sorted([*few, *others[: pages - len(few)]], key=lambda s: s.number)

    def token_rows(self) -> list[list[Any]]:
        """As :meth:`TokenRates.token_rows`, the tokens spelled."""
        spell = self.joiner.tokenizer.convert_ids_to_tokens
        return [[spell(row[0]), *row[1:]] for row in self.rates.token_rows()]

    def publish(self, tracker: Tracker) -> None:
        """Hand over the tables."""
        tracker.table(
            "token_rates_by_place", ["layer", "place", "texts", "rate"], list(self.rates.place_rows())
        )
        tracker.table(
            "token_rates", ["token", "occurrences", "rate", *self.rates.by_token], self.token_rows()
        )
        tracker.table("attention_and_spikes", Head._fields, self.attention.heads())
        tracker.table("token_samples", [*_OF_SENTENCE, "most_active", "least_active"], self.sample_rows)


_OF_SENTENCE = ("number", "text", "label", "prediction", "right", "decision_time")


@torch.no_grad()
def look_at_tokens(analysis: TokenAnalysis, session: Session, network: SpikingNetwork) -> Found:
    """Run the network over the split and look at every token.

    Raises:
        DataError: The split is empty.
    """
    config, data, tokenizer = session.config.evaluation, session.data, session.tokenizer
    found = Found(analysis, WordJoiner(tokenizer), TokenRates(len(tokenizer), data.longest or 0))
    # In the order of the rows, so that a sample's number is its row.
    batches = session.batches(config.split, bucket=False)
    for index, batch in enumerate(progress(batches, f"tokens of {config.split}")):
        if config.limit is not None and index >= config.limit:
            break
        for sentence in look_at_batch(found, batch, network, data.label_names):
            sentence.subtitle = describe(session.summary | {"results": {}})
            found.add(sentence)
    if not found.sample_rows:
        raise DataError("dataset: there is nothing to look at: the split is empty")
    return found


def look_at_batch(
    found: Found, batch: Mapping[str, Tensor], network: SpikingNetwork, label_names: Sequence[str]
) -> list[Sentence]:
    """Add the sums of one batch to what was found, and give its sentences.

    Args:
        found: What was found before.
        batch: Model inputs and ``labels``.
        network: The network.
        label_names: Names of the classes; none of measurements.
    """
    device = next(iter(network.neurons.values())).threshold.device
    inputs = {k: v.to(device) for k, v in labels_removed(batch).items()}
    spikes = TokenSpikes(network)
    with AttentionReceived(network) as attention:
        out = network(execution=full_execution(network), record=False, observers=(spikes,), **inputs)
    ids, mask = batch["input_ids"].cpu(), batch["attention_mask"].bool().cpu()
    special = torch.isin(ids, torch.tensor(sorted(found.joiner.special)))
    fired, neurons = spikes.of()
    found.rates.update(spikes, ids, mask)
    found.attention.update(attention.received, spikes, mask, ~special)
    logits = out.logits.cpu()
    classes = dict(enumerate(label_names))

    def named(value: float) -> str:
        return str(classes.get(int(value), int(value))) if classes else f"{value:.3f}"

    said = (logits.argmax(-1) if classes else logits[..., 0]).T.tolist()
    decided = decision_times(logits).tolist() if classes else [None] * len(ids)
    sentences = []
    for row, label in enumerate(batch["labels"].tolist()):
        real = mask[row]
        own, size = fired[:, row, real], neurons[row, real]
        words = [
            SpokenWord(
                word.text,
                (own[:, word.start : word.stop].sum(1) / size[word.start : word.stop].sum()).tolist(),
                word.special,
            )
            for word in found.joiner.words(ids[row, real].tolist())
        ]
        predictions = [named(value) for value in said[row]]
        number = len(found.sample_rows) + row
        sentences.append(Sentence(number, words, named(label), predictions, decided[row], network.causal))
    return sentences
