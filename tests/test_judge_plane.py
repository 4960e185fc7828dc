"""Limits, money, breakers and the cache, each apart: clocks are made, files are real."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_relabel.config.judges import Breakers, JudgeMember
from llm_relabel.errors import Paused, RateLimited
from llm_relabel.judge.breakers import CircuitBreaker, worth_another_try
from llm_relabel.judge.budget import Budget, Ledger
from llm_relabel.judge.cache import CachedAnswer, VerdictCache
from llm_relabel.judge.chat import Completion
from llm_relabel.judge.limits import Bucket, Limits
from llm_relabel.judge.providers.rate_headers import read_rates
from llm_relabel.records import Tokens, Verdict


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def limits(clock: Clock, **keys: object) -> Limits:
    member = JudgeMember.model_validate({"model": "openai/x", **keys})
    return Limits(member, clock=clock, sleep=clock.sleep)


def done(tokens: Tokens | None = None, **headers: str) -> Completion:
    tokens = tokens or Tokens(100, 10)
    return Completion("{}", tokens, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def calls(gate: Limits, count: int, size: int = 400) -> list[float]:
    """The moments at which `count` calls left, each over before the next begins."""
    left = []
    for _ in range(count):
        leave = await gate.enter(size)
        left.append(leave.left)
        gate.leave(leave, done())
    return left


# Rates


def test_requests_are_spread_evenly_after_one_second_s_worth() -> None:
    clock = Clock()
    left = asyncio.run(calls(limits(clock, requests_per_minute=600), 30))
    assert [moment - left[0] for moment in left[:10]] == [0.0] * 10
    gaps = [b - a for a, b in itertools.pairwise(left[10:])]
    assert gaps == pytest.approx([0.1] * len(gaps))


@pytest.mark.parametrize("key", ["tokens", "input_tokens", "output_tokens"])
def test_tokens_are_counted_as_the_provider_reports_them(key: str) -> None:
    """The estimate books more or less than a call takes; the usage corrects it."""
    clock = Clock()
    gate = limits(clock, **{f"{key}_per_minute": 6000})
    left = asyncio.run(calls(gate, 400))
    taken = {"tokens": 110, "input_tokens": 100, "output_tokens": 10}[key]
    rate = (len(left) - 100) * taken / (left[-1] - left[100]) * 60
    assert rate == pytest.approx(6000, rel=0.05)


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.floats(0, 20)), min_size=1, max_size=40
    ),
    st.floats(0.1, 100), st.floats(1, 100),
)  # fmt: skip
def test_a_bucket_never_lets_more_through_than_it_holds(
    steps: list[tuple[float, float]], rate: float, capacity: float
) -> None:
    bucket, now, covered_at, taken = Bucket(rate, capacity, capacity, 0.0), 0.0, 0.0, 0.0
    for amount, pause in steps:
        now += pause
        covered_at = max(covered_at, now + bucket.take(amount, now))
        taken += amount
        assert taken <= capacity + rate * covered_at + 1e-6


def test_rates_are_learned_from_openai_s_headers() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "15000",
        "x-ratelimit-reset-tokens": "1m0s",
    }  # fmt: skip
    found = read_rates(headers)
    assert found["requests"].rate == pytest.approx(500 / 60)
    assert found["tokens"].rate == pytest.approx(250)
    assert found["tokens"].remaining == 15000


def test_rates_are_learned_from_anthropic_s_headers() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat().replace("+00:00", "Z")
    headers = {
        f"anthropic-ratelimit-{kind}-{part}": value
        for kind in ("requests", "input-tokens", "output-tokens")
        for part, value in (("limit", "1000"), ("remaining", "400"), ("reset", soon))
    }
    found = read_rates(headers)
    assert set(found) == {"requests", "input", "output"}
    assert found["input"].rate == pytest.approx(600 / 30, rel=0.05)


@given(
    st.dictionaries(
        st.sampled_from(
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
             "x-ratelimit-reset-requests", "anthropic-ratelimit-requests-limit",
             "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"]
        ),
        st.text(max_size=12) | st.sampled_from(["1", "0", "-1", "nan", "inf", "6m0s", "soon"]),
    )
)  # fmt: skip
def test_headers_that_say_nothing_are_no_rates(headers: dict[str, str]) -> None:
    for rate in read_rates(headers).values():
        assert 0 <= rate.remaining <= rate.limit < float("inf")
        assert rate.rate is None or 0 < rate.rate < float("inf")


def test_an_empty_bucket_at_the_provider_is_waited_for() -> None:
    clock = Clock()
    gate = limits(clock)
    headers = {"x_ratelimit_limit_requests": "60", "x_ratelimit_remaining_requests": "0",
               "x_ratelimit_reset_requests": "60s"}  # fmt: skip

    async def scenario() -> list[float]:
        leave = await gate.enter(400)
        gate.leave(leave, done(**headers))
        return await calls(gate, 3)

    left = asyncio.run(scenario())
    assert [moment - 1000.0 for moment in left] == pytest.approx([1.0, 2.0, 3.0])


def test_a_rate_of_the_job_outranks_the_headers() -> None:
    clock = Clock()
    gate = limits(clock, requests_per_minute=60_000)
    gate.learn({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "60s"})  # fmt: skip
    left = asyncio.run(calls(gate, 10))
    assert left[-1] - left[0] < 1


# Concurrency that adapts


def test_concurrency_shrinks_on_429_and_recovers() -> None:
    clock = Clock()
    gate = limits(clock, concurrency=40)

    async def scenario() -> tuple[float, float, float]:
        held = [await gate.enter(400) for _ in range(40)]
        for leave in held:  # one overload is many 429s, and counts once
            gate.leave(leave, RateLimited("slower"))
        once = gate.allowed
        clock.now += 5
        gate.leave(await gate.enter(400), RateLimited("slower"))
        twice = gate.allowed
        await calls(gate, 2000)
        return once, twice, gate.allowed

    once, twice, recovered = asyncio.run(scenario())
    assert once == pytest.approx(28)
    assert twice == pytest.approx(19.6)
    assert recovered == 40


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    gate = Limits(JudgeMember(model="openai/x", concurrency=5))
    most = active = 0

    async def one() -> None:
        nonlocal most, active
        leave = await gate.enter(10)
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.001)
        active -= 1
        gate.leave(leave, done())

    async def scenario() -> None:
        await asyncio.gather(*(one() for _ in range(100)))

    asyncio.run(scenario())
    assert most == 5


def test_a_cancelled_wait_gives_its_place_back() -> None:
    gate = Limits(JudgeMember(model="openai/x", concurrency=1, requests_per_minute=1))

    async def scenario() -> None:
        gate.leave(await gate.enter(10), done())
        waiting = asyncio.create_task(gate.enter(10))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.stop("the end")
        with pytest.raises(Paused, match="the end"):
            await gate.enter(10)

    asyncio.run(scenario())


def test_after_a_pause_calls_leave_one_by_one() -> None:
    """Retry-After holds everybody back, and its end is no starting gun."""

    async def scenario() -> list[float]:
        clock = asyncio.get_running_loop().time
        gate = Limits(JudgeMember(model="openai/x", concurrency=20), clock=clock)
        gate._seconds = 0.2  # what a call takes
        gate.leave(await gate.enter(10), RateLimited("slower", retry_after=0.3))
        began, left = clock(), []

        async def one() -> None:
            leave = await gate.enter(10)
            left.append(clock() - began)
            await asyncio.sleep(0.2)
            gate.leave(leave, done())

        await asyncio.gather(*(one() for _ in range(14)))
        return sorted(left)

    left = asyncio.run(scenario())
    assert left[0] >= 0.29
    # 14 calls, a fourteenth of a call's time apart.
    within_first_moment = sum(moment < left[0] + 0.02 for moment in left)
    assert within_first_moment <= 4
    assert left[-1] - left[0] >= 0.1


def test_stopping_ends_every_wait() -> None:
    async def scenario() -> int:
        gate = Limits(JudgeMember(model="openai/x", concurrency=1, requests_per_minute=1))
        gate.leave(await gate.enter(10), done())
        waiting = [asyncio.create_task(gate.enter(10)) for _ in range(5)]
        await asyncio.sleep(0.01)
        gate.stop("deadline")
        ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        return sum(isinstance(end, Paused) for end in ended)

    assert asyncio.run(scenario()) == 5


# Money


def test_the_ledger_counts_what_was_in_flight_at_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    code = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from llm_relabel.judge.budget import Budget, Ledger\n"
        "async def main():\n"
        "    budget = Budget(1.0, ledger=Ledger(Path(sys.argv[1])))\n"
        "    await budget.reserve(0.2); budget.settle(0.2, 0.05)\n"
        "    await budget.reserve(0.3); await budget.reserve(0.1)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    # The journal knows of the settled call only.
    budget = Budget(1.0, spent=0.05, ledger=Ledger(path))
    assert budget.spent == pytest.approx(0.45)
    assert budget.lost == pytest.approx(0.40)
    assert not budget.try_reserve(0.56)
    assert budget.try_reserve(0.54)


@settings(max_examples=60)
@given(st.data())
def test_promises_never_exceed_the_cap(data: st.DataObject) -> None:
    cap = data.draw(st.floats(0.5, 5))
    worst = st.floats(0.01, 0.4)
    jobs = data.draw(st.lists(st.tuples(worst, st.floats(0, 1)), min_size=1, max_size=60))

    async def scenario() -> Budget:
        budget = Budget(cap)
        seen: list[float] = []

        async def call(worst: float, share: float) -> None:
            try:
                await budget.reserve(worst)
            except Paused:
                return
            seen.append(budget.spent + budget._promised)
            await asyncio.sleep(0)
            budget.settle(worst, worst * share)

        await asyncio.gather(*(call(*job) for job in jobs))
        assert all(total <= cap + 1e-9 for total in seen)
        return budget

    budget = asyncio.run(scenario())
    assert budget.spent <= cap + 1e-9
    if budget.spent + 0.4 < cap and sum(worst for worst, _ in jobs) > 0:
        assert budget.spent == pytest.approx(sum(worst * share for worst, share in jobs))


def test_a_batch_of_an_earlier_process_is_promised_and_not_lost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    first = Budget(1.0, ledger=ledger)
    assert first.try_reserve(0.6)
    second = Budget(1.0, ledger=Ledger(tmp_path / "ledger"))
    assert second.lost == pytest.approx(0.6)
    second.adopt(0.6)
    assert (second.lost, second.spent) == (0.0, 0.0)
    assert not second.try_reserve(0.5)
    second.settle(0.6, 0.1)
    assert second.try_reserve(0.5)


# Breakers


def verdict(number: int, reason: str | None = None) -> Verdict:
    if reason is None:
        return Verdict(str(number), str(number), "answer", "a")
    return Verdict(str(number), str(number), "failed", reason=reason, error="no")


def first_stop(settings: Breakers, reasons: list[str | None]) -> tuple[int, str] | None:
    breaker = CircuitBreaker("openai/x", settings)
    for number, reason in enumerate(reasons):
        if told := breaker.hear(verdict(number, reason)):
            return number, told
    return None


def test_breakers_stop_where_the_job_says() -> None:
    row = first_stop(Breakers(failures_in_a_row=5), [None, *["transport"] * 9])
    assert row is not None
    assert row[0] == 5
    mixed = ["invalid" if n % 2 else None for n in range(200)]
    shares = first_stop(Breakers(window=40, invalid=0.4), mixed)
    assert shares is not None
    assert shares[0] == 39
    assert "20 of the last 40 verdicts were invalid" in shares[1]
    failed = first_stop(Breakers(window=40, failed=0.4, invalid=None), mixed)
    assert failed is not None
    assert "failed" in failed[1]
    early = first_stop(Breakers(), ["invalid", "invalid", None] * 50)
    assert early is not None
    assert 19 <= early[0] < 60  # long before 100, and not by chance
    off = Breakers(window=40, failures_in_a_row=None, failed=None, invalid=None)
    assert first_stop(off, ["invalid"] * 300) is None
    assert first_stop(Breakers(), [None, None, "invalid"] * 100) is not None
    assert first_stop(Breakers(), [None] * 4 + ["invalid"] + [None] * 300) is None


def test_failures_that_stopped_a_run_get_another_try_and_others_do_not() -> None:
    settings = Breakers(failures_in_a_row=5)
    history = [verdict(0, "invalid"), verdict(1), *(verdict(n, "refused") for n in range(2, 7))]
    late = [verdict(7)]  # was in flight at the stop
    assert worth_another_try("x", settings, history[:4]) == set()
    stopped = worth_another_try("x", settings, [*history, *late])
    assert {"2", "3", "4", "5", "6"} <= stopped
    again = [*history, *late, *(verdict(n) for n in map(int, stopped))]
    assert worth_another_try("x", settings, again) == set()


# The cache


def put_many(cache: VerdictCache, count: int, *, start: int = 0) -> None:
    for number in range(start, start + count):
        cache.put(f"k{number}", CachedAnswer(f"text {number}", Tokens(number, 1), 0.5))


def test_the_cache_gives_back_what_was_put_at_once_and_later(tmp_path: Path) -> None:
    cache = VerdictCache(tmp_path)
    put_many(cache, 1200)
    assert cache.get("k3") == CachedAnswer("text 3", Tokens(3, 1), 0.5)
    assert cache.get("k1199") == CachedAnswer("text 1199", Tokens(1199, 1), 0.5)
    cache.close()
    again = VerdictCache(tmp_path)
    assert len(again) == 1200
    assert again.get("k1199") is not None
    assert again.get("none") is None
    again.close()
    assert list(cache.folder.glob("new-*")) == []


def test_a_killed_process_s_answers_are_taken_in(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from llm_relabel.judge.cache import CachedAnswer, VerdictCache\n"
        "from llm_relabel.records import Tokens\n"
        "cache = VerdictCache(Path(sys.argv[1]))\n"
        "for n in range(700):\n"
        "    cache.put(f'k{n}', CachedAnswer(f'text {n}', Tokens(n, 1), 0.5))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "verdicts").glob("new-*.jsonl")
    with left.open("ab") as file:
        file.write(b'{"key":"torn')
    cache = VerdictCache(tmp_path)
    assert all(cache.get(f"k{n}") is not None for n in range(700))
    assert not left.exists()
    cache.close()


def test_two_processes_share_the_cache_while_both_live(tmp_path: Path) -> None:
    one, two = VerdictCache(tmp_path), VerdictCache(tmp_path)
    put_many(one, 10)
    put_many(two, 10, start=10)
    three = VerdictCache(tmp_path)  # must not take the lines of a living process
    assert one.get("k0") is not None
    one.close()
    two.close()
    assert len(three) == 20
    three.close()
