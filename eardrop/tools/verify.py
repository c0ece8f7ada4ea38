"""Verifying an installation: this engine's values beside those that were published for the real models.

`CHECKS` is the table; a row is one fact of reference.json, what it needs, how this engine's value is made
(`measures`) and how the two are compared for each precision of weights (`compare`). Nothing here expects anything:
all expectations are data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from fnmatch import fnmatchcase
from typing import Any

from eardrop.errors import EardropError
from eardrop.gguf import GgufTensor
from eardrop.tools import measures
from eardrop.tools.compare import (
    Compare,
    Comparison,
    NotComparable,
    absolute,
    contains,
    equal,
    likeliest,
    norms,
    relative,
    text,
    tokens,
    within,
    words,
)
from eardrop.tools.published import ANY, Fact, Reference
from eardrop.tools.subject import Precision, Subject


@dataclass(frozen=True)
class Needed:
    """What must be at hand, and in what the model must be the published one (ids of facts)."""

    about: str
    files: tuple[str, ...] = ()
    clip: bool = False
    hashing: bool = False
    like: tuple[str, ...] = ()


_WIDTHS, _EARS, _WORDS = "shape.decoder", "shape.encoder", "tokenizer.vocabulary_size"


class Need(Enum):
    """What a check needs."""

    NOTHING = Needed("nothing")
    TEXT = Needed("the text model's metadata", ("text",))
    PROJECTOR = Needed("the projector's metadata", ("projector",))
    PAIR = Needed("both files' metadata", ("text", "projector"))
    DIGESTS = Needed("both files, read whole", ("text", "projector"), hashing=True)
    VOCABULARY = Needed("the tokenizer", ("text",), like=(_WORDS,))
    CLIP = Needed("a clip", clip=True)
    PROMPT = Needed("the tokenizer and a clip", ("text",), clip=True, like=(_WORDS,))
    LAYER = Needed("one layer", ("text",), like=(_WIDTHS,))
    ENCODER = Needed("the projector's weights and a clip", ("projector",), clip=True, like=(_EARS,))
    ALL = Needed("all weights and a clip", ("text", "projector"), clip=True, like=(_WIDTHS, _EARS, _WORDS))


@dataclass(frozen=True)
class Check:
    """One row of the table. A precision that `compare` leaves out can't be compared."""

    id: str  # the fact's
    need: Need
    measure: Callable[[Subject, Fact], Any]
    compare: Mapping[Precision, Compare]


class Verdict(StrEnum):
    """What came of a check."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_RUN = "not run"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Row:
    """A check and what came of it; `why` explains every verdict but a plain pass."""

    fact: Fact
    verdict: Verdict
    why: str = ""
    comparison: Comparison | None = None


def _always(compare: Compare) -> Mapping[Precision, Compare]:
    return dict.fromkeys(Precision, compare)


def _floats(float32: Compare, half: Compare) -> Mapping[Precision, Compare]:
    """Of quantised weights nothing but words can be compared."""
    return {Precision.FLOAT32: float32, Precision.HALF: half}


# The published rows were computed in float32 from the bfloat16 checkpoint. Another order of sums moves a value by
# 1e-4 behind one layer and 1e-3 behind the encoder; 2,048 such differences of either sign move a sum by 5e-3. With
# 16-bit weights the sources measured row norms off by 0.4 %, and log-probabilities by 0.06.
_ONE_LAYER, _ENCODER, _SUM, _HALF_NORM = 1e-4, 1e-3, 5e-3, 1e-2
_LOGPROB = {Precision.FLOAT32: 0.01, Precision.HALF: 0.1}
_PRINTED = 1e-5  # of norms and numbers that were printed with six digits

_ROWS = _floats(
    within(rows=absolute(_ONE_LAYER), row_l2=relative(_ONE_LAYER), row_sum=absolute(_SUM)),
    within(rows=norms(_HALF_NORM), row_l2=relative(_HALF_NORM)),
)
_CONV_STEP = _floats(
    within(output=absolute(_ONE_LAYER), window=absolute(_ONE_LAYER), window_l2=relative(_ONE_LAYER)),
    within(output=norms(_HALF_NORM), window_l2=relative(_HALF_NORM)),
)
_ATTENTION_STEP = _floats(
    within(
        output=absolute(_ONE_LAYER),
        keys_l2=relative(_ONE_LAYER),
        values_l2=relative(_ONE_LAYER),
        first_key=absolute(_ONE_LAYER),
        last_key=absolute(_ONE_LAYER),
        last_value=absolute(_ONE_LAYER),
    ),
    within(output=norms(_HALF_NORM), keys_l2=relative(_HALF_NORM), values_l2=relative(_HALF_NORM)),
)
_SHIPPED = _always(
    within(
        **dict.fromkeys(("backbone.layer0_conv", "backbone.layer2_attention", "question.adapter80"), relative(_PRINTED))
    )
)
_NORMS = _floats(within(relative(_ENCODER)), within(relative(_HALF_NORM)))
_ENCODED = _floats(within(absolute(_ENCODER)), within(norms(_HALF_NORM)))
_BIAS = _always(within(mean=absolute(5e-5), largest=absolute(5e-4)))  # half of the last printed digit
# Two candidates closer than twice what a log-probability may be off can change places.
_TOKENS = _floats(tokens(2 * _LOGPROB[Precision.FLOAT32]), tokens(2 * _LOGPROB[Precision.HALF]))
_TOKENS_OF_HALF = _floats(tokens(2 * _LOGPROB[Precision.HALF]), tokens(2 * _LOGPROB[Precision.HALF]))  # bf16, published
_LIKELIEST = _floats(likeliest(_LOGPROB[Precision.FLOAT32]), likeliest(_LOGPROB[Precision.HALF]))
_TEXT = {Precision.FLOAT32: text, Precision.HALF: text, Precision.BLOCKS: words}
_SAME, _WORDS_ALONE = _always(equal), _always(words)

CHECKS = (
    Check("reference.arrays", Need.NOTHING, measures.shipped_norms, _SHIPPED),
    Check("shape.decoder", Need.TEXT, measures.decoder_shape, _SAME),
    Check("shape.encoder", Need.PROJECTOR, measures.encoder_shape, _SAME),
    Check("gguf.layer_parameters", Need.TEXT, measures.layer_parameters, _SAME),
    Check("gguf.projector_tensors", Need.PROJECTOR, measures.projector_tensors, _SAME),
    Check("gguf.bytes", Need.PAIR, measures.file_sizes, _SAME),
    Check("gguf.sha256", Need.DIGESTS, measures.file_digests, _SAME),
    Check("tokenizer.vocabulary_size", Need.TEXT, measures.vocabulary_size, _SAME),
    Check("tokenizer.merges", Need.TEXT, measures.merges, _SAME),
    Check("tokenizer.bos", Need.TEXT, measures.bos, _SAME),
    Check("tokenizer.eos", Need.TEXT, measures.eos, _SAME),
    Check("tokenizer.end_of_generation_ids", Need.TEXT, measures.vocabulary_ends, _SAME),
    Check("tokenizer.special_ids", Need.TEXT, measures.written_tokens, _SAME),
    Check("tokenizer.reserved_ids", Need.TEXT, measures.written_tokens, _SAME),
    Check("tokenizer.special_token_count", Need.TEXT, measures.special_tokens, _SAME),
    Check("tokenizer.encode_cases", Need.VOCABULARY, measures.encodings, _SAME),
    Check("tokenizer.decode_cases", Need.VOCABULARY, measures.decodings, _SAME),
    Check("asr.prompt_prefix", Need.VOCABULARY, measures.prompt_prefix, _SAME),
    Check("asr.prompt_prefix_ja", Need.VOCABULARY, measures.prompt_prefix, _SAME),
    Check("asr.prompt_suffix", Need.VOCABULARY, measures.prompt_suffix, _SAME),
    Check("asr.stop_ids", Need.VOCABULARY, measures.transcript_ends, _always(contains)),
    Check("ls6930.mel_frames", Need.CLIP, measures.mel_frames, _SAME),
    Check("ls6930.mel_points", Need.CLIP, measures.mel_points, _always(within(absolute(1e-4)))),
    Check("ls6930.prompt_length", Need.PROMPT, measures.prompt_length, _SAME),
    Check("backbone.layer0_conv", Need.LAYER, measures.layer_rows, _ROWS),
    Check("backbone.layer2_attention", Need.LAYER, measures.layer_rows, _ROWS),
    Check("backbone.layer0_conv_decode", Need.LAYER, measures.conv_step, _CONV_STEP),
    Check("backbone.layer2_attention_decode", Need.LAYER, measures.attention_step, _ATTENTION_STEP),
    Check("adapter.first_bias", Need.PROJECTOR, measures.first_bias, _BIAS),
    Check("ls6930.adapter_rows", Need.ENCODER, measures.adapter_norms, _NORMS),
    Check("question.adapter80", Need.ENCODER, measures.adapter_head, _ENCODED),
    Check("ls652.encoder_first5", Need.ENCODER, measures.adapter_first, _ENCODED),
    Check("ls6930.first_step_top5", Need.ALL, measures.first_logits, _LIKELIEST),
    Check("ls6930.greedy_tokens", Need.ALL, measures.spoken, _TOKENS),
    Check("asr_wav.tokens", Need.ALL, measures.spoken, _TOKENS_OF_HALF),
    Check("ls6930.transcript", Need.ALL, measures.transcript, _TEXT),
    Check("ls7902.transcript", Need.ALL, measures.transcript, _TEXT),
    Check("asr_wav.readme", Need.ALL, measures.transcript, _TEXT),
    Check("asr_wav.q4", Need.ALL, measures.transcript, _WORDS_ALONE),
    Check("question.q4", Need.ALL, measures.transcript, _TEXT),
    Check("question.onnx_fp32", Need.ALL, measures.transcript, _TEXT),
    Check("librispeech_dummy.0", Need.ALL, measures.transcript, _TEXT),
    Check("jfk.crispasr", Need.ALL, measures.transcript, _WORDS_ALONE),
)


@dataclass(frozen=True)
class Report:
    """All rows, and which model it is taken for."""

    rows: tuple[Row, ...]
    family: str | None
    told: bool  # by names or by the caller; else `family` is the one whose values fit, if any

    def count(self, verdict: Verdict) -> int:
        """How many rows came out so."""
        return sum(row.verdict is verdict for row in self.rows)

    @property
    def failed(self) -> bool:
        """Whether anything differs that may not."""
        return self.count(Verdict.FAIL) > 0


def verify(
    subject: Subject,
    reference: Reference,
    *,
    checks: Sequence[Check] = CHECKS,
    only: Sequence[str] = (),
    missing: Mapping[str, str] | None = None,
    told: Callable[[str, float], None] = lambda id_, share: None,
) -> Report:
    """Run what can be run.

    only     patterns of ids, as "ls6930.*"; none means all
    missing  why a clip isn't there, by its id, where there is a better reason than that nobody gave it
    told     the id of each check before it runs, and the share that is done
    """
    wanted = [check for check in checks if not only or any(fnmatchcase(check.id, pattern) for pattern in only)]
    rows = []
    for index, check in enumerate(wanted):
        told(check.id, index / len(wanted))
        rows.append(_row(check, subject, reference, missing or {}))
    return _settled(rows, subject.family)


def _row(check: Check, subject: Subject, reference: Reference, missing: Mapping[str, str]) -> Row:
    fact = reference.facts[check.id]
    if fact.model not in (ANY, subject.family or fact.model):
        name = reference.models[fact.model]["name"]
        return Row(fact, Verdict.NOT_COMPARABLE, f"a value of {name}, and this is {subject.family}")
    absent = _absent(check.need.value, fact, subject, missing)
    if absent:
        return Row(fact, Verdict.NOT_RUN, absent)
    try:
        _require_alike(check, subject, reference)
        comparison = _comparer(check, fact, subject)(check.measure(subject, fact), fact)
    except NotComparable as reason:
        return Row(fact, Verdict.NOT_COMPARABLE, str(reason))
    except EardropError as error:
        return Row(fact, Verdict.FAIL, str(error))
    except Exception as error:  # a bug, or a machine's end: the other checks still say something
        return Row(fact, Verdict.FAIL, f"{type(error).__name__}: {error}")
    if comparison.passed:
        return Row(fact, Verdict.PASS, comparison.note, comparison)
    if fact.doubt:
        why = f"it differs, but the published value is doubtful itself: {fact.doubt}"
        return Row(fact, Verdict.NOT_COMPARABLE, why, comparison)
    return Row(fact, Verdict.FAIL, comparison.note, comparison)


_FLAGS = {"text": "-m", "projector": "--mmproj"}


def _absent(need: Needed, fact: Fact, subject: Subject, missing: Mapping[str, str]) -> str:
    """What is missing for a check; empty where nothing is."""
    wanted = [f"needs the {name} file ({_FLAGS[name]})" for name in need.files if subject.files[name] is None]
    if need.clip and fact.clip not in subject.clips:
        wanted.append(missing.get(str(fact.clip), f"needs the clip {fact.clip} (--audio or --fetch)"))
    if need.hashing and not wanted and not subject.hashing:
        wanted.append("needs leave to read the files whole (--hash)")
    return ", ".join(wanted)


def _require_alike(check: Check, subject: Subject, reference: Reference) -> None:
    """Raise NotComparable where the model has another shape or vocabulary than the published one."""
    measure = {other.id: other.measure for other in CHECKS}
    for like in check.need.value.like:
        expected = reference.facts[like]
        mine, theirs = (_fields(x, expected) for x in (measure[like](subject, expected), expected.value))
        for name, value in theirs.items():
            if mine[name] != value:
                raise NotComparable(f"{name}: this model has {mine[name]}, the published one {value}")


def _fields(value: Any, fact: Fact) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {fact.what: value}


# The tensors whose formats decide what can be compared.
_NETWORK: Mapping[Need, Callable[[Subject, Fact], list[GgufTensor]]] = {
    Need.LAYER: lambda subject, fact: _under(subject, "text", f"blk.{fact.inputs['layer']}."),
    Need.ENCODER: lambda subject, fact: _under(subject, "projector", "a.blk.", "a.pre_encode.", "mm.a."),
    Need.ALL: lambda subject, fact: [
        *_under(subject, "text", "blk.", "token_embd.", "output."),
        *_under(subject, "projector", "a.blk.", "a.pre_encode.", "mm.a."),
    ],
}


def _under(subject: Subject, file: str, *prefixes: str) -> list[GgufTensor]:
    found = subject.files[file]
    return [tensor for tensor in found.tensors.values() if tensor.name.startswith(prefixes)] if found else []


def _comparer(check: Check, fact: Fact, subject: Subject) -> Compare:
    """How this check compares with these weights."""
    if check.id in ("gguf.bytes", "gguf.sha256"):
        _require_published_names(subject, fact)
    network = _NETWORK.get(check.need)
    precision = subject.precision(network(subject, fact)) if network else Precision.FLOAT32
    if precision not in check.compare:
        raise NotComparable(f"of {precision.value} weights, words alone can be compared")
    return check.compare[precision]


def _require_published_names(subject: Subject, fact: Fact) -> None:
    names = {file.path.name for file in subject.files.values() if file}
    if names != set(fact.value):
        raise NotComparable(f"published are {' and '.join(fact.value)}, these are {' and '.join(sorted(names))}")


def _settled(rows: Sequence[Row], family: str | None) -> Report:
    """Where the model couldn't be told: it is the one whose values fit, and the others' say nothing."""
    if family is not None:
        return Report(tuple(rows), family, told=True)
    verdicts = {
        model: {row.verdict for row in rows if row.fact.model == model} for model in {row.fact.model for row in rows}
    }
    fitting = [
        model for model, seen in verdicts.items() if model != ANY and Verdict.PASS in seen and Verdict.FAIL not in seen
    ]
    if len(fitting) != 1:
        return Report(tuple(rows), None, told=False)
    (fits,) = fitting
    why = f"it differs, and the values of {fits} fit: this is another model"
    foreign = (ANY, fits)
    settled = (
        row if row.verdict is not Verdict.FAIL or row.fact.model in foreign
        else replace(row, verdict=Verdict.NOT_COMPARABLE, why=why)
        for row in rows
    )  # fmt: skip
    return Report(tuple(settled), fits, told=False)
