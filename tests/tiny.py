"""Tiny random models and tokenizers with real chat templates, made in milliseconds and without a network."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCAB = 300
FAMILIES: dict[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "gemma2": Gemma2Config,
    "gemma3": Gemma3TextConfig,
}

# SmolLM2's own: a default system turn unless the conversation brings one.
CHATML = """{% for message in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

# Qwen2.5's, without its tools: the system turn is written ahead of the loop, tool answers are user turns.
QWEN = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# Qwen3's way with thoughts: those of past turns are dropped, an empty one is written where there is none.
THINKING = """{%- for message in messages %}
    {%- if message.role == 'assistant' and not loop.last %}
        {%- set spoken = message.content.split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>assistant\\n' + spoken + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' and '</think>' not in message.content %}
        {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""

# Llama 3's: trims every content, begins with bos, ends a turn without a line break.
LLAMA3 = """{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + \
'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

# Gemma's: no system role, 'model' instead of 'assistant', strict alternation, trims.
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}\
{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}\
{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"""

# style: (template, bos or None, end of turn, pad, every special token in the order of its id)
_CHATML_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA3_SPECIALS = ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>")
_GEMMA_SPECIALS = ("<pad>", "<bos>", "<end_of_turn>", "<start_of_turn>")
STYLES: dict[str, tuple[str, str | None, str, str, tuple[str, ...]]] = {
    "chatml": (CHATML, "<|im_start|>", "<|im_end|>", "<|im_end|>", _CHATML_SPECIALS),
    "qwen": (QWEN, None, "<|im_end|>", "<|endoftext|>", _CHATML_SPECIALS),
    "thinking": (THINKING, None, "<|im_end|>", "<|endoftext|>", _CHATML_SPECIALS),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", _LLAMA3_SPECIALS),
    "gemma": (GEMMA, "<bos>", "<end_of_turn>", "<pad>", _GEMMA_SPECIALS),
}

# How Llama 3 and Qwen cut text into words. Unlike GPT-2's way, line breaks in a row are one word.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CORPUS = (
    "You are a helpful assistant.\n\nWhat is 12 + 30? Answer with just the number.\n42\n",
    "system\nuser\nassistant\nmodel\n\n\nThe answer is 7. The answer is not 8.\n  indented\n\n",
)


@cache
def tiny_tokenizer(style: str = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level BPE of 300 tokens with a real model's chat template. The end of turn is always id 2."""
    template, bos, end, pad, specials = STYLES[style]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if style in ("qwen", "thinking", "llama3"):
        split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
        bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_CORPUS * 4, trainer)
    if style in ("llama3", "gemma"):  # these add bos by themselves
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=end, pad_token=pad, extra_special_tokens=list(specials)
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_config(family: str = "llama", **changes: Any) -> PreTrainedConfig:
    """Two layers, width 32, four query heads on two key heads; `changes` replace any field."""
    fields: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,  # large enough for attention to matter in a random model
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    return FAMILIES[family](**{**fields, **changes})


def tiny_model(
    family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A random model of the family, in evaluation mode. The same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes), dtype=dtype)
    return model.eval()
