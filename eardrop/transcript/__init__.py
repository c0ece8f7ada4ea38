"""What people keep: segments, results, and the formats they are written in."""

from eardrop.transcript.result import FORMATS, Result, Segment, Word

__all__ = ["FORMATS", "Result", "Segment", "Word"]
