"""Do the 95% intervals cover? Simulated judges whose true figures are known.

    python evals/intervals.py [--simulations 4000]

Each simulation draws n items from a known confusion matrix and counts how often the interval
holds the true value; an interval that could not be made counts as a miss. Targets: proportions
(Clopper-Pearson) at least 94% at n = 50, 100, 200; composite measures (bootstrap) at least 93%
from n = 100. The matrices were made up for this file and no figure of the method was fitted to
its results, except two choices: among the published corrections of the bootstrap (percentile,
BCa, BCa with expanded percentiles), made on the first matrix; and how the calibration error's
chance is taken out, made on both judges that state confidences.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from machine import facts, keep, table
from numpy.typing import NDArray

from llm_relabel.agreement import measures
from llm_relabel.agreement.confidence import Stated, calibration_error, discrimination
from llm_relabel.agreement.intervals import bootstrapped, share
from llm_relabel.agreement.raters import alpha

# P(truth, answer), the last column without an answer.
JUDGES = {
    "good, 3 classes": np.array([[.40, .04, .01, .02], [.03, .27, .03, .01], [.02, .02, .14, .01]]),
    "poor, 3 classes": np.array([[.30, .15, .10, .0], [.08, .15, .05, .0], [.05, .04, .08, .0]]),
    "rare class": np.array([[.62, .05, .01, .02], [.06, .16, .01, .01], [.01, .01, .03, .01]]),
}  # fmt: skip
SIZES = (50, 100, 200)
SHARES = (0.5, 0.8, 0.95)
# Stated confidence and how often it is right then, with its weight.
CONFIDENCE = {
    "overconfident": ((0.5, 0.45, 0.2), (0.7, 0.6, 0.2), (0.9, 0.75, 0.4), (0.99, 0.9, 0.2)),
    "nearly calibrated": ((0.5, 0.48, 0.2), (0.7, 0.72, 0.2), (0.9, 0.88, 0.4), (0.99, 0.98, 0.2)),
}
PROPORTION_TARGET, COMPOSITE_TARGET = 0.94, 0.93

Measure = Callable[[measures.Matrix], NDArray[np.float64]]
MEASURES: dict[str, Measure] = {
    "macro F1": lambda m: np.nan_to_num(measures.f1(m)).mean(-1),
    "Cohen's kappa": measures.cohen_kappa,
    "Matthews": measures.matthews,
    "alpha": measures.alpha_of_two,
}


def of_matrix(name: str, judge: str, n: int, simulations: int) -> float:
    """Coverage of one measure of one judge."""
    cells, measure = JUDGES[judge], MEASURES[name]
    shape = cells.shape

    def statistic(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        return measure(drawn.reshape(-1, *shape))

    # Of very many items: alpha corrects for few.
    true = float(statistic(cells.reshape(1, -1) * 1e9)[0])
    rng = np.random.default_rng(n)
    counts = rng.multinomial(n, cells.ravel() / cells.sum(), size=simulations)
    return _covered([bootstrapped(row, statistic) for row in counts], true)


def of_alpha(n: int, simulations: int) -> float:
    """Alpha of four raters who each answer 80% of the items."""
    rng = np.random.default_rng(n)

    def draw(items: int) -> NDArray[np.int64]:
        truth = rng.choice(3, items, p=[0.5, 0.3, 0.2])
        said = np.where(rng.random((4, items)) < 0.75, truth, rng.integers(0, 3, (4, items)))
        said[rng.random(said.shape) > 0.8] = -1
        return np.stack([(said == code).sum(0) for code in range(3)], axis=1)

    true = alpha(draw(2_000_000)).value
    assert true is not None
    return _covered([alpha(draw(n)) for _ in range(simulations)], true)


def of_confidence(name: str, judge: str, n: int, simulations: int) -> float:
    """AUROC, or calibration error, of stated confidences."""
    levels, rights, weights = (np.array(column) for column in zip(*CONFIDENCE[judge], strict=True))
    cells = np.stack([weights * (1 - rights), weights * rights], axis=1)
    measure = discrimination if name == "AUROC" else calibration_error
    true = measure(Stated(levels, np.rint(cells * 1e6).astype(np.int64), 1_000_000)).value
    assert true is not None
    rng = np.random.default_rng(n)
    drawn = rng.multinomial(n, cells.ravel(), size=simulations).reshape(-1, *cells.shape)
    return _covered([measure(Stated(levels, counts, n)) for counts in drawn], true)


def of_shares(p: float, n: int, simulations: int) -> float:
    """Coverage of the exact interval of a share."""
    hits = np.random.default_rng(n).binomial(n, p, simulations)
    return _covered([share(int(each), n) for each in hits], p)


def _covered(figures: list[Any], true: float) -> float:
    return float(np.mean([f.low is not None and f.low <= true <= f.high for f in figures]))


def measure(case: tuple[str, str, int, int]) -> dict[str, Any]:
    """One line of the table."""
    kind, what, n, simulations = case
    if kind == "share":
        covered = of_shares(float(what), n, simulations)
    elif kind == "raters":
        covered = of_alpha(n, simulations)
    elif kind in CONFIDENCE:
        covered = of_confidence(what, kind, n, simulations)
    else:
        covered = of_matrix(what, kind, n, simulations)
    return {"of": kind, "measure": what, "n": n, "covered": covered}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=4000)
    simulations = parser.parse_args().simulations
    cases = [("share", str(p), n, simulations) for p in SHARES for n in SIZES]
    cases += [(judge, name, n, simulations) for judge in JUDGES for name in MEASURES for n in SIZES]
    cases += [("raters", "alpha of four", n, simulations) for n in SIZES]
    cases += [(judge, name, n, simulations) for judge in CONFIDENCE
              for name in ("AUROC", "calibration error") for n in SIZES]  # fmt: skip
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(measure, cases))
    failed = [
        each for each in results
        if (each["of"] == "share" and each["covered"] < PROPORTION_TARGET)
        or (each["of"] != "share" and each["n"] >= 100 and each["covered"] < COMPOSITE_TARGET)
    ]  # fmt: skip
    rows: dict[tuple[str, str], dict[int, float]] = {}
    for each in results:
        rows.setdefault((each["of"], each["measure"]), {})[each["n"]] = each["covered"]
    about = facts("llm_relabel", "numpy", "scipy")
    told = "All targets are met." if not failed else "Missed: " + "; ".join(
        f"{e['of']}, {e['measure']}, n = {e['n']}: {e['covered']:.1%}" for e in failed)  # fmt: skip
    markdown = (
        f"# Coverage of the 95% intervals, {simulations:,} simulations each\n\n"
        "`python evals/intervals.py`. Targets: shares 94% at every n; others 93% from n = 100.\n"
        f"{told}\n\n"
        + table(
            ["judge", "measure", *(f"n = {n}" for n in SIZES)],
            [[*key, *(f"{found[n]:.1%}" for n in SIZES)] for key, found in rows.items()],
        )
        + f"\n\nMeasured on: {about}\n"
    )
    keep(
        "intervals",
        {"about": about, "simulations": simulations, "results": results,
         "missed": len(failed)},
        markdown,
    )  # fmt: skip


if __name__ == "__main__":
    main()
