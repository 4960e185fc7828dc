"""How fast texts are embedded in lower precision, and whether neighbours and flags stay.

    LLM_RELABEL_DATA=... python evals/embedding.py [--rows 4000]

The bundled encoder in float32, in bfloat16 (what a large job takes where the processor has it), and
in int8 (dynamic quantization of the linear layers), side by side on the same texts: rows a second
on all cores, the cosine with float32, how many of the ten nearest neighbours are the same, and of
the rows that the small model flags how many are, with the average precision of their ranking. The
labels are those of TREC-6 (weak, as they came) and banking77 with 20% flipped.

The bar, set before it was measured: 98% of the flags, and the average precision within .2 points.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from machine import facts, keep, rows_of, table
from noise import flip

from llm_relabel.agreement import flagging_against_gold
from llm_relabel.config.job import ModelSection
from llm_relabel.measure import Accuracy
from llm_relabel.models.parts.encoder import BFLOAT16, FULL, Encoder, has_bfloat16
from llm_relabel.models.targets import ClassLabels
from llm_relabel.models.text_classifier import TextClassifier
from llm_relabel.units import differs

FLAGS, PRECISION = 0.98, 0.002
NEIGHBOURS = 10


class Fixed(Encoder):
    """The bundled encoder in one precision whatever the number of texts."""

    def __init__(self, kind: str) -> None:
        super().__init__("embedded", cache=None)
        self.kind = kind

    def precision(self, count: int) -> str:  # noqa: ARG002 - it is fixed
        return BFLOAT16 if self.kind == BFLOAT16 else FULL

    def loaded(self, precision: str) -> tuple[Any, Any, Any]:
        if self.kind == "int8" and precision not in self._loaded:
            import torch

            tokenizer, model, device = super().loaded(precision)
            kinds = {torch.nn.Linear}
            smaller = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)
            self._loaded[precision] = tokenizer, smaller, device
        return super().loaded(precision)


def labels_of(name: str, rows: int) -> tuple[list[str], Any, Any]:
    """Texts, labels and gold of a set."""
    found = [row for row in rows_of(name) if (row["gold"] or row["label"]) is not None]
    some = np.random.default_rng(0).permutation(len(found))[:rows]
    chosen = [found[place] for place in sorted(some)]
    texts = [row["text"] for row in chosen]
    gold = np.array([row["gold"] or row["label"] for row in chosen], dtype=object)
    if name == "trec_weak":
        return texts, np.array([row["label"] for row in chosen], dtype=object), gold
    names = sorted(set(gold))
    codes = np.array([names.index(label) for label in gold])
    even = np.full((len(codes), len(names)), 1 / len(names), dtype=np.float32)
    noisy = flip("sym", 0.2, codes, even, 0)
    return texts, np.array([names[code] for code in noisy], dtype=object), gold


def measure(name: str, rows: int) -> list[dict[str, Any]]:
    """Every precision on one set."""
    texts, labels, gold = labels_of(name, rows)
    names = tuple(sorted({*labels, *gold} - {None}))
    found: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for kind in (FULL, BFLOAT16, "int8"):
        encoder = Fixed(kind)
        encoder.embed(texts[:64])
        begun = time.perf_counter()
        vectors = encoder.embed(texts)
        seconds = time.perf_counter() - begun
        model = TextClassifier(
            ModelSection(), texts, np.arange(len(texts)), ClassLabels(names, exclusive=True),
            seed=0, cache=None,
        )  # fmt: skip
        model.__dict__["embeddings"] = vectors
        predicted = model.out_of_fold(labels)
        flagged = differs(labels, predicted.labels)
        probs = np.array(predicted.scores["pred_probs"].to_pylist())
        own = [names.index(label) if label is not None else 0 for label in labels]
        quality = probs[np.arange(len(own)), own].astype(np.float32)
        figures = flagging_against_gold(Accuracy(), labels, gold, flagged, quality)
        near = np.argsort(-(vectors @ vectors.T), axis=1)[:, 1 : NEIGHBOURS + 1]
        if not first:
            first = {"vectors": vectors, "near": near, "flagged": flagged}
        both = first["flagged"] & flagged
        found.append({
            "set": name, "rows": len(texts), "precision": kind, "a_second": len(texts) / seconds,
            "cosine": float((first["vectors"] * vectors).sum(1).mean()),
            "neighbours": float(np.mean([
                len(set(a) & set(b)) / NEIGHBOURS
                for a, b in zip(first["near"].tolist(), near.tolist(), strict=True)
            ])),
            "flags": float(both.sum() / max(1, (first["flagged"] | flagged).sum())),
            "average_precision": figures["flag_average_precision"],
            "right": float((predicted.labels == gold).mean()),
        })  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=4000)
    wanted = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = [each for name in ("trec_weak", "banking77") for each in measure(name, wanted.rows)]
    lines, passed = [], {}
    for each in results:
        full = next(r for r in results if r["set"] == each["set"] and r["precision"] == FULL)
        off = abs(each["average_precision"] - full["average_precision"])
        ok = each["flags"] >= FLAGS and off <= PRECISION
        passed[each["precision"]] = passed.get(each["precision"], True) and ok
        lines.append([
            each["set"], each["precision"], f"{each['rows']:,}", f"{each['a_second']:.0f}",
            f"{each['a_second'] / full['a_second']:.2f}", f"{each['cosine']:.4f}",
            f"{each['neighbours']:.1%}", f"{each['flags']:.1%}",
            f"{100 * each['average_precision']:.2f}", f"{each['right']:.1%}",
            "yes" if ok else "no",
        ])  # fmt: skip
    header = ["set", "precision", "rows", "rows a second", "of float32", "cosine",
              "same neighbours", "same flags", "average precision", "predictions right",
              "over the bar"]  # fmt: skip
    about = facts("llm_relabel", "numpy", "torch", "transformers")
    markdown = (
        "# Embedding in lower precision\n\n"
        "`python evals/embedding.py`; the script says what the words mean and what the bar is.\n"
        f"bfloat16 is built into this processor: {'yes' if has_bfloat16() else 'no'}.\n\n"
        + table(header, lines)
        + f"\n\nMeasured on: {about}\n"
    )
    keep("embedding", {"about": about, "bfloat16": has_bfloat16(), "passed": passed,
                       "results": results}, markdown)  # fmt: skip


if __name__ == "__main__":
    main()
