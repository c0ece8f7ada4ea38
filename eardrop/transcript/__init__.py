"""What people keep: segments, results, the formats they are written in, and the paths they are written to."""

from eardrop.transcript.lines import Lines
from eardrop.transcript.paths import Output, output_paths
from eardrop.transcript.result import FORMATS, Result, Segment, Word

__all__ = ["FORMATS", "Lines", "Output", "Result", "Segment", "Word", "output_paths"]
