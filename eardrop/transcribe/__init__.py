"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.options import Options
from eardrop.transcribe.recognizer import Recognizer, language_of, one_window
from eardrop.transcribe.score import Score
from eardrop.transcribe.words import WORDS_BY, words_of

__all__ = ["WORDS_BY", "Options", "Recognizer", "Score", "language_of", "one_window", "words_of"]
