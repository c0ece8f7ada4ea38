"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.options import Options
from eardrop.transcribe.recognizer import Recognizer, language_of, one_window

__all__ = ["Options", "Recognizer", "language_of", "one_window"]
