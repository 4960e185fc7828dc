"""Fine-tuning of the encoder itself, in folds, for `model.finetune: true`.

Every row's probabilities come from a model that saw neither it nor its group. On a CPU the
same seed gives the same numbers; on a GPU they may differ in the last digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from llm_relabel.models.parts.calibration import calibrate
from llm_relabel.models.parts.encoder import MAX_TOKENS, Encoder, mean_pool
from llm_relabel.models.targets import Targets

Report = Callable[[int, int], None]
Floats = NDArray[np.float32]
TokenIds = Sequence[Sequence[int]]

LEARNING_RATE = 5e-5
HEAD_LEARNING_RATE = 1e-3  # the head starts from nothing
WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # share of the steps
DROPOUT = 0.1
GRADIENT_NORM = 1.0
BATCH_ROWS = 16
PREDICT_ROWS = 64


def finetuned_out_of_fold(
    encoder: Encoder,
    texts: Sequence[str],
    targets: Targets,
    groups: NDArray[np.int64],
    *,
    folds: int,
    epochs: int,
    seed: int,
    report: Report | None,
) -> Floats:
    """(rows, classes) calibrated probabilities, each from a model without the row's group.

    `report(done, total)` hears of rows trained on, each counted once an epoch and fold. Rows
    whose label is missing are predicted by the model of the fold they fall in.
    """
    fold_of = _folds(targets, groups, folds, seed)
    numbers = np.unique(fold_of)
    trains = [np.flatnonzero(targets.known & (fold_of != fold)) for fold in numbers]
    total = epochs * sum(len(train) for train in trains)
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if report is not None:
            report(done, total)

    scores = np.zeros(targets.matrix.shape, dtype=np.float32)
    for fold, train in zip(numbers, trains, strict=True):
        held = np.flatnonzero(fold_of == fold)
        scores[held] = _train_and_score(
            encoder, [texts[row] for row in train.tolist()], targets.matrix[train],
            [texts[row] for row in held.tolist()], exclusive=targets.exclusive, epochs=epochs,
            seed=seed + int(fold), count=count,
        )  # fmt: skip
    known = np.flatnonzero(targets.known)
    calibration = calibrate(scores, targets.matrix, known, exclusive=targets.exclusive)
    return calibration.apply(scores)


def finetuned_predict(
    encoder: Encoder,
    texts: Sequence[str],
    targets: Targets,
    new_texts: Sequence[str],
    *,
    epochs: int,
    seed: int,
) -> Floats:
    """(new_texts, classes) probabilities from one model trained on all known rows.

    They are the model's own, uncalibrated: there is no held-out part to calibrate on.
    """
    train = np.flatnonzero(targets.known)
    scores = _train_and_score(
        encoder, [texts[row] for row in train.tolist()], targets.matrix[train], list(new_texts),
        exclusive=targets.exclusive, epochs=epochs, seed=seed, count=lambda _rows: None,
    )  # fmt: skip
    # Log-probabilities where classes exclude each other, else logits.
    probs = np.exp(scores) if targets.exclusive else expit(scores)
    return np.asarray(probs, dtype=np.float32)


def _folds(targets: Targets, groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(rows,) fold numbers: a group is never split, a class is spread as evenly as it can be."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    rows, classes = targets.matrix.shape
    # Rows without a class, and rows whose label is missing, are spread like classes of their own.
    first = np.where(targets.matrix.any(axis=1), targets.matrix.argmax(axis=1), classes)
    first = np.where(targets.known, first, classes + 1)
    folds = min(folds, len(np.unique(groups)))
    found = np.zeros(rows, dtype=np.int64)
    if folds < 2:
        return found
    splitter: Any = GroupKFold(folds)
    if np.bincount(first).max() >= folds:  # sklearn refuses to stratify less
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer rows than folds just misses from some of them.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, held) in enumerate(splitter.split(np.zeros((rows, 1)), first, groups)):
            found[held] = number
    return found


def _train_and_score(
    encoder: Encoder,
    train_texts: list[str],
    matrix: NDArray[np.bool_],
    new_texts: list[str],
    *,
    exclusive: bool,
    epochs: int,
    seed: int,
    count: Callable[[int], None],
) -> Floats:
    """(new_texts, classes): log-probabilities (exclusive) or logits from one trained model."""
    import torch

    if not train_texts or not new_texts:
        # Nothing to learn from: every class is as likely as any other.
        even = -np.log(matrix.shape[1]) if exclusive else 0.0
        return np.full((len(new_texts), matrix.shape[1]), even, dtype=np.float32)
    cuda = torch.cuda.is_available()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.manual_seed(seed)
        tokenizer, model = encoder.load_parts()
        device = torch.device("cuda" if cuda else "cpu")
        pad = tokenizer.pad_token_id or 0
        network = _network(model, matrix.shape[1]).to(device)
        ids = tokenizer(train_texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        _train(network, ids, pad, matrix, exclusive, epochs, seed, device, count)
        new = tokenizer(new_texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        return _score(network, new, pad, matrix.shape[1], exclusive, device)


def _network(model: Any, classes: int) -> Any:
    """The encoder, its tokens' mean, dropout and a linear head: (tokens, mask) to logits."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model
            self.dropout = torch.nn.Dropout(DROPOUT)
            self.head = torch.nn.Linear(model.config.hidden_size, classes)

        def forward(self, tokens: Any, mask: Any) -> Any:
            states = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
            return self.head(self.dropout(mean_pool(states, mask)))

    return Network()


def _train(
    network: Any,
    ids: TokenIds,
    pad: int,
    matrix: NDArray[np.bool_],
    exclusive: bool,
    epochs: int,
    seed: int,
    device: Any,
    count: Callable[[int], None],
) -> None:
    import torch

    rng = np.random.default_rng(seed)
    lengths = np.array([len(one) for one in ids])
    truth = torch.from_numpy(matrix.astype(np.float32))
    steps = epochs * -(-len(ids) // BATCH_ROWS)
    warm = max(1, round(WARM_UP * steps))
    optimizer = torch.optim.AdamW(
        [
            {"params": network.encoder.parameters(), "lr": LEARNING_RATE},
            {"params": network.head.parameters(), "lr": HEAD_LEARNING_RATE},
        ],
        weight_decay=WEIGHT_DECAY,
        fused=True,  # on a CPU several times faster a step than the plain loop over parameters
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm))),
    )
    network.train()
    for _ in range(epochs):
        for rows in _shuffled_batches(lengths, rng):
            tokens, mask = _pad([ids[row] for row in rows], pad)
            logits = network(tokens.to(device), mask.to(device))
            wanted = truth[rows].to(device)
            loss = (
                torch.nn.functional.cross_entropy(logits, wanted.argmax(dim=1))
                if exclusive
                else torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            count(len(rows))


def _score(
    network: Any, ids: TokenIds, pad: int, classes: int, exclusive: bool, device: Any
) -> Floats:
    import torch

    network.eval()
    scores = np.empty((len(ids), classes), dtype=np.float32)
    by_length = np.argsort([len(one) for one in ids], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(ids), PREDICT_ROWS):
            rows = by_length[start : start + PREDICT_ROWS]
            tokens, mask = _pad([ids[row] for row in rows], pad)
            logits = network(tokens.to(device), mask.to(device)).float()
            scores[rows] = (logits.log_softmax(dim=1) if exclusive else logits).cpu().numpy()
    return scores


def _shuffled_batches(
    lengths: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Batches of rows of like length, which rows share one and their order drawn anew."""
    drawn = rng.permutation(len(lengths))
    ordered = drawn[np.argsort(lengths[drawn], kind="stable")]
    batches = [ordered[at : at + BATCH_ROWS] for at in range(0, len(ordered), BATCH_ROWS)]
    for at in rng.permutation(len(batches)):
        yield batches[at]


def _pad(ids: TokenIds, pad: int) -> tuple[Any, Any]:
    """(batch, tokens) ids and their mask."""
    import torch

    width = max([1, *(len(one) for one in ids)])
    tokens = torch.full((len(ids), width), pad)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for line, one in enumerate(ids):
        tokens[line, : len(one)] = torch.tensor(one, dtype=torch.long)
        mask[line, : len(one)] = 1
    return tokens, mask
