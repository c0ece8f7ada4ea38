"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.many import Outcome
from eardrop.transcribe.options import Options
from eardrop.transcribe.question import language_of
from eardrop.transcribe.recognizer import Recognizer, one_window
from eardrop.transcribe.transcription import Progress

__all__ = ["Options", "Outcome", "Progress", "Recognizer", "language_of", "one_window"]
