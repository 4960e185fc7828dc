"""A provider that answers from a script: no network, no key, every request kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.records import Tokens

Answer: TypeAlias = "str | Completion | BaseException"


class ScriptedProvider:
    """Answers with `answers`: a function of the request, or a list used in order.

    A string becomes a Completion, a Completion is returned as it is, an exception is
    raised. A list that runs out is an AssertionError: the test asked more than it planned.
    `requests` holds what was asked, in order.
    """

    base_url: str | None = None

    def __init__(
        self,
        answers: Callable[[ChatRequest], Answer] | Sequence[Answer],
        *,
        name: str = "scripted/judge",
    ) -> None:
        self.name = name
        self.provider, _, self.model = name.partition("/")
        self.requests: list[ChatRequest] = []
        self.closed = False
        self._answers = answers

    async def complete(self, request: ChatRequest, *, timeout: float) -> Completion:
        """The script's next answer; `timeout` is not used, nothing here takes time."""
        del timeout
        number = len(self.requests)
        self.requests.append(request)
        if callable(self._answers):
            answer = self._answers(request)
        elif number < len(self._answers):
            answer = self._answers[number]
        else:
            raise AssertionError(f"the script has {len(self._answers)} answers; this is one more")
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Completion):
            return answer
        size = sum(len(message.text) for message in request.messages)
        return Completion(answer, Tokens(input=size // 4, output=len(answer) // 4))

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True
