"""The one retry policy, without a network and without waiting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from llm_relabel.errors import (
    AccessDenied,
    CallTimedOut,
    ContentRefused,
    NoSuchModel,
    ProviderError,
    RateLimited,
    RequestRejected,
    TransientError,
    Unreachable,
)
from llm_relabel.judge import retry
from llm_relabel.judge.chat import ChatRequest, Completion
from llm_relabel.judge.providers.faults import (
    error_for_status,
    retry_after,
    scrub,
    scrub_chain,
)
from llm_relabel.judge.providers.wire import clean, within
from llm_relabel.judge.without_llm.scripted import ScriptedProvider
from llm_relabel.records import Message, Tokens

REQUEST = ChatRequest((Message("user", "hello"),), None)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for, none of them waited."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr(retry, "sleep", sleep)
    return asked


def complete(provider: ScriptedProvider, **options: object) -> Completion:
    return asyncio.run(retry.complete_with_retry(provider, REQUEST, timeout=5, **options))


def test_the_first_answer_is_taken_as_it_is(waits: list[float]) -> None:
    provider = ScriptedProvider(["yes"])
    assert complete(provider).text == "yes"
    assert provider.requests == [REQUEST]
    assert waits == []


@pytest.mark.parametrize(
    "error",
    [TransientError("500"), RateLimited("429"), CallTimedOut("slow"), Unreachable("gone")],
    ids=lambda error: type(error).__name__,
)
def test_every_transient_error_is_tried_again(waits: list[float], error: ProviderError) -> None:
    provider = ScriptedProvider([error, error, "yes"])
    assert complete(provider).text == "yes"
    assert len(waits) == 2


def test_a_greedy_request_that_timed_out_gets_one_more_chance(waits: list[float]) -> None:
    greedy = ChatRequest(REQUEST.messages, None, {"temperature": 0})
    provider = ScriptedProvider([CallTimedOut("slow")] * 9)
    with pytest.raises(CallTimedOut):
        asyncio.run(retry.complete_with_retry(provider, greedy, timeout=5))
    assert len(provider.requests) == 2
    sampled = ScriptedProvider([CallTimedOut("slow")] * 9)
    with pytest.raises(CallTimedOut):
        complete(sampled)
    assert len(sampled.requests) == retry.ATTEMPTS


@pytest.mark.parametrize("kind", [RequestRejected, ContentRefused, AccessDenied])
def test_a_lasting_error_is_not_tried_again(waits: list[float], kind: type[ProviderError]) -> None:
    provider = ScriptedProvider([kind("no"), "yes"])
    with pytest.raises(kind):
        complete(provider)
    assert len(provider.requests) == 1
    assert waits == []


def test_a_bug_is_not_hidden_by_retries(waits: list[float]) -> None:
    provider = ScriptedProvider([KeyError("ours"), "yes"])
    with pytest.raises(KeyError):
        complete(provider)
    assert len(provider.requests) == 1


def test_attempts_are_bounded_and_the_last_error_is_raised(waits: list[float]) -> None:
    provider = ScriptedProvider([TransientError(str(number)) for number in range(9)])
    with pytest.raises(TransientError, match=r"^5$"):
        complete(provider)
    assert len(provider.requests) == retry.ATTEMPTS == 6
    assert len(waits) == 5


def test_on_attempt_hears_of_every_attempt(waits: list[float]) -> None:
    heard: list[tuple[int, ProviderError | None]] = []
    first, second = TransientError("1"), RateLimited("2")
    provider = ScriptedProvider([first, second, "yes"])
    complete(provider, on_attempt=lambda number, error: heard.append((number, error)))
    assert heard == [(1, first), (2, second), (3, None)]


def test_waits_grow_with_full_jitter(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.random, "uniform", lambda _low, high: high)
    provider = ScriptedProvider([TransientError("x")] * 9)
    with pytest.raises(TransientError):
        complete(provider, attempts=9)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]

    waits.clear()
    monkeypatch.setattr(retry.random, "uniform", lambda low, _high: low)
    with pytest.raises(TransientError):
        complete(ScriptedProvider([TransientError("x")] * 3), attempts=3)
    assert waits == [0, 0]


@pytest.mark.parametrize(("asked", "at_least"), [(7.5, 7.5), (0.0, 0.0), (86_400.0, 120.0)])
def test_retry_after_is_a_capped_minimum(waits: list[float], asked: float, at_least: float) -> None:
    complete(ScriptedProvider([RateLimited("slower", retry_after=asked), "yes"]))
    assert at_least <= waits[0] <= at_least + retry.FIRST_WAIT


def test_calls_that_failed_together_do_not_come_back_together(waits: list[float]) -> None:
    for _ in range(20):
        complete(ScriptedProvider([RateLimited("slower", retry_after=3), "yes"]))
    assert len(set(waits)) > 10


def test_a_call_that_takes_too_long_is_a_timeout() -> None:
    async def never() -> Completion:
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(CallTimedOut, match=r"x/y gave no answer within 0\.01 s"):
        asyncio.run(within(never(), 0.01, "x/y"))


def test_somebody_elses_timeout_stays_theirs() -> None:
    async def fails() -> Completion:
        raise TimeoutError("inner")

    with pytest.raises(TimeoutError, match="inner"):
        asyncio.run(within(fails(), 5, "x/y"))


def test_scripted_provider_takes_a_function_a_completion_and_ends() -> None:
    done = Completion("{}", Tokens(5, 1, 2), "refusal")
    assert complete(ScriptedProvider(lambda _request: done)) is done
    provider = ScriptedProvider(lambda request: request.messages[0].text.upper())
    assert complete(provider).text == "HELLO"
    with pytest.raises(AssertionError, match="has 0 answers"):
        complete(ScriptedProvider([]))
    asyncio.run(provider.aclose())
    assert provider.closed


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "3"}, 3, 3),
        ({"retry-after": "0.25"}, 0.25, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9, 9),
        ({"retry-after": _in(3600)}, 1, 3600),
        ({"retry-after": _in(-60)}, 0, 0),
        ({"retry-after": "-5"}, 0, 0),
    ],
)
def test_retry_after_is_read_from_the_headers(
    headers: dict[str, str], low: float, high: float
) -> None:
    seconds = retry_after(headers)
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("value", ["soon", "", "nan", "inf", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    assert retry_after({"retry-after": value}) is None


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {}, RateLimited),
        # The words of OpenAI's plain rate limit: billing is mentioned and is not the matter.
        (
            429,
            {"error": {"message": "Rate limit reached. Visit /account/billing", "code": "rpm"}},
            RateLimited,
        ),
        (429, {"error": {"message": "You exceeded your current quota"}}, RateLimited),
        (529, {"error": {"type": "overloaded_error"}}, RateLimited),
        (429, {"error": {"message": "m", "code": "insufficient_quota"}}, AccessDenied),
        (
            429,
            {"error": {"details": {"error_code": "contract_spend_limit_reached"}}},
            AccessDenied,
        ),
        (400, {"error": {"message": "Your credit balance is too low"}}, AccessDenied),
        (401, {}, AccessDenied),
        (402, {}, AccessDenied),
        (403, {}, AccessDenied),
        (403, {"error": {"message": "your input was flagged"}}, ContentRefused),
        (400, {"error": {"code": "content_policy_violation"}}, ContentRefused),
        (400, {"error": {"code": "content_filter"}}, ContentRefused),
        (
            400,
            {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            ContentRefused,
        ),
        # A server that repeats the item must not have the item decide what happened.
        (
            400,
            {"error": {"message": "bad value: 'this content_filter was flagged'"}},
            RequestRejected,
        ),
        (400, "plain text", RequestRejected),
        (404, {}, NoSuchModel),
        (413, {}, RequestRejected),
        (422, {"detail": [{"msg": "x"}]}, RequestRejected),
        (307, None, RequestRejected),
        (408, {}, TransientError),
        (409, {}, TransientError),
        (500, {}, TransientError),
        (503, None, TransientError),
    ],
)
def test_every_status_has_its_error(status: int, body: object, kind: type[ProviderError]) -> None:
    error = error_for_status(status, who="x/y", body=body, headers={})
    assert type(error) is kind
    assert str(error).startswith(f"x/y answered HTTP {status}: ")


def test_the_provider_may_overrule_the_status() -> None:
    def error(status: int, advice: str) -> ProviderError:
        return error_for_status(status, who="x/y", body={}, headers={"x-should-retry": advice})

    assert type(error(500, "false")) is RequestRejected
    assert type(error(400, "true")) is TransientError


def test_transient_errors_carry_the_wish() -> None:
    for status in (429, 503):
        error = error_for_status(status, who="x/y", body={}, headers={"retry-after": "4"})
        assert isinstance(error, TransientError)
        assert error.retry_after == 4


def test_keys_are_scrubbed_from_messages_and_causes() -> None:
    secret = "hunter2-hunter2"
    assert secret not in scrub(f"sent {secret}, sorry", [secret])
    assert scrub("Incorrect API key: sk-proj-ab***YZ.", []) == "Incorrect API key: sk-***"
    assert len(scrub("x" * 5000, [])) < 700
    inner = ValueError(f"inner {secret}")
    outer = RuntimeError(f"outer {secret}")
    outer.__cause__ = inner
    scrub_chain(outer, (secret,))
    assert secret not in repr(outer) + repr(inner)


@pytest.mark.parametrize(
    ("text", "sent"),
    [("plain", "plain"), ("é 😀", "é 😀"), ("a\ud800b", "a\ufffdb"), ("\udfff", "\ufffd")],
)
def test_lone_surrogates_are_replaced(text: str, sent: str) -> None:
    assert clean(text) == sent
    clean(text).encode()
