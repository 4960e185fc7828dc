"""A linear-chain CRF over tags B and I of each type, for several heads at once.

States are 0 for O, 1 + 2t for B and 2 + 2t for I of type t. I follows B or I of its own type only;
what cannot follow has a large negative score, so that it never happens. Heads are the models of the
folds: they are trained in one pass, each on its own sentences.

The recursions are the forward and backward ones of Rabiner (1989), in logarithms; marginalising
over tags that are not known is the partial CRF of Tsuboi et al. (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

IMPOSSIBLE = -1e4
Floats = NDArray[np.float32]


def legal(types: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(S, S) scores of one state after another, and (S,) of each as the first: 0 or IMPOSSIBLE."""
    states = 1 + 2 * types
    after, first = torch.zeros(states, states), torch.zeros(states)
    for inside in range(2, states, 2):
        after[:, inside] = IMPOSSIBLE
        after[[inside - 1, inside], inside] = 0
        first[inside] = IMPOSSIBLE
    return after, first


def log_sum(
    emissions: torch.Tensor, lengths: torch.Tensor, after: torch.Tensor, first: torch.Tensor
) -> torch.Tensor:
    """(K, B) the log of the sum over all tag sequences.

    `emissions` (K, B, L, S), `lengths` (B,) at least 1, `after` (K, S, S), `first` (K, S).
    """
    state = emissions[:, :, 0] + first[:, None]
    for place in range(1, emissions.shape[2]):
        moved = torch.logsumexp(state[..., None] + after[:, None], dim=2) + emissions[:, :, place]
        state = torch.where((place < lengths)[None, :, None], moved, state)
    return torch.logsumexp(state, dim=2)


def loss(
    emissions: torch.Tensor, allowed: torch.Tensor, lengths: torch.Tensor, after: torch.Tensor,
    first: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """(K, B) minus the log probability that every word has one of its `allowed` (B, L, S) tags."""
    penalty = torch.where(allowed, 0.0, IMPOSSIBLE)[None]
    whole = log_sum(emissions, lengths, after, first)
    return whole - log_sum(emissions + penalty, lengths, after, first)


@dataclass(frozen=True)
class Chain:
    """One sentence under one head: all that is asked of it. Scores are float64.

    `emissions` (L, S), `after` (S, S), `first` (S,).
    """

    emissions: NDArray[np.float64]
    after: NDArray[np.float64]
    first: NDArray[np.float64]
    forward: NDArray[np.float64]
    backward: NDArray[np.float64]
    total: float

    @classmethod
    def of(cls, emissions: Any, after: Any, first: Any) -> Chain:
        """Run both recursions."""
        emissions = np.asarray(emissions, dtype=np.float64)
        after, first = np.asarray(after, dtype=np.float64), np.asarray(first, dtype=np.float64)
        forward, backward = np.empty_like(emissions), np.zeros_like(emissions)
        forward[0] = emissions[0] + first
        for place in range(1, len(emissions)):
            forward[place] = _log_sum(forward[place - 1][:, None] + after, 0) + emissions[place]
        for place in range(len(emissions) - 2, -1, -1):
            onward = emissions[place + 1] + backward[place + 1]
            backward[place] = _log_sum(after + onward[None], 1)
        total = float(_log_sum(forward[-1], 0))
        return cls(emissions, after, first, forward, backward, total)

    @property
    def marginals(self) -> NDArray[np.float64]:
        """(L, S) the probability of each tag of each word."""
        return np.asarray(np.exp(self.forward + self.backward - self.total))

    def best(self) -> list[int]:
        """The likeliest tags (Viterbi)."""
        score, back = self.emissions[0] + self.first, []
        for place in range(1, len(self.emissions)):
            moved = score[:, None] + self.after
            back.append(moved.argmax(axis=0))
            score = moved.max(axis=0) + self.emissions[place]
        state = int(score.argmax())
        path = [state]
        for came in reversed(back):
            state = int(came[state])
            path.append(state)
        return path[::-1]

    def log_probability(self, tags: NDArray[np.int64]) -> float:
        """Of exactly these tags (L,)."""
        score = self.first[tags[0]] + self.emissions[np.arange(len(tags)), tags].sum()
        return float(score + self.after[tags[:-1], tags[1:]].sum() - self.total)

    def spans(self, start: int, kind: int, longest: int) -> NDArray[np.float64]:
        """(n,) the probability of a span of a type that begins at `start` and has 1 to n words."""
        begin, inside = 1 + 2 * kind, 2 + 2 * kind
        n = min(longest, len(self.emissions) - start)
        grown = self.emissions[start + 1 : start + n, inside] + self.after[inside, inside]
        if n > 1:
            grown[0] += self.after[begin, inside] - self.after[inside, inside]
        score = self.forward[start, begin] + np.concatenate([[0.0], np.cumsum(grown)])
        # What follows may be anything but more of the same span; at the end, nothing.
        ends = np.zeros(n)
        last = np.full(n, inside)
        last[0] = begin
        followed = n if start + n < len(self.emissions) else n - 1
        if followed:
            onward = (self.emissions + self.backward)[start + 1 : start + 1 + followed]
            following = self.after[last[:followed]] + onward
            following[:, inside] = -np.inf
            ends[:followed] = _log_sum(following, 1)
        return np.asarray(np.exp(score + ends - self.total))


def _log_sum(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    top = values.max(axis=axis, keepdims=True)
    found = np.log(np.exp(values - top).sum(axis=axis, keepdims=True)) + top
    return np.asarray(np.squeeze(found, axis=axis))
