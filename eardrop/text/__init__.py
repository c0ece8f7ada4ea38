"""Text and token ids: one vocabulary, and the prompt in the one chat form we know."""

from eardrop.text.prompt import MARKER, MEDIA, After, Conversation, Media, Part, check_template, prompt, split_markers
from eardrop.text.tokenizer import Detokenizer, Tokenizer
from eardrop.text.vocabulary import TokenKind, Vocabulary

__all__ = [
    "MARKER",
    "MEDIA",
    "After",
    "Conversation",
    "Detokenizer",
    "Media",
    "Part",
    "TokenKind",
    "Tokenizer",
    "Vocabulary",
    "check_template",
    "prompt",
    "split_markers",
]
