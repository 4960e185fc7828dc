"""Which key goes where, and what a call costs: all of it before any call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llm_relabel.config.judges import JudgeSection, Prices
from llm_relabel.errors import JobError
from llm_relabel.judge.chat import ChatRequest
from llm_relabel.judge.prices import FREE, cost_of, is_paid, price_of, worst_case
from llm_relabel.judge.providers import catalog
from llm_relabel.judge.providers.catalog import (
    facts_of,
    sampling_params,
    supports_temperature,
)
from llm_relabel.judge.providers.keys import Key, endpoint, redirect_warnings, resolve_key
from llm_relabel.records import Message, Tokens

LOCAL = "http://localhost:8000/v1"
PUBLIC = "https://llm.example.com/v1"


def judge(model: str = "openai/gpt-4o-mini", **keys: object) -> JudgeSection:
    return JudgeSection.model_validate({"model": model, **keys})


# Keys


@pytest.mark.parametrize(
    ("model", "variable"),
    [("openai/gpt-4o-mini", "OPENAI_API_KEY"), ("anthropic/claude-x", "ANTHROPIC_API_KEY")],
)
def test_a_provider_uses_its_own_variable(model: str, variable: str, tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "of-openai", "ANTHROPIC_API_KEY": "of-anthropic"}
    key = resolve_key(judge(model), tmp_path, environ)
    assert key == Key(environ[variable], variable, "the environment")


@pytest.mark.parametrize("model", ["openai/local", "anthropic/local", "hosted_vllm/local"])
def test_a_custom_base_url_gets_only_the_named_key(model: str, tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": "a", "ANTHROPIC_API_KEY": "b", "HOSTED_VLLM_API_KEY": "c"}
    (tmp_path / ".env").write_text("OPENAI_API_KEY=d\n")
    dummy = resolve_key(judge(model, base_url=LOCAL), tmp_path, environ)
    assert dummy is not None
    assert (dummy.value, dummy.variable, dummy.secrets) == ("none", None, ())

    named = judge(model, base_url=LOCAL, api_key_env="MINE")
    key = resolve_key(named, tmp_path, {**environ, "MINE": "my-key"})
    assert key is not None
    assert (key.value, key.secrets) == ("my-key", ("my-key",))


def test_the_official_address_written_out_is_not_custom(tmp_path: Path) -> None:
    section = judge(base_url="https://api.openai.com/v1/")
    key = resolve_key(section, tmp_path, {"OPENAI_API_KEY": "k"})
    assert key is not None
    assert key.value == "k"
    look_alike = judge(base_url="https://api.openai.com.example.org/v1")
    key = resolve_key(look_alike, tmp_path, {"OPENAI_API_KEY": "k"})
    assert key is not None
    assert key.value == "none"


def test_keys_come_from_dotenv_files_and_are_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, here = tmp_path / "job", tmp_path / "here"
    job.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (here / ".env").write_text("OPENAI_API_KEY=from-here\n")
    environ: dict[str, str] = {}
    key = resolve_key(judge(), job, environ)
    assert key is not None
    assert key.value == "from-here"
    (job / ".env").write_text("export OPENAI_API_KEY='be$ide-${HOME}'\n")
    key = resolve_key(judge(), job, environ)
    assert key is not None
    assert (key.value, key.source) == ("be$ide-${HOME}", str(job / ".env"))
    key = resolve_key(judge(), job, {"OPENAI_API_KEY": " set \n"})
    assert key is not None
    assert key.value == "set"
    assert environ == {}


@pytest.mark.parametrize("value", ["", "   "])
def test_a_missing_key_names_the_variable_and_the_fix(value: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"OPENAI_API_KEY is not set.*export OPENAI_API_KEY="):
        resolve_key(judge(), tmp_path, {"OPENAI_API_KEY": value})
    with pytest.raises(JobError, match="MY_KEY is not set"):
        resolve_key(judge(base_url=LOCAL, api_key_env="MY_KEY"), tmp_path, {})


@pytest.mark.parametrize(
    "pasted", ["sk-proj-1234567890abcdef", "AIzaSyD4k3jf9s8df7s6df5s4df3s2df1", "a key"]
)
def test_a_pasted_key_is_refused_and_not_repeated(pasted: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="NAME of an environment variable") as caught:
        resolve_key(judge(api_key_env=pasted), tmp_path, {})
    assert pasted not in str(caught.value)


@pytest.mark.parametrize("value", ["schlüssel-123", "two\nlines", "nul\x00byte"])
def test_a_key_that_no_header_can_carry_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="OPENAI_API_KEY") as caught:
        resolve_key(judge(), tmp_path, {"OPENAI_API_KEY": value})
    assert value not in str(caught.value)


def test_a_key_hides_its_value() -> None:
    key = Key("hunter2", "MY_KEY", "the environment")
    assert "hunter2" not in f"{key!r} {key} {[key]}"
    assert "MY_KEY" in repr(key)


@pytest.mark.parametrize("model", ["embedded", "recorded/answers.jsonl"])
def test_judges_without_a_provider_need_no_key(model: str, tmp_path: Path) -> None:
    assert resolve_key(judge(model), tmp_path, {}) is None
    assert price_of(judge(model)) == FREE


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:8000/v1", "is not a web address"),
        ("ftp://host/v1", "is not a web address"),
        ("http://", "is not a web address"),
        ("http://host:notaport/v1", "is not a web address"),
        ("https://user:s3cret@host/v1", "holds a user name or password"),
    ],
)
def test_a_wrong_base_url_is_a_job_error(url: str, says: str) -> None:
    with pytest.raises(JobError, match=says) as caught:
        endpoint(judge(base_url=url))
    assert "s3cret" not in str(caught.value)


def test_endpoints() -> None:
    assert endpoint(judge()) == "https://api.openai.com/v1"
    assert endpoint(judge("anthropic/x")) == "https://api.anthropic.com"
    assert endpoint(judge(base_url=LOCAL + "/")) == LOCAL
    assert endpoint(judge("gemini/x")) is None


def test_variables_that_redirect_are_reported() -> None:
    environ = {
        "OPENAI_BASE_URL": "http://elsewhere",
        "OPENAI_ORG_ID": "org-1",
        "ANTHROPIC_BASE_URL": "http://elsewhere",
        "MISTRAL_API_BASE": "http://elsewhere",
        "https_proxy": "http://proxy:1",
    }
    openai = redirect_warnings(judge(), environ)
    assert [text.split()[0] for text in openai] == [
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "HTTPS_PROXY",
    ]
    assert "NOT obeyed" in openai[0]
    assert len(redirect_warnings(judge("anthropic/x"), environ)) == 2
    mistral = redirect_warnings(judge("mistral/x"), environ)
    assert "obeyed by litellm" in mistral[0]
    assert len(redirect_warnings(judge(base_url=LOCAL), environ)) == 2
    assert redirect_warnings(judge("embedded"), environ) == []
    assert redirect_warnings(judge(), {}) == []


# Prices and other facts of the table


def test_prices_come_from_the_table_without_importing_litellm() -> None:
    code = (
        "import sys; from llm_relabel.config.judges import JudgeSection; "
        "from llm_relabel.judge.prices import price_of; "
        "print(price_of(JudgeSection(model='openai/gpt-4o-mini'))); "
        "print(sorted({'litellm', 'openai', 'anthropic', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[:2] == [
        "input=0.15 output=0.6 cached_input=0.075 cache_write=None", "[]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("openai/ft:gpt-4o-mini-2024-07-18:acme::abc", "ft:gpt-4o-mini-2024-07-18"),
        ("anthropic/claude-haiku-4-5", "claude-haiku-4-5"),
        ("gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("mistral/mistral-small-latest", "mistral/mistral-small-latest"),
    ],
)
def test_models_are_found_in_the_table(model: str, name: str) -> None:
    assert facts_of(judge(model)) == catalog.table()[name]
    prices = price_of(judge(model))
    assert prices is not None
    assert prices.input == pytest.approx(catalog.table()[name]["input_cost_per_token"] * 1e6)
    assert is_paid(prices)


def test_a_model_of_another_provider_does_not_lend_its_price() -> None:
    assert facts_of(judge("openai/claude-haiku-4-5")) is None
    assert facts_of(judge("anthropic/gpt-4o-mini")) is None


@pytest.mark.parametrize(
    "url",
    [
        LOCAL,
        "http://127.0.0.1:1/v1",
        "http://[::1]:1/v1",
        "http://10.1.2.3/v1",
        "http://192.168.0.9:8000/v1",
        "http://gpu-box:8000/v1",
        "http://gpu.local/v1",
    ],
)
def test_private_servers_are_free(url: str) -> None:
    assert price_of(judge(base_url=url)) == FREE
    own = Prices(input=1, output=2)
    assert price_of(judge(base_url=url, prices=own)) == own


@pytest.mark.parametrize(
    "section",
    [
        judge("openai/no-such-model"),
        judge("gemini/no-such-model"),
        # The same name elsewhere has another price.
        judge("openai/gpt-4o-mini", base_url=PUBLIC),
    ],
    ids=lambda section: section.model,
)
def test_an_unknown_price_is_asked_for(section: JudgeSection) -> None:
    with pytest.raises(JobError, match=r"is not known; set judge\.prices"):
        price_of(section)
    assert price_of(section, uncapped=True) is None
    assert is_paid(None)
    own = Prices(input=1, output=2)
    assert price_of(section.model_copy(update={"prices": own})) == own


def test_local_runners_through_litellm_are_free() -> None:
    assert price_of(judge("ollama/llama3")) == FREE
    assert not is_paid(FREE)


def test_cost_counts_cached_tokens_at_their_price() -> None:
    prices = Prices(input=1.0, output=10.0, cached_input=0.1)
    tokens = Tokens(input=1_000_000, output=100_000, cached=400_000)
    assert cost_of(tokens, prices) == pytest.approx(0.6 + 0.04 + 1.0)
    assert cost_of(tokens, Prices(input=1.0, output=10.0)) == pytest.approx(2.0)
    # A provider that reports more cached than sent must not make a call free.
    assert cost_of(Tokens(10, 0, 99), Prices(input=1e6, output=0)) == pytest.approx(10)
    assert cost_of(tokens, None) == 0


def test_the_worst_case_is_never_below_the_cost() -> None:
    text = "täglich 😀 \ud800" * 50
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    request = ChatRequest(
        (Message("system", "s"), Message("user", text)), schema, max_output_tokens=100
    )
    size, dollars = worst_case(request, Prices(input=1, output=10, cached_input=0.1))
    text_size = len(text.encode("utf-8", "surrogatepass"))
    assert text_size < size < text_size + 1100
    assert dollars == pytest.approx(size / 1e6 + 100 * 10 / 1e6)
    # Cached and cache-written input may be dearer too: the bound takes the dearest.
    for dearer in ({"cached_input": 2}, {"cache_write": 2}):
        assert worst_case(request, Prices(input=1, output=10, **dearer))[1] > dollars
    assert worst_case(request, None) == (size, 0)
    smaller = ChatRequest(request.messages, None, max_output_tokens=100)
    assert worst_case(smaller, None)[0] < size


def test_what_is_written_into_a_prompt_cache_costs_its_own_price() -> None:
    prices = Prices(input=1.0, output=0.0, cached_input=0.1, cache_write=1.25)
    tokens = Tokens(input=1_000_000, cached=500_000, written=200_000)
    assert cost_of(tokens, prices) == pytest.approx(0.3 + 0.05 + 0.25)


def test_a_batch_has_the_batch_prices_of_the_table() -> None:
    plain, batch = (
        price_of(judge("anthropic/claude-haiku-4-5", batch=flag)) for flag in (False, True)
    )
    assert (plain.input, plain.cache_write, plain.output) == (1.0, 1.25, 5.0)
    assert (batch.input, batch.cache_write, batch.output) == (0.5, 0.625, 2.5)
    own = Prices(input=3, output=4)
    assert price_of(judge("openai/gpt-4o-mini", batch=True, prices=own)) == own


@pytest.mark.parametrize(
    ("section", "accepted"),
    [
        (judge("openai/gpt-4o-mini"), True),
        (judge("openai/gpt-5-mini"), False),
        (judge("openai/o3"), False),
        (judge("openai/brand-new"), False),
        (judge("openai/brand-new", base_url=LOCAL), True),
        (judge("anthropic/claude-haiku-4-5"), True),
        (judge("anthropic/claude-opus-4-7"), False),
        (judge("gemini/gemini-2.5-flash"), True),
        (judge("ollama/llama3"), True),
    ],
    ids=lambda value: getattr(value, "model", str(value)),
)
def test_temperature_goes_only_where_it_is_accepted(section: JudgeSection, accepted: bool) -> None:
    assert supports_temperature(section) is accepted
    assert sampling_params(section) == ({"temperature": 0} if accepted else {})


def test_params_override_and_null_removes() -> None:
    section = judge(params={"temperature": None, "top_p": 0.5, "seed": 3})
    assert sampling_params(section) == {"top_p": 0.5, "seed": 3}
    assert sampling_params(judge(params={"temperature": 1})) == {"temperature": 1}


@pytest.mark.parametrize("name", ["n", "stream", "max_tokens", "api_key", "base_url", "model"])
def test_params_that_we_write_are_refused(name: str) -> None:
    with pytest.raises(JobError, match=f"may not set '{name}'"):
        sampling_params(judge(params={name: 1}))
