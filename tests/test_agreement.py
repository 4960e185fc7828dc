"""Measures and intervals, against published values, other libraries, and simulation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn import metrics

from llm_relabel.agreement import confidence, measures, paired, raters
from llm_relabel.agreement.gold import average_precision
from llm_relabel.agreement.intervals import bootstrapped, share
from llm_relabel.agreement.judged import Answers, figures
from llm_relabel.definitions import load_definitions
from llm_relabel.tasks.classification import Classification
from llm_relabel.units import Labels, column

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers,
# twelve units, missing data; nominal alpha = 0.743.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]


def test_alpha_is_the_published_one() -> None:
    codes = np.array(OBSERVERS).T - 1
    figure = raters.alpha(raters.category_counts(codes, 5))
    assert figure.value == pytest.approx(0.743, abs=5e-4)
    assert figure.of == 11  # the last unit has one answer
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0.743 < figure.high


def test_alpha_of_two_observers_is_the_published_one() -> None:
    """Krippendorff (2011), examples A (binary, 0.095) and B (nominal, 0.692)."""
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    two = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert measures.alpha_of_two(measures.confusion(np.array(one), np.array(two), 2).astype(float)
                                 ) == pytest.approx(0.095, abs=5e-4)  # fmt: skip
    one = [0, 0, 1, 1, 3, 2, 2, 2, 4, 3, 3, 0]
    two = [1, 0, 1, 1, 1, 2, 2, 2, 4, 3, 3, 3]
    nominal = measures.alpha_of_two(
        measures.confusion(np.array(one), np.array(two), 5).astype(float)
    )
    assert nominal == pytest.approx(0.692, abs=5e-4)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60),
)
def test_coefficients_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, answer = np.array(pairs).T
    matrix = measures.confusion(truth, answer, 4).astype(float)
    used = sorted(set(truth) | set(answer))
    with np.errstate(all="ignore"):
        kappa = metrics.cohen_kappa_score(truth, answer, labels=used) if len(used) > 1 else np.nan
    ours = float(measures.cohen_kappa(matrix))
    assert np.isnan(ours) if np.isnan(kappa) else ours == pytest.approx(kappa)
    matthews = float(measures.matthews(matrix))
    assert np.nan_to_num(matthews) == pytest.approx(metrics.matthews_corrcoef(truth, answer))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, answer, labels=range(4), zero_division=0
    )
    for ours_by_class, theirs in (
        (measures.precision(matrix), precision), (measures.recall(matrix), recall),
        (measures.f1(matrix), f1),
    ):  # fmt: skip
        assert np.nan_to_num(ours_by_class) == pytest.approx(theirs)


def test_an_abstention_is_wrong_or_left_out() -> None:
    truth = np.array([0, 0, 1, 1])
    answer = np.array([0, -1, 1, 0])
    matrix = measures.confusion(truth, answer, 2)
    assert matrix.tolist() == [[1, 0, 1], [1, 1, 0]]
    assert float(measures.accuracy(matrix.astype(float))) == 0.5
    left = measures.answered_only(matrix).astype(float)
    assert float(measures.accuracy(left)) == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_average_precision_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    group, wrong = np.array(rows).T
    counts = np.bincount(2 * group + wrong, minlength=12).astype(float)
    ours = float(average_precision(counts[None])[0])
    if not wrong.any():
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(metrics.average_precision_score(wrong, -group))


@given(st.integers(0, 300), st.integers(0, 300))
def test_exact_intervals_equal_scipy(count: int, others: int) -> None:
    if of := count + others:
        ends = binomtest(count, of).proportion_ci(0.95, method="exact")
        figure = share(count, of)
        assert (figure.low, figure.high) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_shares_have_exact_intervals() -> None:
    """Clopper and Pearson: 0 of n reaches up to 1 - 0.025^(1/n)."""
    none = share(0, 30)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    assert share(7, 10).too_few
    assert not share(14, 20).too_few
    assert share(0, 0).value is None
    assert share(0, 0).as_json()["too_few"]


def kappa_of(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    return measures.cohen_kappa(drawn.reshape(-1, 2, 3))


def test_bootstrap_covers_and_is_seeded() -> None:
    """A small run of `evals/intervals.py`: kappa at n = 100 is covered about 95 times in 100."""
    cells = np.array([0.5, 0.1, 0.0, 0.1, 0.3, 0.0])
    true = float(kappa_of(cells[None, :])[0])
    rng = np.random.default_rng(5)
    counts = rng.multinomial(100, cells, size=150)
    found = [bootstrapped(row, kappa_of, draws=500) for row in counts]
    covered = np.mean([f.low <= true <= f.high for f in found])  # type: ignore[operator]
    assert covered >= 0.88
    assert bootstrapped(counts[0], kappa_of, seed=3) == bootstrapped(counts[0], kappa_of, seed=3)


def test_where_nothing_varies_no_interval_is_made_up() -> None:
    figure = bootstrapped(np.array([40, 0, 0, 0, 0, 0]), kappa_of)
    assert figure.value is None  # one class only: kappa is not defined
    accurate = bootstrapped(np.array([40, 0, 0, 0, 10, 0]), kappa_of)
    assert (accurate.value, accurate.low, accurate.high) == (1.0, None, None)


def answers_from(codes: list[int], belief: list[float] | None = None) -> Answers:
    told = np.full(len(codes), np.nan) if belief is None else np.array(belief)
    return Answers(one_label(codes), told)


NAMES = ("a", "b", "c", "d")
ONE = Classification(load_definitions(dict.fromkeys(NAMES[:2], "x")), pa.string())
SETS = pa.list_(pa.string())


def one_label(codes: list[int]) -> Labels:
    return column(NAMES[code] if code >= 0 else None for code in codes)


def many_labels(matrix: NDArray[np.bool_]) -> Labels:
    return column(tuple(n for n, here in zip(NAMES, row, strict=False) if here) for row in matrix)


def test_confidence_figures_of_a_judge_that_knows() -> None:
    truth = one_label([0] * 40 + [1] * 40)
    codes = [0] * 60 + [1] * 20
    belief = [0.9] * 40 + [0.3] * 20 + [0.9] * 20
    found = figures(ONE, truth, answers_from(codes, belief))
    told = found["confidence"]
    assert told["auroc"]["value"] == 1.0
    assert told["calibration_error"]["value"] == pytest.approx(60 / 80 * 0.1 + 20 / 80 * 0.3)
    at = next(each for each in told["thresholds"] if each["wanted"] == 0.95)
    assert at["threshold"]["value"] == pytest.approx(0.9)
    assert at["coverage"] == pytest.approx(60 / 80)
    assert at["sure"] is None, "60 right of 60 do not prove 95% with a lower bound of 94.0%"
    assert [round(each["accuracy"]["value"], 2) for each in told["reliability"]] == [0.0, 1.0]


def test_auroc_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    belief = np.round(rng.random(300), 2)
    hits = rng.random(300) < belief
    stated = confidence.count_stated(belief, hits, 300)
    assert stated is not None
    ours = confidence.discrimination(stated).value
    assert ours == pytest.approx(metrics.roc_auc_score(hits, belief))
    assert confidence.count_stated(np.full(3, np.nan), np.ones(3, dtype=bool), 3) is None


def test_one_class_everything_right_and_nothing_answered() -> None:
    truth = one_label([0] * 30)
    alone = figures(ONE, truth, answers_from([0] * 30))
    assert alone["accuracy"]["abstained_wrong"]["value"] == 1.0
    assert alone["kappa"]["answered_only"]["value"] is None
    silent = figures(ONE, truth, answers_from([-1] * 30))
    assert silent["accuracy"]["answered_only"]["value"] is None
    assert silent["accuracy"]["abstained_wrong"]["value"] == 0.0
    assert silent["coverage"]["value"] == 0.0


def test_multi_label_figures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    truth, said = rng.random((80, 4)) < 0.4, rng.random((80, 4)) < 0.5
    answers = Answers(many_labels(said), np.full(80, np.nan))
    task = Classification(load_definitions(dict.fromkeys(NAMES, "x")), SETS)
    found = figures(task, many_labels(truth), answers)
    for name, average in (("macro_f1", "macro"), ("micro_f1", "micro")):
        value = found[name]["abstained_wrong"]["value"]
        assert value == pytest.approx(metrics.f1_score(truth, said, average=average))
    assert found["accuracy"]["answered_only"]["value"] == pytest.approx(
        (truth == said).all(axis=1).mean()
    )


def test_mcnemar_and_holm() -> None:
    assert paired.mcnemar(8, 1) == pytest.approx(0.0390625)  # 2 * (1 + 9) / 2^9
    assert paired.mcnemar(0, 0) == 1.0
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def raters_of(people: int, items: int, right_share: float, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, items)
    noisy = np.where(rng.random((people, items)) < right_share, truth, rng.integers(0, 3, items))
    return np.asarray(noisy.T)


def test_the_alternative_annotator_test_tells_good_from_bad() -> None:
    """Simulated raters, right in about 80%: a judge that is better passes, one by chance fails."""
    table = raters_of(5, 200, 0.7, 0)
    truth = np.array([np.bincount(row, minlength=3).argmax() for row in table])
    names = [f"r{number}" for number in range(5)]
    good = raters.alternative_annotator(table, truth, names)
    assert good["passed"]
    assert good["advantage"] > 0.9
    chance = np.random.default_rng(9).integers(0, 3, 200)
    bad = raters.alternative_annotator(table, chance, names)
    assert not bad["passed"]
    assert bad["advantage"] < good["advantage"]
    few = raters.alternative_annotator(table[:10], truth[:10], names)
    assert few["passed"] is None
    assert "too few" in few["why"]
    among = raters.people_agreement(table, 3)
    assert among["raters"] == 5
    assert 0 < among["alpha"]["value"] < 1


def test_silence_on_an_item_without_labels_is_not_right() -> None:
    answers = Answers(column([(), (), None, None]), np.full(4, np.nan))
    task = Classification(load_definitions(dict.fromkeys(NAMES[:2], "x")), SETS)
    found = figures(task, column([()] * 4), answers)
    assert found["overlap"]["abstained_wrong"]["value"] == 0.5


def test_a_bootstrap_of_two_cases_has_an_end() -> None:
    figure = bootstrapped(np.array([1, 0, 0, 0, 1, 0]), kappa_of)
    assert figure.value == 1.0
