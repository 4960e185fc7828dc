"""The `embedded` judge: label definitions and trusted neighbours, no LLM and no network.

Two kinds of evidence are weighed, both from cosine similarities of sentence embeddings:

1. The votes of the item's nearest trusted rows; closer ones count more. Rows of the item's own
   group (itself, duplicates, pages of one document) never vote, and the votes for a class are
   divided by a power of its size, so that a large class does not win by its size alone.
2. How near the item is to each class's definition and examples, less how near trusted rows
   are to them on average, since some definitions are near to everything.

Exclusive classes: p(c) ~ share(c)^vote_weight * exp(nearness(c) / definition_temperature), a
log-linear pool. Multi-label: the same odds for each class against its absence; the item
abstains when any class is too unsure to call, for a tuple of labels can leave no class open.

The defaults of `Settings` were chosen by `evals/embedded_judge.py` on the 57 intents of
banking77 that the demo does not hold, with injected noise and the bundled encoder. Neither the
demo's intents nor any set that the project reports results on was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from llm_relabel.config.definitions import LabelDefinitions
from llm_relabel.judge.seam import RoundEvidence
from llm_relabel.judge.without_llm.neighbours import TrustedPool
from llm_relabel.models import TextModel
from llm_relabel.records import Ask, Item, Verdict
from llm_relabel.tasks import Task, is_one_choice
from llm_relabel.units import LabelValue, counts_by_name, has_label, label_json

Floats = NDArray[np.float32]
# Two vectors nearer than this, in cosine, are of one text or of copies of it.
ITSELF = 0.9999


@dataclass(frozen=True, slots=True)
class Settings:
    """The judge's constants; the defaults are measured, see the module's docstring."""

    neighbours: int = 20
    vote_temperature: float = 0.05
    """In cosine: a neighbour this much farther than the nearest counts e times less."""
    doubt: float = 0.05
    """The share of the votes that goes to all classes alike, so that no vote is final."""
    size_correction: float = 0.5
    """Votes are divided by class size to this power: 0 not at all, 1 in full."""
    vote_weight: float = 0.7
    definition_temperature: float = 0.2
    floor: float = 0.3
    """A cosine; an item with no trusted row nearer than this abstains."""
    answer_above: float = 0.6
    """Least confidence of an answer about exclusive classes."""
    answer_each_above: float = 0.7
    """Least confidence, which is never under 0.5, about every class of multi-label data."""
    pool_limit: int = 50_000
    """Most trusted rows that are compared with; more are thinned evenly."""


@dataclass(frozen=True, slots=True)
class EmbeddedAnswer:
    """One answer: `label` None means abstain; `confidence` is in 0..1, HIGHER is surer."""

    label: LabelValue
    confidence: float
    rationale: str


class EmbeddingVote:
    """Answers for rows of one dataset, from arrays alone.

    embeddings: (rows, d) float32, unit norm. labels: (rows, classes) bool, current labels.
    trusted: (rows,) bool, True where a row may vote. groups: (rows,) int64, rows that share a
    number never vote for each other. definition_vectors: for each class (m, d) unit vectors of
    its definition, then its examples, m >= 1. exclusive: a row carries exactly one class.

    Deterministic: of equally near rows the one in the lower group, then row, comes first.
    Raises ValueError on shapes that do not fit.
    """

    def __init__(
        self,
        *,
        embeddings: Floats,
        labels: NDArray[np.bool_],
        trusted: NDArray[np.bool_],
        groups: NDArray[np.int64],
        definition_vectors: Sequence[Floats],
        class_names: tuple[str, ...],
        exclusive: bool,
        settings: Settings | None = None,
    ) -> None:
        rows, classes = labels.shape
        if not len(embeddings) == len(trusted) == len(groups) == rows:
            raise ValueError(
                "embeddings, labels, trusted and groups must have the same rows, found "
                f"{len(embeddings)}, {rows}, {len(trusted)}, {len(groups)}"
            )
        sizes = [len(vectors) for vectors in definition_vectors]
        if not len(sizes) == len(class_names) == classes or not all(sizes):
            raise ValueError(
                f"each of {classes} classes needs a name and at least one definition vector, "
                f"found {len(class_names)} names and {sizes} vectors"
            )
        self._settings = settings or Settings()
        self._embeddings, self._groups = embeddings, groups
        self._names, self._exclusive = class_names, exclusive
        # A dot product with the mean of a class's vectors is the mean of the similarities.
        self._definitions = np.stack(
            [np.asarray(vectors, dtype=np.float32).mean(axis=0) for vectors in definition_vectors]
        )
        self._sizes = np.array(sizes)
        self._examples = np.concatenate([vectors[1:] for vectors in definition_vectors])
        self._example_of = np.repeat(np.eye(classes, dtype=np.float32), self._sizes - 1, axis=0)
        self._pool = TrustedPool(
            embeddings,
            np.flatnonzero(trusted & labels.any(axis=1) if exclusive else trusted),
            groups,
            # Thinning by class keeps rare ones, but would bend shares that are not of one whole.
            classes=labels.argmax(axis=1) if exclusive else None,
            limit=self._settings.pool_limit,
        )
        self._pool_labels = labels[self._pool.rows]
        self._counts = self._pool_labels.sum(axis=0)
        self._usual = self._usual_nearness()

    def answer(self, row: int) -> EmbeddedAnswer:
        """The answer for one row."""
        return self.answer_many([row])[0]

    def answer_many(self, rows: Sequence[int] | NDArray[np.int64]) -> list[EmbeddedAnswer]:
        """The answers for `rows`, in their order, computed in blocks of bounded memory."""
        asked = np.asarray(rows, dtype=np.int64)
        if not len(self._pool.rows):
            nothing = EmbeddedAnswer(None, 0.0, "there is no trusted item to compare with")
            return [nothing] * len(asked)
        size = self._pool.block
        found: list[EmbeddedAnswer] = []
        for start in range(0, len(asked), size):
            found.extend(self._answer_block(asked[start : start + size]))
        return found

    def _answer_block(self, rows: NDArray[np.int64]) -> Iterator[EmbeddedAnswer]:
        settings = self._settings
        items = np.asarray(self._embeddings[rows], dtype=np.float32)
        cosines, nearest = self._pool.nearest(items, self._groups[rows], settings.neighbours)
        voting = np.isfinite(cosines)
        theirs = self._pool_labels[nearest] & voting[..., None]
        # Relative to the nearest, which counts 1; a row without any neighbour has no votes.
        ahead = np.where(voting, cosines, 0) - np.where(voting[:, :1], cosines[:, :1], 0)
        weights = np.where(voting, np.exp(ahead / settings.vote_temperature), 0)
        votes = np.einsum("ik,ikc->ic", weights, theirs)
        toward = self._nearness(items) - self._usual
        if self._exclusive:
            chances, say = self._one_of(votes, toward), self._say_one
        else:
            chances, say = self._each(votes, weights.sum(axis=1), toward), self._say_each
        heads, voters = theirs.sum(axis=1), voting.sum(axis=1)
        for index in range(len(rows)):
            if cosines[index, 0] <= settings.floor:
                yield EmbeddedAnswer(None, 0.0, "no trusted item is similar enough to compare with")
            else:
                yield say(chances[index], heads[index], int(voters[index]), toward[index])

    def _nearness(self, items: Floats) -> Floats:
        """(items, classes) the mean cosine with each class's vectors, but the item itself."""
        nearness: Floats = items @ self._definitions.T
        cosines = items @ self._examples.T
        own = cosines > ITSELF
        if not own.any():
            return nearness
        left = self._sizes - own @ self._example_of
        without = nearness * self._sizes - np.where(own, cosines, 0) @ self._example_of
        return np.asarray(without / left, dtype=np.float32)

    def _usual_nearness(self) -> Floats:
        """(classes,) what an item's nearness to a class's definition is measured from.

        Exclusive: the mean over trusted rows. Multi-label: half-way between the means of the
        rows with and without the class, so that 0 speaks for neither.
        """
        if not len(self._pool.rows):
            return np.zeros(len(self._names), dtype=np.float32)
        mean: Floats = self._pool.vectors.mean(axis=0) @ self._definitions.T
        if self._exclusive:
            return mean
        nearness: Floats = self._pool.vectors @ self._definitions.T
        with_it = np.where(self._pool_labels, nearness, 0).sum(axis=0)
        without = nearness.sum(axis=0) - with_it
        absent = len(self._pool.rows) - self._counts
        middle = (with_it / np.maximum(self._counts, 1) + without / np.maximum(absent, 1)) / 2
        known = (self._counts >= 5) & (absent >= 5)
        return np.asarray(np.where(known, middle, mean), dtype=np.float32)

    def _one_of(self, votes: NDArray[np.float64], toward: Floats) -> NDArray[np.float64]:
        """(items, classes) chances that sum to 1."""
        settings = self._settings
        share = votes / (self._counts + 1.0) ** settings.size_correction
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-12)
        share = (1 - settings.doubt) * share + settings.doubt / len(self._names)
        score = settings.vote_weight * np.log(share) + toward / settings.definition_temperature
        chance = np.exp(score - score.max(axis=1, keepdims=True))
        return np.asarray(chance / chance.sum(axis=1, keepdims=True))

    def _each(
        self, votes: NDArray[np.float64], total: NDArray[np.float64], toward: Floats
    ) -> NDArray[np.float64]:
        """(items, classes) chances, each of a class against its absence."""
        settings = self._settings
        absent = len(self._pool.rows) - self._counts
        present = votes / (self._counts + 1.0) ** settings.size_correction
        missing = (total[:, None] - votes) / (absent + 1.0) ** settings.size_correction
        share = present / np.maximum(present + missing, 1e-12)
        share = (1 - settings.doubt) * share + settings.doubt / 2
        odds = np.log(share) - np.log1p(-share)
        score = settings.vote_weight * odds + toward / settings.definition_temperature
        return np.asarray(1 / (1 + np.exp(-score)))

    def _say_one(
        self, chance: NDArray[np.float64], heads: NDArray[np.int64], voters: int, toward: Floats
    ) -> EmbeddedAnswer:
        best = int(chance.argmax())
        name, confidence = self._names[best], round(float(chance[best]), 4)
        rank = int((toward > toward[best]).sum()) + 1
        place = "the nearest" if rank == 1 else f"number {rank} in nearness"
        why = (
            f"{heads[best]} of the {voters} nearest trusted items are {name!r}; "
            f"the definition of {name!r} is {place} of {len(self._names)}"
        )
        if confidence < self._settings.answer_above:
            return EmbeddedAnswer(None, confidence, f"too unsure to call: {why}")
        return EmbeddedAnswer(name, confidence, why)

    def _say_each(
        self, chance: NDArray[np.float64], heads: NDArray[np.int64], voters: int, toward: Floats
    ) -> EmbeddedAnswer:
        present = chance > 0.5
        sureness = np.maximum(chance, 1 - chance)
        weakest = int(sureness.argmin())
        confidence = round(float(sureness[weakest]), 4)
        unsure = confidence < self._settings.answer_each_above
        told = [weakest] if unsure else np.flatnonzero(present)[:5].tolist() or [weakest]
        why = "; ".join(
            f"{heads[column]} of the {voters} nearest trusted items have {self._names[column]!r}, "
            f"its definition is {'nearer' if toward[column] > 0 else 'farther'} than half-way"
            for column in told
        )
        if unsure:
            return EmbeddedAnswer(None, confidence, f"too unsure to call: {why}")
        label = tuple(self._names[column] for column in np.flatnonzero(present))
        return EmbeddedAnswer(label, confidence, why)


class EmbeddedJudge:
    """The judge that a job names `embedded`: an `EmbeddingVote` over each round's data."""

    name = "embedded"
    is_llm = False
    concurrency = 1
    repeatable = False  # another round has other trusted rows

    def __init__(self, task: Task, definitions: LabelDefinitions) -> None:
        self._task = task
        self._texts = [
            [f"{name.replace('_', ' ')}: {label.definition}", *label.examples]
            for name, label in definitions.labels.items()
        ]
        self._vectors: list[Floats] | None = None
        self._answers: dict[int, EmbeddedAnswer] = {}

    def begin_round(self, evidence: RoundEvidence, asks: Sequence[Ask]) -> None:
        """Decide every ask's row at once; definitions are embedded the first time."""
        model = cast(TextModel, evidence.model)
        if self._vectors is None:
            flat = model.encode([text for texts in self._texts for text in texts])
            ends = np.cumsum([len(texts) for texts in self._texts])
            self._vectors = np.split(flat, ends[:-1])
        labels, task = evidence.labels, self._task
        units = task.units({"current": labels})
        vote = EmbeddingVote(
            embeddings=model.embeddings,
            labels=counts_by_name(units, task.codes(units, labels)) > 0,
            trusted=evidence.trusted & has_label(labels),
            groups=evidence.groups,
            definition_vectors=self._vectors,
            class_names=task.names,
            exclusive=is_one_choice(task),
        )
        rows = sorted({ask.row for ask in asks})
        self._answers = dict(zip(rows, vote.answer_many(rows), strict=True))

    async def verdict(self, ask: Ask, item: Item) -> Verdict:
        """The verdict on the ask's row, decided when the round began."""
        del item  # only its embedding counts
        found = self._answers[ask.row]
        sure, why = found.confidence, found.rationale
        if found.label is None:
            return Verdict(
                ask.ask_id, ask.id, "abstain", confidence=sure, rationale=why, reason="unsure"
            )
        answer = label_json(found.label)
        return Verdict(ask.ask_id, ask.id, "answer", answer, confidence=sure, rationale=why)

    def stop(self, reason: str) -> None:
        """Nothing waits."""

    async def aclose(self) -> None:
        """Nothing is open."""
