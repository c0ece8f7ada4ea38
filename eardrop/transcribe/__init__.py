"""Recordings become transcripts: the recogniser, and the wishes it understands."""

from eardrop.transcribe.journal import Journal, job_of
from eardrop.transcribe.live import Live
from eardrop.transcribe.many import Outcome
from eardrop.transcribe.options import Options
from eardrop.transcribe.question import language_of
from eardrop.transcribe.recognizer import Recognizer
from eardrop.transcribe.score import Score
from eardrop.transcribe.transcription import Progress
from eardrop.transcribe.words import WORDS_BY, words_of

__all__ = [
    "WORDS_BY",
    "Journal",
    "Live",
    "Options",
    "Outcome",
    "Progress",
    "Recognizer",
    "Score",
    "job_of",
    "language_of",
    "words_of",
]
