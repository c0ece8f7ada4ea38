"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.options import Options
from eardrop.transcribe.recognizer import Recognizer, one_window

__all__ = ["Options", "Recognizer", "one_window"]
