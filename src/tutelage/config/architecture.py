"""What a `pretrain` stage makes of nothing: a tokenizer, and a model of random weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tutelage.config.part import Part

LEAST_VOCABULARY = 261  # 256 bytes, and 5 tokens that begin and end texts and turns


class Tokenizer(Part):
    """Byte-pair encoding over bytes (Sennrich et al., 1508.07909; GPT-2), or the bytes themselves."""

    type: Literal["bpe", "bytes"] = "bpe"
    vocabulary: Annotated[int, Field(ge=LEAST_VOCABULARY)] | None = None  # tokens of "bpe", of all kinds; None: 4096

    @model_validator(mode="after")
    def _bytes_are_counted(self) -> Tokenizer:
        if self.type == "bytes" and self.vocabulary is not None:
            raise ValueError(f"vocabulary: there are {LEAST_VOCABULARY} tokens with type = 'bytes'; leave it out")
        return self

    @property
    def size(self) -> int:
        """How many tokens are asked for."""
        return (self.vocabulary or 4096) if self.type == "bpe" else LEAST_VOCABULARY


class Architecture(Part):
    """A decoder as Llama is one (2302.13971): RMS norms, rotary positions, a gated MLP; grouped keys as in Llama 2.

    The defaults make 6 million parameters with a vocabulary of 4096. Our kernels serve heads of 32, 64, 96 ... numbers
    (`width / heads`), where `width` and `ffn` are multiples of 16.
    """

    width: PositiveInt = 256  # numbers of the residual stream
    layers: PositiveInt = 6
    heads: PositiveInt = 4
    kv_heads: PositiveInt | None = None  # heads of keys and values, which several query heads share; None: as `heads`
    ffn: PositiveInt | None = None  # numbers inside the MLP; None: 8/3 of the width (2002.05202), in multiples of 64
    context: PositiveInt | None = None  # the longest sequence it is made for, in tokens; None: the stage's
    tied: bool = True  # are embedding and head the same matrix?
    rope_theta: PositiveFloat = 10_000.0  # RoFormer (2104.09864), Llama

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Architecture:
        if self.width % (2 * self.heads):
            raise ValueError(f"width: {self.width} cannot be cut into {self.heads} heads of an even number of numbers")
        if self.heads % self.key_heads:
            raise ValueError(f"kv_heads: {self.heads} heads cannot share {self.key_heads} evenly")
        return self

    @property
    def key_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def ffn_width(self) -> int:
        return self.ffn or -(-8 * self.width // (3 * 64)) * 64
