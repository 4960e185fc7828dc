"""The small models: exact leave-out, no row vouching for its copies, and files that are checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_relabel.config.job import ModelSection
from llm_relabel.errors import DataError, JobError
from llm_relabel.models.own_predictions import load_predictions
from llm_relabel.models.parts import encoder, ridge
from llm_relabel.models.parts.encoder import BUNDLED_FILES, Encoder, bundled_folder, check_bundled
from llm_relabel.models.parts.ridge import LeaveOutRidge
from llm_relabel.models.targets import ClassLabels, Targets
from llm_relabel.models.text_classifier import TextClassifier

SUBJECTS = {
    "travel": ("train", "flight", "hotel", "ferry"),
    "food": ("soup", "bread", "curry", "salad"),
    "sport": ("football", "tennis", "rowing", "judo"),
}
SHAPES = (
    "where can i book a {}",
    "is the {} any good",
    "my friend loved the {} yesterday",
    "how much is a {} these days",
    "tell me about the {}",
)


CLASSES = ClassLabels(tuple(SUBJECTS), exclusive=True)


def subjects() -> tuple[list[str], np.ndarray]:
    """60 texts of 3 classes, and their classes."""
    rows = [
        (shape.format(word), number)
        for number, words in enumerate(SUBJECTS.values())
        for word in words
        for shape in SHAPES
    ]
    return [text for text, _ in rows], np.array([number for _, number in rows])


def one_label(classes: np.ndarray, width: int, known: np.ndarray | None = None) -> Targets:
    matrix = np.eye(width, dtype=np.bool_)[classes]
    known = np.ones(len(classes), dtype=np.bool_) if known is None else known
    matrix[~known] = False
    return Targets(matrix, known, exclusive=True)


def small_model(
    texts, groups=None, *, cache=None, seed=0, folder=Path(), **section
) -> TextClassifier:
    groups = np.arange(len(texts)) if groups is None else groups
    return TextClassifier(
        ModelSection(**section), texts, groups, CLASSES, seed=seed, cache=cache, folder=folder
    )


# Leave-out ridge


def refitted(x, y, groups, train, penalty):
    """The scores of a fit without each row's group, one solve a group, the slow way."""
    gram = x[train].T @ x[train]
    # The penalty is relative to the mean eigenvalue of all training rows.
    strength = penalty * np.trace(gram) / len(gram)
    scores = np.empty((len(x), y.shape[1]))
    for group in np.unique(groups):
        rest = train & (groups != group)
        inside = x[rest].T @ x[rest] + strength * np.eye(x.shape[1])
        scores[groups == group] = x[groups == group] @ np.linalg.solve(inside, x[rest].T @ y[rest])
    return scores


def problem(groups: np.ndarray, *, untrained: float, seed: int):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(len(groups), 12)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, len(groups))]
    train = rng.random(len(groups)) >= untrained
    return x, y, train


GROUPINGS = {
    "all single": np.arange(80),
    "pairs": np.arange(80) // 2,
    "mixed": np.r_[np.zeros(30), np.repeat([1, 2, 3], 5), 100 + np.arange(35)].astype(np.int64),
}


@pytest.mark.parametrize("untrained", [0.0, 0.3])
@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("penalty", [0.1, 3.0])
def test_leave_out_equals_refits(grouping: str, untrained: float, penalty: float) -> None:
    groups = GROUPINGS[grouping]
    x, y, train = problem(groups, untrained=untrained, seed=1)
    scores, used = LeaveOutRidge(x, groups).leave_out(y, train, penalty)
    assert used == penalty
    np.testing.assert_allclose(scores, refitted(x, y, groups, train, penalty), atol=2e-4)


@pytest.mark.parametrize("big", [2, 20, 1000])
def test_big_groups_are_taken_out_exactly(monkeypatch: pytest.MonkeyPatch, big: int) -> None:
    monkeypatch.setattr(ridge, "BIG_GROUP", big)
    groups = GROUPINGS["mixed"]
    x, y, train = problem(groups, untrained=0.2, seed=2)
    scores, _ = LeaveOutRidge(x, groups).leave_out(y, train, 1.0)
    np.testing.assert_allclose(scores, refitted(x, y, groups, train, 1.0), atol=2e-4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = GROUPINGS["mixed"]
    x, y, train = problem(groups, untrained=0.2, seed=3)
    whole, _ = LeaveOutRidge(x, groups).leave_out(y, train, 1.0)
    monkeypatch.setattr(ridge, "CHUNK", 7)
    parts, _ = LeaveOutRidge(x, groups).leave_out(y, train, 1.0)
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_a_group_with_no_trained_row_is_still_predicted() -> None:
    groups = np.array([0, 0, *range(1, 40)])
    x, y, train = problem(groups, untrained=0.0, seed=4)
    train[:2] = False
    scores, _ = LeaveOutRidge(x, groups).leave_out(y, train, 1.0)
    np.testing.assert_allclose(scores, refitted(x, y, groups, train, 1.0), atol=2e-4)


def test_the_penalty_is_chosen_by_leave_out_error() -> None:
    rng = np.random.default_rng(5)
    groups = np.arange(300)
    x = rng.normal(size=(300, 20)).astype(np.float32)
    train = np.ones(300, dtype=np.bool_)
    clear = (x @ rng.normal(size=(20, 2))).astype(np.float32)
    noise = rng.normal(size=(300, 2)).astype(np.float32)
    fitter = LeaveOutRidge(x, groups)
    assert fitter.leave_out(clear, train)[1] == min(ridge.PENALTIES)
    assert fitter.leave_out(noise, train)[1] == max(ridge.PENALTIES)


def test_fit_on_all_rows_is_the_plain_ridge() -> None:
    x, y, train = problem(np.arange(50), untrained=0.3, seed=6)
    weights = LeaveOutRidge(x, np.arange(50)).fit(y, train, 0.3)
    gram = x[train].T @ x[train]
    inside = gram + 0.3 * np.trace(gram) / len(gram) * np.eye(len(gram))
    expected = np.linalg.solve(inside, x[train].T @ y[train])
    np.testing.assert_allclose(weights, expected, atol=1e-4)


# The small model


def test_finds_flipped_labels_out_of_fold() -> None:
    texts, true = subjects()
    labels = true.copy()
    flipped = [3, 22, 47]
    labels[flipped] = (labels[flipped] + 1) % 3
    probs = small_model(texts).out_of_fold_probs(one_label(labels, 3))
    assert probs.shape == (60, 3)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs.argmax(axis=1) == true).mean() > 0.85
    quality = probs[np.arange(60), labels]
    assert set(np.argsort(quality)[:6]) >= set(flipped)


def test_copies_never_vouch_for_each_other() -> None:
    texts, true = subjects()
    copy = texts[0]
    texts = [*texts, copy, copy, copy]
    # Four copies of one travel text, all of them labelled as sport.
    labels = np.r_[true, 2, 2, 2]
    labels[0] = 2
    copies = [0, 60, 61, 62]
    grouped = np.arange(63)
    grouped[copies] = 0
    apart = small_model(texts).out_of_fold_probs(one_label(labels, 3))
    together = small_model(texts, grouped).out_of_fold_probs(one_label(labels, 3))
    assert together[copies, 2].max() < apart[copies, 2].min()
    # What the group's own labels say does not reach the group's scores at all.
    x = small_model(texts).embeddings
    train = np.ones(63, dtype=np.bool_)
    fitter = LeaveOutRidge(x, grouped)
    one, _ = fitter.leave_out(np.eye(3, dtype=np.float32)[labels], train, 1.0)
    labels[copies] = 1
    other, _ = fitter.leave_out(np.eye(3, dtype=np.float32)[labels], train, 1.0)
    np.testing.assert_allclose(one[copies], other[copies], atol=1e-5)


def test_missing_rows_are_predicted_and_never_trained_on() -> None:
    texts, true = subjects()
    known = np.ones(60, dtype=np.bool_)
    known[[1, 21, 41]] = False
    targets = one_label(true, 3, known)
    probs = small_model(texts).out_of_fold_probs(targets)
    assert (probs[~known].argmax(axis=1) == true[~known]).mean() > 0.6
    np.testing.assert_allclose(probs[~known].sum(axis=1), 1, atol=1e-5)
    # Whatever stands in the matrix of a row whose label is missing is not read.
    garbage = Targets(targets.matrix.copy(), targets.known, targets.exclusive)
    garbage.matrix[1] = [False, False, True]
    garbage.matrix[21] = [True, True, True]
    again = small_model(texts).out_of_fold_probs(garbage)
    np.testing.assert_array_equal(probs, again)


def test_many_labels_each_have_their_own_probability() -> None:
    texts, true = subjects()
    rng = np.random.default_rng(0)
    other = rng.permutation(60)
    joined = [f"{texts[row]} and {texts[other[row]]}" for row in range(60)]
    matrix = np.eye(3, dtype=np.bool_)[true] | np.eye(3, dtype=np.bool_)[true[other]]
    targets = Targets(matrix, np.ones(60, dtype=np.bool_), exclusive=False)
    probs = small_model(joined).out_of_fold_probs(targets)
    assert probs.shape == (60, 3)
    assert ((probs > 0) & (probs < 1)).all()
    assert np.ptp(probs.sum(axis=1)) > 0.2
    assert probs[matrix].mean() > probs[~matrix].mean() + 0.2


def test_the_same_seed_gives_the_same_numbers() -> None:
    texts, true = subjects()
    first, second = (
        small_model(texts, seed=3).out_of_fold_probs(one_label(true, 3)) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_predicts_texts_outside_the_data() -> None:
    texts, true = subjects()
    new = ["where is the airport hotel", "i would like a bowl of soup", "who won the tennis"]
    probs = small_model(texts).probs_of(one_label(true, 3), new)
    assert probs.shape == (3, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert probs.argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "texts",
    [
        ["good soup", "bad soup", "good bread", "bad bread"],
        ["same words"] * 4,
        ["天気がいいですね", "דגל כחול", "погода сегодня", "🙂🙂"],
        ["", " ", ".", "a"],
    ],
    ids=["four rows", "identical", "no latin", "next to empty"],
)
def test_tiny_data_gives_probabilities(texts: list[str]) -> None:
    _, groups = np.unique(texts, return_inverse=True)
    model = small_model(texts, groups.astype(np.int64))
    targets = one_label(np.array([0, 1, 0, 1]), 2)
    for probs in (model.out_of_fold_probs(targets), model.probs_of(targets, ["new", ""])):
        assert np.isfinite(probs).all()
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)


def test_no_known_label_at_all() -> None:
    targets = one_label(np.zeros(3, dtype=np.int64), 2, np.zeros(3, dtype=np.bool_))
    probs = small_model(["a b", "b c", "c a"]).out_of_fold_probs(targets)
    assert np.isfinite(probs).all()


SECOND_RUN = """
import sys, json
from pathlib import Path
import numpy as np
from llm_relabel.config.job import ModelSection
from llm_relabel.models.targets import ClassLabels, Targets
from llm_relabel.models.text_classifier import TextClassifier

texts, classes = json.loads(sys.stdin.read())
told = []
nobody = ClassLabels((), exclusive=True)
model = TextClassifier(ModelSection(), texts, np.arange(len(texts)), nobody,
                   seed=0, cache=Path(sys.argv[1]),
                   progress=lambda done, total: told.append(done))
known = np.ones(len(texts), dtype=bool)
probs = model.out_of_fold_probs(Targets(np.eye(3, dtype=bool)[classes], known, True))
print(json.dumps({"told": told, "torch": "torch" in sys.modules, "probs": probs.tolist()}))
"""


def test_many_texts_are_encoded_in_bfloat16_where_it_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"a question about the account, number {n}" for n in range(30)]
    plain = Encoder("embedded", cache=tmp_path)
    full = plain.embed(texts)
    monkeypatch.setattr(encoder, "MANY_TEXTS", 20)
    monkeypatch.setattr(encoder, "has_bfloat16", lambda: False)
    assert np.array_equal(plain.embed(texts), full)
    monkeypatch.setattr(encoder, "has_bfloat16", lambda: True)
    lower = plain.embed(texts)
    assert not np.array_equal(lower, full)
    assert (lower * full).sum(axis=1).min() > 0.999
    # The vectors of both are kept apart, and few texts stay in float32.
    assert np.array_equal(Encoder("embedded", cache=tmp_path).embed(texts), lower)
    assert np.array_equal(plain.embed(texts[:5]), full[:5])


def test_a_second_model_on_the_same_cache_embeds_nothing(tmp_path: Path) -> None:
    texts, true = subjects()
    told: list[tuple[int, int]] = []
    model = TextClassifier(
        ModelSection(), texts, np.arange(60), CLASSES, seed=0, cache=tmp_path,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    first = model.out_of_fold_probs(one_label(true, 3))
    assert told[-1] == (60, 60)
    answered = subprocess.run(
        [sys.executable, "-c", SECOND_RUN, str(tmp_path)],
        input=json.dumps([texts, true.tolist()]), capture_output=True, text=True, check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=60,
    )  # fmt: skip
    second = json.loads(answered.stdout)
    assert second["told"] == []
    assert second["torch"] is False
    np.testing.assert_allclose(second["probs"], first, atol=1e-6)


def test_vectors_do_not_depend_on_the_batch_and_repeats_are_encoded_once() -> None:
    told: list[tuple[int, int]] = []
    encoder = Encoder("embedded", cache=None)
    alone = encoder.embed(["a short text"])
    mixed = encoder.embed(
        ["word " * 200, "a short text", "x", "a short text"],
        lambda done, total: told.append((done, total)),
    )
    assert told[-1] == (3, 3)
    np.testing.assert_allclose(mixed[1], alone[0], atol=1e-5)
    np.testing.assert_array_equal(mixed[1], mixed[3])
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1, atol=1e-5)


# Files that come with a package, or from the user


@pytest.fixture(scope="module")
def bundled_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundled")
    for name in BUNDLED_FILES:
        shutil.copyfile(bundled_folder() / name, folder / name)
    return folder


def test_altered_bundled_files_are_refused(bundled_copy: Path) -> None:
    check_bundled(bundled_copy)
    path = bundled_copy / "tokenizer.json"
    original = path.read_bytes()
    try:
        altered = bytearray(original)
        altered[len(altered) // 2] ^= 1
        path.write_bytes(bytes(altered))
        with pytest.raises(JobError, match=r"tokenizer\.json.*reinstall"):
            check_bundled(bundled_copy)
        path.unlink()
        with pytest.raises(JobError, match=r"tokenizer\.json.*missing"):
            check_bundled(bundled_copy)
    finally:
        path.write_bytes(original)


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    encoder = Encoder("empty", cache=None, folder=tmp_path)
    with pytest.raises(JobError, match=r"(?s)'empty' cannot be loaded.*safetensors"):
        encoder.embed(["text"])


NAMES = ("yes", "no")
IDS = ("a", "b", "c")


def predictions_file(folder: Path, rows: list[dict]) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def in_list(**by_id: list[float]) -> list[dict]:
    return [{"id": key, "pred_probs": probs} for key, probs in by_id.items()]


def test_predictions_are_joined_by_id_and_normalised(tmp_path: Path) -> None:
    rows = in_list(c=[0, 2], b=[1, 1], unused=[1, 0], a=[0.9, 0.1])
    probs = load_predictions(predictions_file(tmp_path, rows), pa.array(IDS), NAMES)
    np.testing.assert_allclose(probs, [[0.9, 0.1], [0.5, 0.5], [0, 1]], atol=1e-6)
    assert probs.dtype == np.float32


def test_predictions_in_columns_by_class_name(tmp_path: Path) -> None:
    wide = {"no": [0.1, 1.0, 0.5], "id": ["a", "c", "b"], "yes": [0.9, 0.0, 0.5]}
    expected = [[0.9, 0.1], [0.5, 0.5], [0, 1]]
    pq.write_table(pa.table(wide), tmp_path / "p.parquet")
    np.testing.assert_allclose(
        load_predictions(tmp_path / "p.parquet", IDS, NAMES), expected, atol=1e-6
    )
    lines = ["no,id,yes", *(",".join(map(str, row)) for row in zip(*wide.values(), strict=True))]
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    np.testing.assert_allclose(
        load_predictions(tmp_path / "p.csv", IDS, NAMES), expected, atol=1e-6
    )


def test_predictions_of_many_labels_are_not_normalised(tmp_path: Path) -> None:
    path = predictions_file(tmp_path, in_list(a=[0.9, 0.8], b=[0, 0], c=[1, 1]))
    probs = load_predictions(path, IDS, NAMES, exclusive=False)
    np.testing.assert_allclose(probs, [[0.9, 0.8], [0, 0], [1, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (in_list(a=[1, 0], c=[1, 0]), r"1 rows .*no prediction.*'b'"),
        (in_list(a=[1, 0], b=[1, 0, 0], c=[0, 1]), r"pred_probs.*2 values.*row 2"),
        (in_list(a=[1, 0], b=[-0.5, 1.5], c=[0, 1]), r"NaN or negative.*row 2"),
        (in_list(a=[1, 0], b=[0, 0], c=[0, 1]), r"all zero"),
        (in_list(a=[1, 0], b=[0, 1], c=[0, 1]) + in_list(a=[0, 1]), r"more than once"),
        ([{"id": key, "yes": 1.0} for key in IDS], r"missing no"),
        ([{"key": key, "pred_probs": [1, 0]} for key in IDS], r"no column 'id'"),
    ],
    ids=["missing", "width", "negative", "zero", "twice", "column", "no id"],
)
def test_unusable_predictions_are_refused(tmp_path: Path, rows: list[dict], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_predictions(predictions_file(tmp_path, rows), IDS, NAMES)


def test_nan_predictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": list(IDS), "yes": [1, np.nan, 0], "no": [0.0, 1, 1]}), path)
    with pytest.raises(DataError, match=r"NaN or negative.*row 2"):
        load_predictions(path, IDS, NAMES)


def test_predictions_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not exist"):
        load_predictions(tmp_path / "p.jsonl", IDS, NAMES)
    with pytest.raises(DataError, match=r"must end in \.parquet"):
        load_predictions(tmp_path / "p.npy", IDS, NAMES)


# Fine-tuning


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised BERT of two narrow layers."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "tiny-bert"
    tokenizer = BertTokenizerFast.from_pretrained(str(bundled_folder()), local_files_only=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=256,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def tuned_model(folder: Path, texts: list[str], groups=None, progress=None) -> TextClassifier:
    section = ModelSection(encoder=folder.name, finetune=True, folds=3, epochs=1)
    groups = np.arange(len(texts)) if groups is None else groups
    return TextClassifier(
        section, texts, groups, CLASSES, seed=0, cache=None, folder=folder.parent,
        progress=progress,
    )  # fmt: skip


def test_finetuning_is_out_of_fold_seeded_and_leaves_the_callers_rng(tiny_bert: Path) -> None:
    import torch

    from llm_relabel.models.parts.finetune import finetuned_out_of_fold

    texts, true = subjects()
    texts[7] = "word " * 1000
    # A class with one row only, fewer than the folds, and rows without a label.
    true = true.copy()
    true[5] = 3
    known = np.ones(60, dtype=np.bool_)
    known[[1, 30]] = False
    targets = one_label(true, 4, known)
    told: list[tuple[int, int]] = []
    encoder = Encoder(str(tiny_bert), cache=None)

    def run(wanted: Targets) -> np.ndarray:
        return finetuned_out_of_fold(
            encoder, texts, wanted, np.arange(60), folds=3, epochs=1, seed=0,
            report=lambda done, total: told.append((done, total)),
        )  # fmt: skip

    state = torch.get_rng_state()
    probs = run(targets)
    assert torch.equal(state, torch.get_rng_state())
    assert probs.shape == (60, 4)
    assert probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert told[-1] == (2 * 58, 2 * 58)
    torch.rand(5)
    np.testing.assert_allclose(run(targets), probs, atol=1e-5)
    garbage = Targets(targets.matrix.copy(), targets.known, targets.exclusive)
    garbage.matrix[[1, 30], 2] = True
    np.testing.assert_allclose(run(garbage), probs, atol=1e-5)


def test_finetuning_by_itself_only_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def model() -> TextClassifier:
        section, classes = ModelSection(finetune="auto"), ClassLabels(("a", "b"), exclusive=True)
        return TextClassifier(section, ["t"], np.arange(1), classes, seed=0, cache=None)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "fine-tuned" not in model().description
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "averaged with the encoder fine-tuned" in model().description


def test_finetuned_model_averages_and_predicts(tiny_bert: Path) -> None:
    texts, true = subjects()
    targets = one_label(true, 3)
    model = tuned_model(tiny_bert, texts)
    assert "fine-tuned in 3 folds, 1 epochs" in model.description
    plain = small_model(texts, encoder="tiny-bert", folder=tiny_bert.parent)
    probs = model.out_of_fold_probs(targets)
    assert probs.shape == (60, 3)
    assert not np.allclose(probs, plain.out_of_fold_probs(targets))
    new = model.probs_of(targets, texts[:2])
    for rows in (probs, new):
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("rows", [4, 24])
def test_finetuning_many_labels_groups_and_few_rows(tiny_bert: Path, rows: int) -> None:
    texts, true = subjects()
    texts, true = texts[::-1][:rows], true[::-1][:rows]
    matrix = np.eye(3, dtype=np.bool_)[true]
    matrix[0] = True
    targets = Targets(matrix, np.ones(rows, dtype=np.bool_), exclusive=False)
    for groups in (np.arange(rows) // 2, np.zeros(rows, dtype=np.int64)):
        probs = tuned_model(tiny_bert, texts, groups).out_of_fold_probs(targets)
        assert probs.shape == (rows, 3)
        assert ((probs >= 0) & (probs <= 1)).all()
    new = tuned_model(tiny_bert, texts).probs_of(targets, ["unseen"])
    assert ((new > 0) & (new < 1)).all()
