"""What the words say beside the encoder: TF-IDF of one and two words, reduced by SVD.

The features depend on the texts alone, never on labels, so one matrix serves every round.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 400
# On more rows than this the directions are found on a sample; the rows are projected on them.
FIT_ROWS = 100_000
_VERSION = "1"


class TextFeatures:
    """TF-IDF (1-2 grams) to at most 400 directions, rows of unit length."""

    def __init__(self, texts: Sequence[str], *, seed: int, cache: Path | None) -> None:
        self._texts = texts
        self._seed = seed
        self._cache = cache / "text-features" if cache is not None else None
        self._fitted: tuple[Any, Any] | None = None

    def matrix(self) -> NDArray[np.float32]:
        """(rows, at most 400) features of the texts; no columns where the texts hold no words."""
        path = self._cache / f"{self._key()}.npy" if self._cache is not None else None
        if path is not None and path.exists():
            try:
                return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
            except ValueError:
                pass  # a torn file of an older version: made anew below
        features = self.transform(self._texts)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.{os.getpid()}.tmp.npy")
            np.save(beside, features, allow_pickle=False)
            beside.replace(path)
        return features

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The same features for any texts."""
        vectorizer, svd = self._fit()
        if vectorizer is None:
            return np.zeros((len(texts), 0), dtype=np.float32)
        features = svd.transform(vectorizer.transform(texts)).astype(np.float32)
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        return np.asarray(features / np.maximum(norms, 1e-6), dtype=np.float32)

    def _fit(self) -> tuple[Any, Any]:
        if self._fitted is None:
            self._fitted = self._fit_now()
        return self._fitted

    def _fit_now(self) -> tuple[Any, Any]:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = self._texts
        if len(texts) > FIT_ROWS:
            chosen = np.random.default_rng(self._seed).choice(len(texts), FIT_ROWS, replace=False)
            texts = [self._texts[row] for row in np.sort(chosen)]
        # A gram that occurs once says nothing about any other row.
        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b",
            max_features=200_000, dtype=np.float32,
        )  # fmt: skip
        try:
            grams = vectorizer.fit_transform(texts)
        except ValueError:  # no gram occurs twice: very few or empty texts
            return None, None
        components = min(COMPONENTS, min(grams.shape) - 1)
        if components < 1:
            return None, None
        svd = TruncatedSVD(components, random_state=self._seed, n_iter=4)
        svd.fit(grams)
        return vectorizer, svd

    def _key(self) -> str:
        digest = hashlib.sha256(
            f"{_VERSION}:{version('scikit-learn')}:{COMPONENTS}:{self._seed}".encode()
        )
        for text in self._texts:
            digest.update(text.encode("utf-8", "surrogatepass"))
            digest.update(b"\x00")
        return digest.hexdigest()[:40]
