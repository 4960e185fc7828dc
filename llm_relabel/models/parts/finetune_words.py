"""Fine-tuning of the encoder itself for tags of words, in folds, for `model.finetune: true`.

Any encoder of transformers becomes a token classifier: a linear head reads each word's first
subword. On a CPU the same seed gives the same numbers; on a GPU they may differ in the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llm_relabel.models.parts.encoder import Encoder
from llm_relabel.models.parts.finetune import (
    BATCH_ROWS,
    DROPOUT,
    GRADIENT_NORM,
    HEAD_LEARNING_RATE,
    LEARNING_RATE,
    PREDICT_ROWS,
    WARM_UP,
    WEIGHT_DECAY,
)
from llm_relabel.models.parts.word_vectors import Sentences, Window, windows_of

Floats = NDArray[np.float32]
Tags = Sequence[NDArray[np.int64] | None]
Flat = list[tuple[int, Window]]


def finetuned_tags(
    encoder: Encoder,
    sentences: Sentences,
    tags: Tags,
    states: int,
    folds: NDArray[np.int64],
    *,
    epochs: int,
    seed: int,
    report: Callable[[int, int], None] | None,
) -> list[Floats]:
    """(words, states) log-probabilities of each sentence, by a model of the other folds.

    `tags` (words,) are the states of each sentence, None: not learned from. `folds` (rows,).
    `report(done, total)` hears of sentences trained on, each counted once an epoch and fold.
    """
    found = [np.zeros((len(sentence), states), dtype=np.float32) for sentence in sentences]
    known = np.array([each is not None and len(each) > 0 for each in tags])
    trains = [np.flatnonzero(known & (folds != fold)) for fold in np.unique(folds)]
    total, done = epochs * sum(map(len, trains)), 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if report is not None:
            report(min(done, total), total)

    for fold, train in zip(np.unique(folds).tolist(), trains, strict=True):
        held = np.flatnonzero(folds == fold).tolist()
        own = [tags[row] for row in train.tolist()]
        new = train_and_tag(
            encoder, [sentences[row] for row in train.tolist()], own,
            [sentences[row] for row in held], states, epochs=epochs, seed=seed + fold, count=count,
        )  # fmt: skip
        for row, scores in zip(held, new, strict=True):
            found[row] = scores
    return found


def train_and_tag(
    encoder: Encoder, sentences: Sentences, tags: Tags, new: Sentences, states: int, *,
    epochs: int, seed: int, count: Callable[[int], None],
) -> list[Floats]:  # fmt: skip
    """(words, states) log-probabilities of `new` sentences from a model of the others."""
    even = np.float32(-np.log(states))
    if not sentences:
        return [np.full((len(each), states), even) for each in new]
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.manual_seed(seed)
        tokenizer, model = encoder.load_parts()
        device = torch.device("cuda" if cuda else "cpu")
        network = _Network(model, states).to(device)
        pad = tokenizer.pad_token_id or 0
        flat = _flat(tokenizer, sentences)
        _train(network, flat, tags, pad, epochs, seed, device, count)
        return _tag(network, _flat(tokenizer, new), new, states, pad, device)


class _Network(torch.nn.Module):
    """The encoder, dropout and a linear head on each subword."""

    def __init__(self, model: Any, states: int) -> None:
        super().__init__()
        self.encoder = model
        self.dropout = torch.nn.Dropout(DROPOUT)
        self.head = torch.nn.Linear(model.config.hidden_size, states)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, subwords, states) logits."""
        read = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        found: torch.Tensor = self.head(self.dropout(read))
        return found


def _flat(tokenizer: Any, sentences: Sentences) -> Flat:
    """Every window with its sentence."""
    by_row = windows_of(tokenizer, sentences)
    return [(row, part) for row, parts in by_row.items() for part in parts if len(part.word)]


def _firsts(part: Window) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The words that are taken from a window, and the place of each one's first subword."""
    words, first = np.unique(part.word, return_index=True)
    kept = part.kept[first]
    return words[kept], part.at[first][kept]


def _train(
    network: _Network, flat: Flat, tags: Tags, pad: int, epochs: int, seed: int, device: Any,
    count: Callable[[int], None],
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    steps = epochs * -(-len(flat) // BATCH_ROWS)
    warm = max(1, round(WARM_UP * steps))
    optimizer = torch.optim.AdamW(
        [{"params": network.encoder.parameters(), "lr": LEARNING_RATE},
         {"params": network.head.parameters(), "lr": HEAD_LEARNING_RATE}],
        weight_decay=WEIGHT_DECAY, fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm))),
    )
    network.train()
    for _ in range(epochs):
        drawn = rng.permutation(len(flat))
        order = drawn[np.argsort([len(flat[place][1].ids) for place in drawn], kind="stable")]
        batches = [order[at : at + BATCH_ROWS] for at in range(0, len(order), BATCH_ROWS)]
        for number in rng.permutation(len(batches)).tolist():
            parts = [flat[place] for place in batches[number].tolist()]
            tokens, mask = _padded([part for _, part in parts], pad)
            logits = network(tokens.to(device), mask.to(device))
            lines, places, wanted = [], [], []
            for line, (row, part) in enumerate(parts):
                words, first = _firsts(part)
                own = tags[row]
                assert own is not None
                lines += [line] * len(words)
                places += first.tolist()
                wanted += own[words].tolist()
            loss = torch.nn.functional.cross_entropy(
                logits[lines, places], torch.tensor(wanted, device=device)
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            count(len({row for row, _ in parts}))


def _tag(
    network: _Network, flat: Flat, sentences: Sentences, states: int, pad: int, device: Any
) -> list[Floats]:
    # A word without subwords is as likely any state as another.
    found = [np.full((len(each), states), -np.log(states), np.float32) for each in sentences]
    network.eval()
    order = sorted(range(len(flat)), key=lambda place: len(flat[place][1].ids))
    with torch.inference_mode():
        for start in range(0, len(order), PREDICT_ROWS):
            parts = [flat[place] for place in order[start : start + PREDICT_ROWS]]
            tokens, mask = _padded([part for _, part in parts], pad)
            logits = network(tokens.to(device), mask.to(device)).float().log_softmax(dim=2).cpu()
            for line, (row, part) in enumerate(parts):
                words, first = _firsts(part)
                found[row][words] = logits[line, first].numpy()
    return found


def _padded(parts: Sequence[Window], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(part.ids) for part in parts)
    tokens = torch.full((len(parts), width), pad)
    mask = torch.zeros((len(parts), width), dtype=torch.long)
    for line, part in enumerate(parts):
        tokens[line, : len(part.ids)] = torch.tensor(part.ids)
        mask[line, : len(part.ids)] = 1
    return tokens, mask
