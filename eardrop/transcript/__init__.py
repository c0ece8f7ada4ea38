"""What people keep: segments, results, the formats they are written in, and the paths they are written to."""

from eardrop.transcript.lines import Lines
from eardrop.transcript.paths import FIELDS, TEMPLATE, Output, output_paths
from eardrop.transcript.recording import Recording
from eardrop.transcript.result import FORMATS, Result, Segment, Word

__all__ = [
    "FIELDS",
    "FORMATS",
    "TEMPLATE",
    "Lines",
    "Output",
    "Recording",
    "Result",
    "Segment",
    "Word",
    "output_paths",
]
