"""A causal language model in process: found, checked, loaded, and asked for likelihoods.

Only safetensors are read and no code of the model's own is run. float32 on a CPU, bfloat16 on a GPU
that has it.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import torch

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError, RequestRejected
from llm_relabel.judge.providers.hf_text import Choices, Prompt
from llm_relabel.models.parts.encoder import batches_by_length

SCORING = "1"  # part of every cache key: whoever changes how answers are scored counts it up
BATCH_SLOTS = {"cpu": 8192, "cuda": 65536}  # padded tokens that a batch may keep in its cache
LEAST_SLOTS = 256  # a prompt that fails in so few would fail in any
LOGIT_TOKENS = 1024  # positions whose logits are in memory at once, each as wide as the vocabulary

# What running a model takes; anything pickled is not even downloaded.
HUB_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "model*.safetensors"]
PROBE = "The first, the second, the third and the fourth; then the first, the second and"
PROBE_SIZE = 24  # tokens
TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 1.0}  # of a log-likelihood of three tokens


class HFModel:
    """One model on its device. Not for two threads at once.

    `fingerprint` names what answers: the Hub's commit or the content of the folder's files, the
    precision and the way to score. `reads` is the context in tokens, `knows` the size of the
    vocabulary.
    """

    def __init__(self, section: JudgeMember, folder: Path) -> None:
        """`folder` is where a relative model folder starts. Raises JobError."""
        self.name = section.model
        where, commit = _locate(section, folder)
        weights = _weight_files(self.name, where)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        dtype = torch.bfloat16 if half else torch.float32
        self.tokenizer, self._model = _load(self.name, where, dtype, self.device)
        self.fingerprint = _fingerprint(where, weights, commit, str(dtype))
        text = self._model.config.get_text_config()
        self.knows = int(text.vocab_size)
        self.reads = int(
            getattr(text, "max_position_embeddings", None) or self.tokenizer.model_max_length
        )
        accepted = inspect.signature(self._model.forward).parameters
        self._positions = "position_ids" in accepted
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._slots = BATCH_SLOTS[self.device.type]
        self._kept: tuple[tuple[int, ...], Any] = ((), None)
        self._padded = 0.0
        self._check(TOLERANCE[dtype])

    def next_batch(self, prompts: Sequence[Prompt]) -> list[int]:
        """The places of the prompts to score next: the oldest, and those that go well with it."""
        if not prompts:
            return []
        first = prompts[0]
        alike = [
            place
            for place, one in enumerate(prompts)
            if one.choices is first.choices
            and (one.prefix is first.prefix or one.prefix == first.prefix)
        ]
        more = len(first.choices.shared) + first.choices.depth
        sizes = [prompts[place].size + more for place in alike]
        batch = next(batch for batch in batches_by_length(sizes, self._slots) if 0 in batch)
        if max(sizes[one] for one in batch) > self._padded:
            batch = [one for one in batch if sizes[one] == sizes[0]]
        return [alike[one] for one in batch]

    def likelihoods(self, batch: Sequence[Prompt]) -> list[list[float] | RequestRejected]:
        """(answers,) log-likelihoods of each prompt of a batch from `next_batch`.

        Of an answer counts what follows `choices.shared`, with which all of them begin.
        """
        return self._in_smaller(batch, self._slots)

    def _in_smaller(
        self, batch: Sequence[Prompt], slots: int
    ) -> list[list[float] | RequestRejected]:
        """What fails is tried again in halves, for most likely the memory was too small."""
        if not batch:
            return []
        try:
            with torch.inference_mode():
                scores = self._score(batch, slots).tolist()
        except RuntimeError as error:  # out of memory is a RuntimeError
            self._kept = ((), None)
            if len(batch) == 1 and slots <= LEAST_SLOTS:
                failed = RequestRejected(f"{self.name} could not score the item: {_brief(error)}")
                failed.__cause__ = error.with_traceback(None)  # its frames hold the tensors
                return [failed]
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            self._slots = min(self._slots, slots)
            return [self._checked(one) for one in scores]
        half = (len(batch) + 1) // 2
        first = self._in_smaller(batch[:half], slots // 2)
        return first + self._in_smaller(batch[half:], slots // 2)

    def _checked(self, scores: list[float]) -> list[float] | RequestRejected:
        if any(map(math.isnan, scores)) or max(scores) == -math.inf:
            return RequestRejected(f"{self.name} has no likelihood for the item (not a number)")
        return scores

    def _score(self, batch: Sequence[Prompt], slots: int) -> Any:
        """(prompts, answers) log-likelihoods.

        Three passes, each from the cache of the last: the prefix, which is read once for all
        questions; the prompts' own tokens; every path of the choices after every prompt.
        """
        prefix, choices = batch[0].prefix, batch[0].choices
        own = [[*prompt.rest, *choices.shared] for prompt in batch]
        width = max(map(len, own))
        # Padded on the left, after the prefix, so that the answers follow without a gap.
        tokens = self._tensor([[0] * (width - len(ids)) + ids for ids in own])
        mask = self._tensor(
            [[1] * len(prefix) + [0] * (width - len(ids)) + [1] * len(ids) for ids in own]
        )
        cache = _rows(self._prefix_cache(prefix), self._tensor([0] * len(own)))
        read = self._forward(tokens, mask, cache, **self._last)
        total = torch.log_softmax(read.logits[:, -1].double(), dim=-1)
        total = total[:, self._tensor([tail[0] for tail in choices.tails])]
        if not choices.paths:
            return total
        depth = choices.depth
        most = max(1, min(slots // (mask.shape[1] + depth), LOGIT_TOKENS // depth))
        across = min(most, len(choices.paths))
        down = most // across
        for left in range(0, len(choices.paths), across):
            paths = choices.paths[left : left + across]
            # Padded on the right, where no token of a path looks.
            block = self._tensor([path + [0] * (depth - len(path)) for path in paths])
            steps = [step for step in choices.steps if left <= step[0] < left + across]
            path, place, token, answer = self._tensor(steps).T
            for top in range(0, len(own), down):
                rows = torch.arange(top, min(len(own), top + down), device=self.device)
                each = rows.repeat_interleave(len(paths))
                seen = torch.cat([mask[each], mask.new_ones(len(each), depth)], dim=1)
                logits = self._forward(
                    block.repeat(len(rows), 1), seen, _rows(read.past_key_values, each)
                ).logits.view(len(rows), len(paths), depth, -1)
                picked = logits[:, path - left, place, token]
                gained = picked - logits.float().logsumexp(-1)[:, path - left, place]
                total[top : top + down].index_add_(1, answer, gained.double())
        return total

    def _forward(self, tokens: Any, mask: Any, cache: Any, **options: Any) -> Any:
        if self._positions:
            places = (mask.cumsum(1) - 1).clamp(min=0)
            options["position_ids"] = places[:, -tokens.shape[1] :]
        return self._model(
            input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **options
        )

    def _prefix_cache(self, prefix: tuple[int, ...]) -> Any:
        """The cache of a prefix; the last one's is kept."""
        if not prefix:
            return None
        if self._kept[0] != prefix:
            self._kept = ((), None)  # frees it before the next one needs room
            tokens = self._tensor([prefix])
            read = self._forward(tokens, torch.ones_like(tokens), None, **self._last)
            self._kept = (prefix, read.past_key_values)
        return self._kept[1]

    def _tensor(self, numbers: Any) -> Any:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)

    def _check(self, tolerance: float) -> None:
        """Compare one made-up batch with plain passes. Raises JobError.

        This finds the models that look ahead, and those that go on from a cache wrongly.
        """
        text = self.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        ids = (list(text) * PROBE_SIZE)[:PROBE_SIZE]
        tails, paths = [ids[16:19], ids[19:21]], [ids[16:18], ids[19:20]]
        steps = [(0, 0, ids[17], 0), (0, 1, ids[18], 0), (1, 0, ids[20], 1)]
        choices = Choices((), (), False, [], [], tails, paths, steps)
        try:
            with torch.inference_mode():
                cache = self._prefix_cache(tuple(ids[:8]))
                self._padded = _most_padded(cache) if self._positions else 0.0
                ends = (16, 13 if self._padded >= PROBE_SIZE else 16)
                batch = [Prompt(tuple(ids[:8]), tuple(ids[8:end]), choices) for end in ends]
                found = self._score(batch, max(BATCH_SLOTS.values())).tolist()
                for end, scores in zip(ends, found, strict=True):
                    for tail, score in zip(tails, scores, strict=True):
                        plain = self._plainly(ids[:end], tail)
                        if not abs(plain - score) <= tolerance:
                            raise ValueError(f"{score:.3f} instead of {plain:.3f}")
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
            raise _unusable(
                self.name,
                "does not read text from left to right, or not in pieces, as a causal language "
                f"model does ({_brief(error)})",
            ) from error

    def _plainly(self, ids: list[int], tail: list[int]) -> float:
        """The log-likelihood of `tail` after `ids`, in a pass of its own."""
        logits = self._model(input_ids=self._tensor([ids + tail])).logits[0, len(ids) - 1 : -1]
        shares = torch.log_softmax(logits.double(), dim=-1)
        return float(sum(share[token] for share, token in zip(shares, tail, strict=True)))


def _rows(cache: Any, rows: Any) -> Any:
    """A cache of its own that holds the given rows of `cache`, which stays as it is."""
    if cache is None:
        return None
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in chosen.layers:
        # Layers of linear attention keep their states in dictionaries.
        kept = vars(layer)
        kept.update({key: dict(held) for key, held in kept.items() if type(held) is dict})
    chosen.reorder_cache(rows)
    return chosen


def _most_padded(cache: Any) -> float:
    """The most tokens of a row among which padding does no harm.

    A sliding window counts the pads too, and a recurrent state would read them.
    """
    most = math.inf
    for layer in cache.layers:
        kind = type(layer).__name__
        if kind == "DynamicSlidingWindowLayer":
            most = min(most, layer.sliding_window)
        elif kind not in ("DynamicLayer", "DummyLayer"):
            most = 0.0
    return most


# From the job's name to the files


def _locate(section: JudgeMember, folder: Path) -> tuple[Path, str | None]:
    """The model's folder, and the Hub's commit where it came from there. Raises JobError."""
    from huggingface_hub import snapshot_download

    beside = (folder / Path(section.name).expanduser()).resolve()
    if beside.is_dir():
        return beside, None
    if beside.exists():
        raise _unusable(section.model, "is a file; a model is a folder")
    try:
        found = Path(snapshot_download(section.name, allow_patterns=HUB_FILES))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _unusable(
            section.model,
            f"is neither a folder ({beside} does not exist) nor a model that the Hugging Face Hub "
            f"or its cache here can give ({_brief(error)})",
        ) from error
    return found, found.name


def _weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files that hold the weights. Raises JobError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        files = [str(config.get("transformers_weights") or "model.safetensors")]
        if not (folder / files[0]).is_file():
            files = ["model.safetensors.index.json"]
        if files[0].endswith(".index.json") and (folder / files[0]).is_file():
            index = json.loads((folder / files[0]).read_text(encoding="utf-8"))
            files = sorted(set(index["weight_map"].values()))
    except FileNotFoundError as error:
        why = "has no config.json"
        if (folder / "adapter_config.json").is_file():
            why = "is an adapter; merge it into its base model first (peft: merge_and_unload)"
        raise _unusable(name, why) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unusable(name, f"has an unreadable configuration ({_brief(error)})") from error
    if (folder / "adapter_config.json").is_file():
        raise _unusable(name, "carries an adapter; merge it first (peft: merge_and_unload)")
    wrong = [f for f in files if not f.endswith(".safetensors") or not (folder / f).is_file()]
    if not wrong:
        return [folder / file for file in files]
    pickled = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt"))
    if pickled:
        raise _unusable(
            name,
            f"has its weights in {pickled[0]!r}, a pickle, which can run code when it is read; "
            "convert them with transformers' save_pretrained, which writes safetensors",
        )
    raise _unusable(name, f"has no weights: {wrong[0]!r} is missing or not a safetensors file")


def _load(name: str, folder: Path, dtype: Any, device: Any) -> tuple[Any, Any]:
    """(tokenizer, model), ready on the device. Raises JobError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
            dtype=dtype, output_loading_info=True,
        )  # fmt: skip
        model, info = loaded[0].eval().to(device), loaded[1]
    except Exception as error:  # files that others wrote can be wrong in any way
        raise _unusable(name, f"cannot be loaded ({_brief(error)})") from error
    if missing := sorted(info["missing_keys"]):
        # They would be drawn at random: a classifier or an encoder, say, has no language head.
        raise _unusable(name, f"lacks the weights of a causal language model ({missing[0]} ...)")
    return tokenizer, model


def _fingerprint(folder: Path, weights: Sequence[Path], commit: str | None, dtype: str) -> str:
    """SHA-256 of what decides the answers.

    Weights are read whole: fine-tuned copies share sizes and headers, and times can be copied too.
    """
    digest = hashlib.sha256(json.dumps([SCORING, dtype, commit]).encode())
    if commit is None:
        small = [one for end in HUB_FILES[:-1] for one in folder.glob(end)]
        for path in sorted({*small, *weights}):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"\n{path.name} {content}".encode())
    return digest.hexdigest()


def _unusable(name: str, why: str) -> JobError:
    return JobError(
        f"judge.model {name!r} {why}; give hf/ and the folder, or the Hugging Face name, of a "
        "causal language model with safetensors weights"
    )


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
