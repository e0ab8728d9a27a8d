"""Text into tokens: sources of prompts and conversations, chat rendering with masks, packing."""

from tutelage.data.chat import Conversation, Rendered, render_conversation, render_prompt
from tutelage.data.sources import SOURCES, Source, build_conversation_source, build_prompt_source

__all__ = [
    "SOURCES",
    "Conversation",
    "Rendered",
    "Source",
    "build_conversation_source",
    "build_prompt_source",
    "render_conversation",
    "render_prompt",
]
