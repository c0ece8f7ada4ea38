"""The card of the model that ships: its words are in card.md, every number in them is filled in here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eardrop.audio import SAMPLE_RATE
from eardrop.gguf import open_gguf
from eardrop.model.shape import AttentionShape, decoder_shape, encoder_shape
from eardrop.tools.corpus import MANIFEST
from eardrop.tools.evaluate import Run, Summary, score
from train.formats import Measured, pair, table, verdict
from train.learn import HOUR, Plan
from train.report import DIGITS, by_kind, by_set
from train.voices import ENGINES


@dataclass(frozen=True)
class Training:
    """How a model was made.

    folder  of its checkpoint
    logs    of the run, and of its cooldown, which begins before the first ends
    speech  the folder of the shards that it heard
    plan    what was wished for
    """

    folder: Path
    logs: Sequence[Path]
    speech: Path
    plan: Plan

    def log(self) -> list[dict[str, float]]:
        """The lines that led to this model: of each log those before the next begins."""
        kept: list[dict[str, float]] = []
        for path in self.logs:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            kept = [line for line in kept if line["hours"] < lines[0]["hours"]] + lines
        return kept

    def facts(self) -> dict[str, float]:
        """Numbers by the names that the card calls them."""
        held = torch.load(self.folder / "checkpoint.pt", map_location="cpu", weights_only=True)
        kept = [value for name, value in held["mean"].items() if not name.startswith("ctc.")]
        spoken = _spoken(self.speech)
        return {
            "weights": sum(value.numel() for value in kept) / 1e6,
            "sentences": len(spoken),
            "speech_hours": sum(samples for _, samples in spoken) / SAMPLE_RATE / HOUR,
            "steps": held["step"],
            "heard": held["seconds"] / HOUR,
            "cooldown": self.plan.cooldown,
            "rate": self.plan.rate,
            "batch_seconds": self.plan.batch_seconds,
            "seed": self.plan.seed,
        }


def card(training: Training, measured: Sequence[Measured], shipped: Measured, tests: Path, recorded: Run | None) -> str:
    """Markdown.

    measured  the pair in each format; `shipped` is one of them
    recorded  what that heard of recorded human speech, by source
    """
    words = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    return words.format(
        **training.facts(),
        **{name: shipped.run.about[name] for name in ("machine", "eardrop", "date")},
        form=shipped.form,
        files=_files(shipped),
        voices=_voices(_spoken(training.speech)),
        architecture=_architecture(shipped.folder),
        sets=rates("set", [*by_set(shipped.run), _digit_by_digit(shipped.run)]),
        kinds=rates("kind", by_kind(shipped.run, tests / MANIFEST)),
        recorded=_of_people(recorded),
        speech_words=shipped.speech.words.length,
        formats=table(measured),
        verdict=verdict(measured),
    )


def _digit_by_digit(run: Run) -> Summary:
    """The digit strings once more, each digit a word."""
    strings = [one for one in run.scored if one.group == DIGITS]
    again = [score(one.name, one.group, one.reference, one.heard, normalizer="basic") for one in strings]
    return Summary(f"{DIGITS}, digit by digit", again)


def rates(head: str, summaries: Sequence[Summary]) -> str:
    """Markdown: a line for each; of what has no words, how often something was written."""
    return _table(
        (head, "recordings", "words", "word error rate", "95 %"),
        [(one.name.strip(), f"{len(one.scored)}", *_rate(one)) for one in summaries],
    )


def _rate(one: Summary) -> tuple[str, str, str]:
    if one.words.rate is None:
        return "0", f"something was written for {one.spoke_on_silence or 0:.0%}", ""
    within = f"{one.interval.low:.1%} … {one.interval.high:.1%}" if one.interval else ""
    return f"{one.words.length:,}", f"{one.words.rate:.1%}", within


def _of_people(run: Run | None) -> str:
    if run is None:
        return "Not measured."
    loud = Summary("all of it", [one for one in run.scored if not one.silent])
    silent = Summary("sounds without words", [one for one in run.scored if one.silent])
    sources = sorted({one.group for one in loud.scored})
    parts = [Summary(source, [one for one in loud.scored if one.group == source]) for source in sources]
    return rates("source", [loud, *parts, *([silent] if silent.scored else [])])


def _files(shipped: Measured) -> str:
    sizes = (shipped.text, shipped.projector)
    rows = [(f"`{path.name}`", f"{size / 1e6:.1f} MB") for path, size in zip(pair(shipped.folder), sizes, strict=True)]
    return _table(("file", "size"), rows)


def _voices(spoken: Sequence[tuple[str, int]]) -> str:
    """The engines, how many voices of each were heard, their share of the training speech, and their terms."""
    whole, rows = sum(samples for _, samples in spoken), []
    for name, engine in ENGINES.items():
        heard = {voice: samples for voice, samples in spoken if voice.startswith(f"{name}/")}
        share = sum(samples for voice, samples in spoken if voice in heard) / whole
        rows.append((name, f"{len(heard)}", f"{share:.0%}" if heard else "none: tests alone", engine.terms))
    return _table(("engine", "voices", "share of the speech", "terms"), rows)


def _architecture(folder: Path) -> str:
    text, projector = pair(folder)
    decoder, encoder = decoder_shape(open_gguf(text)), encoder_shape(open_gguf(projector))
    layers = ", ".join("attention" if isinstance(one, AttentionShape) else "convolution" for one in decoder.mixers)
    heads = next(one for one in decoder.mixers if isinstance(one, AttentionShape))
    encodes = (
        f"FastConformer: eightfold subsampling through {encoder.channels} channels; {encoder.layers} layers of width"
        f" {encoder.width}, {encoder.heads} heads, {encoder.taps} taps; a row each 80 ms"
    )
    decodes = f"LFM2: {layers}; width {decoder.width}, {decoder.ffn} within, {heads.heads} heads over {heads.kv_heads}"
    rows = [
        ("front end", f"{encoder.mels} log-mel bins, 16 kHz, 100 frames a second"),
        ("encoder", encodes),
        ("adapter", f"{encoder.width} → {encoder.adapter} → {encoder.out}"),
        ("decoder", decodes),
        ("vocabulary", f"{decoder.vocabulary} tokens: LFM2's control tokens, bytes, merges, the prompt's words whole"),
    ]
    return _table(("part", "what it is"), rows)


def _spoken(speech: Path) -> list[tuple[str, int]]:
    """The voice of each sentence of the shards, and its samples."""
    rows = [row for index in speech.glob("*.json") for row in json.loads(index.read_text(encoding="utf-8"))]
    return [(voice, samples) for *_, voice, samples in rows]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
