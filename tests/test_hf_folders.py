"""Folders that hold a model, and what is refused of them before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_lm
import torch
from safetensors.torch import load_file, save_file

from llm_relabel.config.judges import JudgeMember
from llm_relabel.errors import JobError
from llm_relabel.judge.providers.opening import open_provider


def member(folder: Path, **keys: Any) -> JudgeMember:
    return JudgeMember.model_validate({"model": f"hf/{folder}", **keys})


def test_a_template_that_drops_the_question(tmp_path: Path) -> None:
    tiny_lm.save(tmp_path, template="Good day! {{ messages[0].role }}")
    with pytest.raises(JobError, match="chat template that fails or drops the user's message"):
        open_provider(member(tmp_path), Path())


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"params": {"temperature": 1}}, "judge.params"),
        ({"base_url": "http://127.0.0.1:9"}, "judge.base_url"),
        ({"structured_output": "prompt"}, "judge.structured_output"),
    ],
)
def test_keys_that_mean_nothing_here(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(JobError, match=f"{told}.*take the key away"):
        open_provider(member(tmp_path, **keys), Path())


def _pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _index_to_a_pickle(folder: Path) -> None:
    _pickled(folder)
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def _headless(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _cut_short(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _own_code(folder: Path) -> None:
    """A folder that brings a class of its own, and would leave a file if that were run."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "own.Model", "AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    (folder / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (_pickled, "'pytorch_model.bin', a pickle.*save_pretrained"),
    (_index_to_a_pickle, "'pytorch_model.bin', a pickle"),
    (_adapter, "is an adapter.*merge_and_unload"),
    (lambda folder: (folder / "adapter_config.json").write_text("{}"), "carries an adapter"),
    (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "unreadable configuration"),
    (lambda folder: (folder / "config.json").write_text("[1]"), "unreadable configuration"),
    (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
    (_headless, "lacks the weights of a causal language model .lm_head"),
    (_cut_short, "cannot be loaded"),
    (_own_code, "cannot be loaded"),
]


@pytest.mark.parametrize(("spoil", "told"), BROKEN)
def test_folders_that_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(tiny_lm.save(tmp_path))
    with pytest.raises(JobError, match=f"(?s)judge.model 'hf/.*{told}.*safetensors"):
        open_provider(member(tmp_path), Path())
    assert not (tmp_path / "ran").exists()


def test_names_that_are_no_folder(tmp_path: Path) -> None:
    for name in ("nothing/here", "nobody/has-this-model", "a/b/c"):
        with pytest.raises(JobError, match="is neither a folder"):
            open_provider(JudgeMember(model=f"hf/{name}"), tmp_path)
    (tmp_path / "model.gguf").write_text("x")
    with pytest.raises(JobError, match="is a file; a model is a folder"):
        open_provider(JudgeMember(model="hf/model.gguf"), tmp_path)


def test_a_model_that_looks_ahead_is_refused(tmp_path: Path) -> None:
    tiny_lm.save(tmp_path, "bert")
    with pytest.raises(JobError, match="does not read text from left to right"):
        open_provider(member(tmp_path), Path())


# What a verdict is remembered under


def test_the_name_in_the_cache_changes_with_what_answers(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def opened(**changes: Any) -> str:
        tiny_lm.save(folder, **changes)
        return open_provider(JudgeMember(model="hf/model"), tmp_path).model

    first = opened()
    assert first.startswith("model@")
    assert opened() == first  # written again, at another time
    (folder / "README.md").write_text("A note.")
    assert open_provider(JudgeMember(model="hf/model"), tmp_path).model == first
    assert (
        len({first, opened(seed=1), opened(template=None), opened(template="x" + tiny_lm.CHAT)})
        == 4
    )
