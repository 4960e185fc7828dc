"""Tiny causal language models with random weights, saved as folders that transformers can load.

They know nothing, but they are real: a tokenizer with merges, a chat template if one is wanted,
safetensors. Their weights are drawn wide, so that they are sure of what they believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

VOCABULARY = 400
READS = 2048  # tokens
WINDOW = 150  # of the model with sliding attention: far less than a prompt
CONTROL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# What the byte pairs are learned from, so that words of the prompts are one token or a few.
CORPUS = (
    'You check the labels of a dataset. {"label": "fruit"} {"label": "tool"} {"label": "animal"}',
    "the apple number, the hammer number, the horse number; Which label applies to the item?",
    '{"verdict": "decided"} {"label": "billing", "applies": true} {"applies": false}',
    "The item stands between the two lines that read Candidates, in random order",
)


def byte_pairs() -> Tokenizer:
    """A byte-level tokenizer: every text has tokens, and comes back as it was."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(CONTROL), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def marked_spaces() -> Tokenizer:
    """A tokenizer like sentencepiece's: a text begins with a space that is not there."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False, max_token_length=6,
        special_tokens=[*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))],
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def whole_words(words: Sequence[str]) -> Tokenizer:
    """A tokenizer that knows these words and reads any other as the unknown one."""
    known = {word: number for number, word in enumerate([*CONTROL, *words])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def _model(kind: str, rows: int) -> Any:
    wide = {"initializer_range": 0.3}
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=rows, n_positions=READS, n_embd=32, n_layer=2, n_head=2,
                bos_token_id=1, eos_token_id=2, **wide,
            )
        )  # fmt: skip
    if kind == "bloom":  # its positions are in the attention, not in numbers
        return BloomForCausalLM(
            BloomConfig(vocab_size=rows, hidden_size=32, n_layer=2, n_head=2, **wide)
        )
    if kind == "bert":  # looks ahead
        return BertLMHeadModel(
            BertConfig(
                vocab_size=rows, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=64, max_position_embeddings=READS, **wide,
            )
        )  # fmt: skip
    shape: dict[str, Any] = dict(
        vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=READS, **wide,
    )  # fmt: skip
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(sliding_window=WINDOW, **shape))
    return LlamaForCausalLM(LlamaConfig(**shape))


def save(
    folder: Path,
    kind: str = "llama",
    *,
    template: str | None = CHAT,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    rows: int | None = None,
) -> Path:
    """A model of `kind` in `folder`; `rows` is the size of its vocabulary, if not the tokenizer's.

    `kind` is llama, gpt2, mistral (sliding window), bloom (no position numbers) or bert.
    """
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer or byte_pairs(), chat_template=template,
        bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )  # fmt: skip
    wrapped.save_pretrained(folder)
    torch.manual_seed(seed)
    _model(kind, rows or len(wrapped)).save_pretrained(folder)
    return folder
