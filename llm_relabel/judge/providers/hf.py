"""`hf/NAME_OR_FOLDER`: a local causal language model in process, through transformers.

It generates nothing. Every allowed answer, written as JSON such as `{"label": "NUM"}`, is scored by
its log-likelihood as the continuation of the prompt, and the likelihoods are normalised over the
allowed answers. Neither corrected for length nor for a prior: complete JSON texts exclude each
other, so this is the model's own probability of each answer, given that it gives an allowed one.
Length normalisation (Brown et al., 2020, arXiv 2005.14165) would not be. PMI (Holtzman et al.,
2021, arXiv 2104.08315) is for wordings that compete for one meaning, and our prompt names the words
to use; contextual calibration (Zhao et al., 2021, arXiv 2102.09690) needs a prompt without an item,
and with candidates in it there is no one such prompt.

Multi-label: each label is asked apart, `"applies": true` against `false`, and given above 0.5. The
confidence is the minimum over the labels and the verdict: an item is as doubtful as its most
doubtful label, as in the task, while a product would sink with the mere number of labels.

`hf_text.py` turns requests into tokens, `hf_model.py` tokens into likelihoods.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError, RequestRejected
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.hf_model import HFModel
from llm_relabel.judge.providers.hf_text import Choices, HFText, Prompt
from llm_relabel.records import Tokens

LINGER = 0.005  # seconds in which questions that arrive together become one batch
SHOWN = 5  # labels that a rationale names

T = TypeVar("T")


class HFProvider:
    """One local model as a chat provider: loaded when opened, freed by `aclose`.

    `model` is the name and a hash of what answers, so that the verdict cache never takes one model
    for another that had its name. Tokens: the prompt is the input; the output is 0, for nothing is
    generated.
    """

    def __init__(self, section: JudgeMember, folder: Path) -> None:
        """`folder` is where a relative model folder starts. Raises JobError."""
        for key, wrong in (
            ("params", section.params),
            ("base_url", section.base_url),
            ("structured_output: prompt", section.structured_output == "prompt"),
        ):
            if wrong:
                raise JobError(
                    f"judge.{key} is not for {section.model!r}: that model runs in process and "
                    "weighs the schema's labels, nothing is sent or sampled; take the key away"
                )
        self.name = section.model
        self.provider = section.provider
        self.base_url: str | None = None
        model = HFModel(section, folder)
        self.model = f"{section.name}@{model.fingerprint[:16]}"
        text = HFText(self.name, model.tokenizer, reads=model.reads, knows=model.knows)
        self._worker: Worker | None = Worker(model, text)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hf-judge")
        self._waiting: list[tuple[ChatRequest, asyncio.Future[Completion]]] = []
        self._open: set[asyncio.Future[Completion]] = set()
        self._answering: asyncio.Task[None] | None = None

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        """The likeliest allowed answer. Raises RequestRejected.

        `timeout` is not used: a pass through the model cannot be interrupted, costs no money and
        always ends, and a second attempt would only do the same work again.
        """
        del timeout
        if self._worker is None:
            raise RequestRejected(f"{self.name} is closed")
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._waiting.append((request, future))
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer(self._worker))
        return await future

    async def aclose(self) -> None:
        """Free the model and end the thread; whoever still waits gets RequestRejected."""
        self._worker = None
        if self._answering is not None and not self._answering.done():
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        self._end(RequestRejected(f"{self.name} was closed before it could answer"))
        await asyncio.to_thread(self._thread.shutdown)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    async def _answer(self, worker: Worker) -> None:
        """Answer until nobody waits, one batch after the other; the thread does the work."""
        ready: list[tuple[Prompt, asyncio.Future[Completion]]] = []
        try:
            while self._waiting or ready:
                if not ready:
                    await asyncio.sleep(LINGER)
                fresh, self._waiting = self._waiting, []
                prompts = await self._in_thread(worker.read, [request for request, _ in fresh])
                for prompt, (_, future) in zip(prompts, fresh, strict=True):
                    if isinstance(prompt, Prompt):
                        ready.append((prompt, future))
                    else:
                        settle(future, prompt)
                # Whoever was cancelled meanwhile is not answered.
                ready = [(prompt, future) for prompt, future in ready if not future.done()]
                places = worker.model.next_batch([prompt for prompt, _ in ready])
                batch = [ready[place][0] for place in places]
                outcomes = await self._in_thread(worker.answer, batch)
                for place, outcome in zip(places, outcomes, strict=True):
                    settle(ready[place][1], outcome)
                ready = [(prompt, future) for prompt, future in ready if not future.done()]
        except Exception as error:  # a fault of ours: it must not leave anyone waiting
            self._end(error)

    def _end(self, error: Exception) -> None:
        """Everybody who still waits gets the error."""
        self._waiting = []
        for future in list(self._open):
            settle(future, error)

    async def _in_thread(self, work: Callable[[list[Any]], T], given: list[Any]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, given)


class Worker:
    """What the thread does, in two steps, so that the batches can be planned between them."""

    def __init__(self, model: HFModel, text: HFText) -> None:
        self.model = model
        self._text = text

    def read(self, requests: Sequence[ChatRequest]) -> list[Prompt | RequestRejected]:
        """The requests as tokens, or why one cannot be put to this model."""
        found: list[Prompt | RequestRejected] = []
        for request in requests:
            try:
                found.append(self._text.read(request))
            except RequestRejected as error:
                found.append(error)
        return found

    def answer(self, batch: Sequence[Prompt]) -> list[Completion | RequestRejected]:
        """An answer to each prompt; `seconds` is what the whole batch took."""
        began = time.perf_counter()
        scored = self.model.likelihoods(batch)
        seconds = time.perf_counter() - began
        return [
            scores
            if isinstance(scores, RequestRejected)
            else Completion(
                answer_text(prompt.choices, scores), Tokens(input=prompt.size), seconds=seconds
            )
            for prompt, scores in zip(batch, scored, strict=True)
        ]


def settle(future: asyncio.Future[Completion], outcome: Completion | Exception) -> None:
    """Give the one who waits an answer or an error, unless it has gone or has one."""
    if future.done():
        return
    if isinstance(outcome, Completion):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def answer_text(choices: Choices, scores: Sequence[float]) -> str:
    """The judge's answer as JSON, from the (answers,) log-likelihoods.

    The rationale says what was measured, for no model explained anything.
    """
    shares = [0.0] * len(scores)
    for group in choices.groups:
        highest = max(scores[one] for one in group)
        weights = [math.exp(scores[one] - highest) for one in group]
        for one, weight in zip(group, weights, strict=True):
            shares[one] = weight / sum(weights)
    answer = _many_labels(choices, shares) if choices.multi_label else _one_label(choices, shares)
    answer["confidence"] = round(answer["confidence"], 6)
    return json.dumps(answer, ensure_ascii=False)


def _one_label(choices: Choices, shares: Sequence[float]) -> dict[str, Any]:
    ranked = sorted(zip(choices.labels, shares, strict=True), key=lambda pair: -pair[1])
    (label, share), others = ranked[0], ranked[1:2]
    said = ", next ".join([f"likelihood {share:.2f}", *_shown(others)])
    return {"rationale": said, "label": label, "confidence": share}


def _many_labels(choices: Choices, shares: Sequence[float]) -> dict[str, Any]:
    verdicts = dict(zip(choices.verdicts, shares, strict=False))
    applies = dict(zip(choices.labels, shares[len(verdicts) :: 2], strict=True))
    answer: dict[str, Any] = {}
    sure = [max(share, 1 - share) for share in applies.values()]
    if verdicts:
        word = max(verdicts, key=lambda one: verdicts[one])
        answer["verdict"] = word
        sure.append(verdicts[word])
        if word != choices.verdicts[0]:  # not decided: no label
            said = f"likelihood of {word} {verdicts[word]:.2f}"
            return {"rationale": said, **answer, "labels": [], "confidence": verdicts[word]}
    ranked = sorted(applies.items(), key=lambda pair: -pair[1])
    labels = [label for label, share in applies.items() if share > 0.5]
    said = ", ".join(_shown(ranked[: min(SHOWN, len(labels))])) or "no label above 0.5"
    if others := _shown(ranked[len(labels) :][:1]):
        said += f", next {others[0]}"
    said = f"likelihood that it applies: {said}"
    return {"rationale": said, **answer, "labels": labels, "confidence": min(sure)}


def _shown(ranked: Sequence[tuple[str, float]]) -> list[str]:
    return [f"{label} {share:.2f}" for label, share in ranked]
