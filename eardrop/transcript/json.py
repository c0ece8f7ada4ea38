"""JSON: whisper's keys, so that its readers read ours, and beside them what whisper has no word for."""

import json
import zlib
from typing import TYPE_CHECKING, Any

from eardrop.errors import OptionError
from eardrop.printable import printable
from eardrop.transcript.spoken import before, pieces

if TYPE_CHECKING:
    from eardrop.transcript.lines import Lines
    from eardrop.transcript.recording import Recording
    from eardrop.transcript.result import Result, Segment

HOP_SECONDS = 0.01  # whisper's `seek` counts mel frames


def write(result: "Result", *, lines: "Lines | None" = None, recording: "Recording | None" = None) -> str:
    """One object on one line, ASCII."""
    whole = {
        "text": result.text,
        "segments": [_segment(index, segment) for index, segment in enumerate(result.segments)],
        "language": result.language,
        "duration": result.duration,
        "source": result.source,
        "model": result.model,
        "demonstration": result.demonstration,
        "notes": list(result.notes),
        "skipped": [list(stretch) for stretch in result.skipped],
        "coverage": result.coverage,
        "words_by": result.words_by,
    }
    return json.dumps(whole)


def _segment(index: int, segment: "Segment") -> dict[str, Any]:
    words = _words(segment)
    return {
        "id": index,
        "seek": round(segment.start / HOP_SECONDS),
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": 0.0,
        "avg_logprob": segment.logprob,
        "compression_ratio": _compression_ratio(segment.text),
        "no_speech_prob": 0.0,
        "warnings": list(segment.warnings),
        "speech": segment.speech,
        **({"speaker": segment.speaker} if segment.speaker else {}),
        **({"words": words} if words else {}),
    }


def _words(segment: "Segment") -> list[dict[str, Any]]:
    """Each with the space before it, where its script writes one, as whisper's words have it."""
    spelt = [piece.text for piece in pieces(segment)] or [before(segment.text) + word.text for word in segment.words]
    return [
        {"word": text, "start": word.start, "end": word.end, "probability": word.probability}
        for text, word in zip(spelt, segment.words, strict=True)
    ]


def _compression_ratio(text: str) -> float:
    """Bytes of text for a byte of it compressed: whisper's measure of repetition."""
    written = text.encode()
    return len(written) / len(zlib.compress(written))


def read(text: str, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `write` wrote: the result's own fields, and those of its segments, words as fields of their own.

    name  what messages call the text
    """
    try:
        whole = json.loads(text)
        facts = {name: whole[name] for name in ("source", "model", "demonstration", "duration", "language", "words_by")}
        facts |= {"notes": tuple(whole["notes"]), "skipped": tuple((start, end) for start, end in whole["skipped"])}
        return facts, [_segment_read(segment) for segment in whole["segments"]]
    except (ValueError, KeyError, TypeError) as error:
        found = printable(f"{type(error).__name__}: {error}", most=100)
        raise OptionError(f"{printable(name)}: expected a transcript that eardrop wrote ({found})") from None


def _segment_read(segment: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: segment[name] for name in ("start", "end", "text", "speech")},
        "tokens": tuple(segment["tokens"]),
        "logprob": segment["avg_logprob"],
        "warnings": tuple(segment["warnings"]),
        "speaker": segment.get("speaker", ""),
        "words": tuple(
            {
                **{name: word[name] for name in ("start", "end", "probability")},
                "text": word["word"].removeprefix(" "),
            }
            for word in segment.get("words", ())
        ),
    }
