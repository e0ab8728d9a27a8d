"""Making a tokenizer of texts: byte-pair encoding over bytes, so that any text has tokens and gets back as it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tutelage.config import LEAST_VOCABULARY
from tutelage.config import Tokenizer as Settings

BEGIN, END, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"  # ChatML's
CONTROL_ENDS: Final = (END, END_OF_TURN)  # at which whoever samples stops
_CONTROL: Final = (PAD, BEGIN, END, TURN, END_OF_TURN)

# A turn is <|im_start|>role, a line break, what was said, <|im_end|>, a line break. No system turn is made up.
CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], settings: Settings) -> PreTrainedTokenizerFast:
    """The tokenizer for these texts. The same texts in the same order give the same one.

    Words are cut as GPT-2's are, and every digit stands alone, as in Llama, so that numbers have their places. A text
    begins with `BEGIN` and ends with `END`; turns are ChatML's. What texts hold of the control tokens' names is text.

    Returns:
        No more than `settings.size` tokens; fewer where the texts have no more pairs to merge.
    """
    pieces = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    pieces.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.size,
        special_tokens=list(_CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    assert len(_CONTROL) + len(pre_tokenizers.ByteLevel.alphabet()) == LEAST_VOCABULARY
    pieces.train_from_iterator(texts if settings.type == "bpe" else (), trainer)
    begin = (BEGIN, pieces.token_to_id(BEGIN))
    pieces.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[begin])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[TURN, END_OF_TURN],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer
