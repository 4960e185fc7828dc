"""What makes the evidence doubtful, told from the evidence itself, where no person has looked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from llm_relabel.evidence.predicted import Predicted
from llm_relabel.tasks import is_one_choice
from llm_relabel.units import Labels, differs, has_label, hashable

# A judge that so often names neither the given nor the predicted label is wrong often, or the
# labels are: nothing but a person's look tells which.
THIRD_LABEL = 0.3
# Kappa of out-of-fold predictions with the labels, below which the small model knows little.
LITTLE_SKILL = 0.2
# How often a judge is believed to be right, below which it is a weak witness.
OFTEN_WRONG = 2 / 3
FEWEST_JUDGED = 50
# A lean (views.py) below which the verdicts are overruled wherever it matters, so that a weak
# judge does no harm.
OVERRULED = -3.5
# Between these leans the texts do not tell which side is right more often; it is a doubt where the
# changed labels are believed less than SURE, too. With OVERRULED chosen on the recorded judges of
# evals/sets.py.
UNTOLD, SURE = (-2.0, 1.0), 0.9
FEWEST_OF_A_SIDE = 20  # a test by fewer would find nothing in a good judge either


# A judge that gives one answer: from so many answers on, of which so large a share is the same one,
# where that is less likely than CHANCE if it were as frequent as the labels or the model have it.
FEWEST_ALIKE, ALIKE, CHANCE = 12, 0.9, 1e-3
# Kappa below which the small model's agreement with a judge says nothing at all.
NO_SKILL = 0.05


def constant_answers(model: Predicted, judges: Mapping[str, Labels]) -> dict[str, str]:
    """The judges that answer nearly always the same, whatever they are asked: each with a doubt.

    What the given labels and the small model say of the same items is what is held against it: an
    answer that is right nearly always is no constant.
    """
    found = {}
    for name, said in judges.items():
        rows = np.flatnonzero(has_label(said))
        if len(rows) < FEWEST_ALIKE:
            continue
        answers = Counter(hashable(label) for label in said[rows].tolist())
        answer, count = answers.most_common(1)[0]
        if count < ALIKE * len(rows):
            continue
        usual = max(
            sum(hashable(label) == answer for label in labels[rows].tolist())
            for labels in (model.given, model.labels)
        )
        share = (usual + 1) / (len(rows) + 2)
        # P(X >= count), X binomial: the regularised incomplete beta function.
        if betainc(count, len(rows) - count + 1, share) < CHANCE:
            label = next(each for each in said[rows].tolist() if hashable(each) == answer)
            found[name] = (
                f"{name} gave the same answer, {model.task.show(label)}, to {count:,} of "
                f"{len(rows):,} questions: it does not look at the items, and is not followed"
            )
    return found


def too_thin_to_agree(
    model: Predicted, judges: Mapping[str, Labels], posterior_in: Callable[[Labels], Any]
) -> str | None:
    """Why no label should be changed by the agreement of judge and small model; None: it may.

    `posterior_in` gives the (rows,) belief of all evidence in some labels.
    """
    labeled = has_label(model.given)
    if is_one_choice(model.task) and labeled.sum() >= FEWEST_JUDGED:
        skill = _kappa(model, model.given, model.labels)
        if skill < NO_SKILL:
            return f"the small model does not know these labels ({_in_words(skill)})"
    for name, said in judges.items():
        both = has_label(said) & labeled
        if both.sum() < FEWEST_ALIKE:
            continue
        judge, given = (float(posterior_in(each)[both].mean()) for each in (said, model.given))
        if judge < given:
            return (
                f"all evidence together believes the given labels ({given:.0%} right) more than "
                f"{name} ({judge:.0%}) where both speak"
            )
    return None


def doubts_of(
    model: Predicted,
    judges: Mapping[str, Labels],
    accuracy: Mapping[str, float],
    *,
    lean: float | None = None,
    learned: tuple[Labels, Labels] | None = None,
    belief: float | None = None,
) -> Iterator[str]:
    """The doubts in words. `judges` maps each to what it said, `accuracy` to how often it is
    believed to be right.

    `lean` is how much the texts vouch for the verdicts, where that is known; `learned` then holds
    the verdicts and what a model of them predicts, and `belief` is the mean belief in the labels
    that would change, None where few would.
    """
    given, predicted = model.given, model.labels
    labeled = has_label(given)
    followed = lean is None or lean > OVERRULED
    if lean is not None and UNTOLD[0] < lean < UNTOLD[1] and belief is not None and belief < SURE:
        yield (
            "the texts hardly tell whether the given labels or the verdicts are right more often, "
            f"and the changed labels are believed in only {belief:.0%}: spot-checks would tell"
        )
    votes = {
        name: told
        for name, told in judges.items()
        if (has_label(told) & labeled).sum() >= FEWEST_JUDGED
    }
    for name in votes:
        if followed and accuracy[name] < OFTEN_WRONG:
            yield (
                f"all evidence together believes {name} right in only {accuracy[name]:.0%} of its "
                "answers: it is a weak witness"
            )
    if not is_one_choice(model.task):
        return
    skill = _kappa(model, given, predicted)
    if learned is not None:
        skill = max(skill, _kappa(model, *learned))
    if labeled.sum() >= FEWEST_JUDGED and skill < LITTLE_SKILL:
        yield (
            f"the small model hardly knows these labels ({_in_words(skill)}): it "
            "finds few of the wrong ones and its agreement with a judge means little"
        )
    for name, told in votes.items():
        spoken = has_label(told) & labeled
        third = differs(told, given) & differs(told, predicted) & spoken
        share = third.sum() / spoken.sum()
        if share > THIRD_LABEL and followed:
            yield (
                f"{name} names neither the given nor the predicted label in {share:.0%} of its "
                "answers: either it is often wrong or most of these labels are, and without "
                "spot-checks nothing tells which"
            )
        elif lean is None and _ignores_the_evidence(model, told):
            yield (
                f"{name} sides with the small model as often where that is unsure as where it is "
                "sure: its answers go with nothing else that is known, so nothing speaks for them"
            )


def _codes(model: Predicted, labels: Labels) -> NDArray[np.int32]:
    """(rows,) codes, where every item is one unit."""
    return model.task.codes(model.units, labels)


def _kappa(model: Predicted, labels: Labels, predicted: Labels) -> float:
    """Cohen's kappa of predictions with the labels that they were learned from."""
    both, classes = has_label(labels), len(model.task.names)
    a, b = (_codes(model, each)[both] for each in (labels, predicted))
    if not len(a):
        return 0.0
    shares = [np.bincount(codes, minlength=classes) / len(codes) for codes in (a, b)]
    chance = float(shares[0] @ shares[1])
    return float(((a == b).mean() - chance) / max(1 - chance, 1e-9))


def _in_words(skill: float) -> str:
    """Cohen's kappa for people."""
    return f"of what chance leaves open it predicts {max(skill, 0):.0%}"


def _ignores_the_evidence(model: Predicted, told: Labels) -> bool:
    """Whether a judge that must choose between given and predicted label does not choose the
    predicted one more where the small model is surer of it (Mann and Whitney, one-sided 5%)."""
    old, new, said = (_codes(model, labels) for labels in (model.given, model.labels, told))
    torn = has_label(model.given) & has_label(told) & (old != new)
    rows = np.arange(len(old))
    margin = model.beliefs[rows, new] - model.beliefs[rows, old]
    sides, stays = margin[torn & (said == new)], margin[torn & (said == old)]
    if len(sides) + len(stays) < FEWEST_JUDGED or min(len(sides), len(stays)) < FEWEST_OF_A_SIDE:
        return False
    from scipy.stats import mannwhitneyu

    return bool(mannwhitneyu(sides, stays, alternative="greater").pvalue > 0.05)
