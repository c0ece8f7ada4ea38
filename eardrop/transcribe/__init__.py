"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.options import Options
from eardrop.transcribe.recognizer import Recognizer

__all__ = ["Options", "Recognizer"]
