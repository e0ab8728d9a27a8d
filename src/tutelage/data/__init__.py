"""Text into tokens: sources of prompts, conversations and judged answers, chat rendering with masks, packing."""

from tutelage.data.chat import Conversation, Rendered, render_conversation, render_prompt
from tutelage.data.packaged import PACKAGED, PackagedData, data_folder, fetch_data
from tutelage.data.preferences import Judged
from tutelage.data.source import AnySource, Source
from tutelage.data.sources import SOURCES, build_conversation_source, build_judged_source, build_prompt_source

__all__ = [
    "PACKAGED",
    "SOURCES",
    "AnySource",
    "Conversation",
    "Judged",
    "PackagedData",
    "Rendered",
    "Source",
    "build_conversation_source",
    "build_judged_source",
    "build_prompt_source",
    "data_folder",
    "fetch_data",
    "render_conversation",
    "render_prompt",
]
