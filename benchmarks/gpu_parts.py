"""What `benchmarks.gpu` checks and measures, part by part: each a generator of lines, on a course that they share."""

import datetime
import importlib.util
import platform
import statistics
import sys
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Sizes:
    """What is computed, at full size or so small that the interpreter gets through."""

    pairs: dict[str, str]  # what a model is for: its pair
    golden_pairs: int  # most of them
    random_shapes: int  # of each operation
    clip_seconds: float
    clips: int  # together through the encoder
    prompt: int
    tokens: int  # of each stream
    streams: tuple[int, ...]
    rows: tuple[int, ...]  # lengths of sequences that are convolved
    channels: int
    recordings: int
    recording_tokens: int
    growth: int  # batches
    copied: int  # bytes, for the memory's bandwidth
    product: int  # rows and columns, for the peak of products


FULL = Sizes(
    pairs={"BF16": "BF16", "Q4_0": "Q4_0"}, golden_pairs=99, random_shapes=40, clip_seconds=30, clips=64, prompt=512,
    tokens=128, streams=(1, 8, 64, 256), rows=(375,) * 64, channels=512, recordings=256, recording_tokens=100,
    growth=500, copied=4 << 30, product=8192,
)  # fmt: skip
TINY = Sizes(
    pairs={"BF16": "micro", "Q4_0": "micro-q8_0"}, golden_pairs=1, random_shapes=1, clip_seconds=0.1, clips=2, prompt=5,
    tokens=2, streams=(1, 2), rows=(5, 3), channels=64, recordings=2, recording_tokens=2,
    growth=2, copied=1 << 20, product=64,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One result. A check has neither value nor limit, only whether it holds."""

    name: str
    value: float | None = None
    unit: str = ""
    share: float | None = None  # of the roofline that the part names
    limit: float | None = None  # of the share where there is one, else of the value; at least, or for seconds at most
    ok: bool = True
    note: str = ""


def limited(line: Line) -> Line:
    """The line, held against its limit."""
    found = line.value if line.share is None else line.share
    if line.limit is None or found is None:
        return line
    return replace(line, ok=found <= line.limit if line.unit == "s" else found >= line.limit)


@dataclass
class Course:
    """What the parts share: the GPU, the sizes, models made once, ceilings measured first."""

    sizes: Sizes
    golden: Path | None
    folder: Path
    ceilings: dict[str, float] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def backend(self) -> Any:
        """The one backend of all parts."""
        from eardrop.backends import choose

        return choose("cuda")

    def model(self, kind: str) -> Any:
        """The model of this weight type, made and loaded once."""
        if kind not in self.models:
            self.models[kind] = self._loaded(kind)
        return self.models[kind]

    def _loaded(self, kind: str) -> Any:
        from eardrop.bench.pairs import PAIRS, full, write_pair
        from eardrop.loading import load_model

        name = self.sizes.pairs[kind]
        text, projector = write_pair(name if name in PAIRS else full(name), self.folder)
        return load_model(text, projector, self.backend)

    def clip(self, seconds: float, seed: int = 0) -> np.ndarray:
        """Noise in bursts, as speech is."""
        rng, n = np.random.default_rng(seed), round(seconds * SAMPLE_RATE)
        bursts = np.repeat(rng.uniform(0.02, 0.3, n // 1600 + 1), 1600)[:n]
        return (rng.standard_normal(n) * bursts).astype(np.float32)

    def seconds(self, call: Callable[[], Any], runs: int = 5) -> float:
        """The median of some calls, behind one that isn't counted; the device is waited for."""
        runs = runs if self.sizes == FULL else 1
        return statistics.median([self._once(call) for _ in range(runs + 1)][1:])

    def _once(self, call: Callable[[], Any]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def beside(self, ceiling: str, rate: float, line: Line) -> Line:
        """The line with its share of a ceiling; that one not being known, the line without a limit."""
        most = self.ceilings.get(ceiling)
        if most is None:
            return replace(line, limit=None, note="no ceiling was measured")
        return replace(line, share=rate / most)

    def wait(self) -> None:
        """Until the device has done all."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


def machine(c: Course) -> Iterator[Line]:
    """What is measured on, and when."""
    import torch
    import triton

    gpu = "no GPU: Triton's interpreter"
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        gpu = f"{facts.name}, {facts.total_memory >> 30} GiB, {facts.multi_processor_count} multiprocessors"
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, Python {platform.python_version()}"
    yield Line(f"{gpu}; {versions}; {datetime.date.today()}")


def ceilings(c: Course) -> Iterator[Line]:
    """What the GPU can do at most: bytes copied, counting both ways, and products of halves on random data."""
    from eardrop.backends.cuda import measure

    c.ceilings["bytes"] = statistics.median(measure.bandwidth(c.backend.device, c.sizes.copied))
    c.ceilings["flops"] = statistics.median(measure.product_peak(c.backend.device, c.sizes.product))
    yield Line("copy", c.ceilings["bytes"] / 1e9, "GB/s")
    yield Line("product of halves", c.ceilings["flops"] / 1e12, "TFLOP/s")


def checks(c: Course) -> Iterator[Line]:
    """Every operation's own cases, then random shapes."""
    from benchmarks.gpu_shapes import drawn, wrong
    from eardrop.ops import OPS

    for op in OPS.values():
        own = list(op.cases(np.random.default_rng(1)))
        small = [case for case in own if c.sizes == FULL or _values(case) < 3000]
        cases = [*small, *(drawn(op, 1, number) for number in range(c.sizes.random_shapes))]
        said = [f"{case.label}: {found}" for case in cases if (found := wrong(c.backend, op, case))]
        note = "no kernel, the reference runs; " if op.name in c.backend.lacking else ""
        yield Line(f"{op.name}, {len(cases)} cases", ok=not said, note=note + (said[0] if said else ""))


def _values(case: Any) -> int:
    return max((x.size for x in case.arguments.values() if isinstance(x, np.ndarray)), default=0)


def goldens(c: Course) -> Iterator[Line]:
    """llama.cpp's records: the recorded pairs, by the records' own check.py, in WAV."""
    from eardrop.bench.pairs import PAIRS, write_pair
    from eardrop.loading import load_model

    if c.golden is None:
        yield Line("recorded results", note="left out: no --golden FOLDER")
        return
    check = _imported(c.golden / "check.py")
    for name in list(PAIRS)[: c.sizes.golden_pairs]:
        model = load_model(*write_pair(name, c.folder), c.backend)
        records = [p for p in sorted((c.golden / "expected" / name).glob("*.npz")) if _heard(c.golden, p.stem)]
        records = records if c.sizes == FULL else [p for p in records if p.stem == "ms100"]
        said = [f"{path.stem}: {report}" for path in records if not (report := _compared(c, check, model, path)).ok]
        yield Line(f"{name}, {len(records)} clips", ok=not said, note=said[0].replace("\n", "; ") if said else "")


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def _heard(golden: Path, clip: str) -> bool:
    """Whether it is a WAV that needs no library: 16 kHz, 16 bits, one channel."""
    path = golden / "clips" / f"{clip}.wav"
    if not path.exists():
        return False
    try:
        with wave.open(str(path)) as file:
            return (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (SAMPLE_RATE, 2, 1)
    except wave.Error:
        return False


def _compared(c: Course, check: Any, model: Any, path: Path) -> Any:
    from eardrop.audio import read
    from eardrop.model.conformer import encode

    gold = check.load(path.parent.name, path.stem, c.golden)
    mel = _frames(model.backend, read(c.golden / "clips" / f"{path.stem}.wav"))  # type: ignore[operator]
    rows, _ = encode(model.encoder, [mel], model.backend)
    logits = _forced(model, rows, gold, len(gold["greedy"]))
    return check.compare(gold, mel=model.backend.download(mel).T, embd=model.backend.download(rows), logits=logits)


def _frames(ops: Any, samples: np.ndarray) -> Any:
    """Log-mel frames of a clip, made there."""
    from eardrop.audio import LFM2
    from eardrop.ops import ragged

    return ops.log_mel(ops.upload(samples), ragged(len(samples)), LFM2)


def _forced(model: Any, rows: Any, gold: Any, steps: int) -> np.ndarray:
    """Logits after the prompt and after each of the recorded tokens."""
    from eardrop.model import decoder
    from eardrop.model.state import Streams

    ops, w = model.backend, model.decoder
    streams = Streams(w.shape, ops, slots=1, rows=len(rows) + 64 + steps, kv="float32")
    slot = streams.join()
    inputs = decoder.embed(w, [gold["tokens_before"], rows, gold["tokens_after"]], ops)
    found = [ops.download(decoder.prefill(w, [inputs], streams, [slot], ops))[0]]
    step = decoder.Step(w, streams, 1, ops)
    for token in gold["greedy"][: steps - 1]:
        found.append(np.array(ops.download(step([int(token)], [slot])[0])[0]))
    return np.array(found)


def alike(c: Course) -> Iterator[Line]:
    """Clips encoded together are those encoded alone, streams decoded together too."""
    from eardrop.model.conformer import encode
    from eardrop.ops import spans

    model = c.model("BF16")
    lengths = (0.3, c.sizes.clip_seconds / 3, 0.1)
    mels = [_frames(c.backend, c.clip(seconds, seed)) for seed, seconds in enumerate(lengths)]
    together, offsets = encode(model.encoder, mels, model.backend)
    for mel, rows in zip(mels, spans(offsets), strict=True):
        alone = model.backend.download(encode(model.encoder, [mel], model.backend)[0])
        apart = float(np.abs(alone - model.backend.download(together[rows])).max() / np.abs(alone).max())
        yield Line(f"{len(mel)} frames among others", apart, "of the largest", ok=apart < 2**-6)
    texts = [_said(model, c, seed) for seed in range(3)]
    same = [a == b for a, b in zip(texts, _said_together(model, c, 3), strict=True)]
    yield Line("three streams' tokens", ok=all(same), note="" if all(same) else "a tie may be rounded either way")


def _said(model: Any, c: Course, seed: int) -> list[int]:
    return _decoded(model, [_prompt(c, seed)], c.sizes.tokens)[0]


def _said_together(model: Any, c: Course, count: int) -> list[list[int]]:
    return _decoded(model, [_prompt(c, seed) for seed in range(count)], c.sizes.tokens)


def _prompt(c: Course, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, c.sizes.prompt, np.int32)


def _decoded(model: Any, prompts: Sequence[np.ndarray], tokens: int) -> list[list[int]]:
    """The likeliest tokens behind each prompt, all streams in one step."""
    from eardrop.model import decoder
    from eardrop.model.state import Streams

    ops, w = model.backend, model.decoder
    streams = Streams(w.shape, ops, slots=len(prompts), rows=len(prompts[0]) + tokens)
    slots = [streams.join() for _ in prompts]
    inputs = [decoder.embed(w, [ids], ops) for ids in prompts]
    ids = ops.download(ops.pick(decoder.prefill(w, inputs, streams, slots, ops))[0]).tolist()
    step, said = decoder.Step(w, streams, len(prompts), ops), [ids]
    for _ in range(tokens - 1):
        said.append(ops.download(step(said[-1], slots)[1][0]).tolist())
    return [list(text) for text in zip(*said, strict=True)]


def short_conv(c: Course) -> Iterator[Line]:
    """The short convolution at the encoder's and the decoder's shapes; share: of copying as many bytes."""
    from eardrop.ops import ragged

    offsets, b = ragged(*c.sizes.rows), c.backend
    n, width, rng = int(offsets[-1]), c.sizes.channels, np.random.default_rng(1)
    for taps, gates, causal in ((9, 1, False), (3, 1, False), (3, 3, True), (4, 1, True), (9, 1, True)):
        given = {
            "x": b.upload(rng.standard_normal((n, gates * width), dtype=np.float32)),
            "taps": b.upload(rng.standard_normal((taps, width), dtype=np.float32)),
            "offsets": offsets,
            "activation": None if gates == 3 else "silu",
        }
        if causal:
            given["state"] = b.zeros((len(c.sizes.rows), taps - 1, width), np.float32)
            given["slots"] = b.upload(np.arange(len(c.sizes.rows), dtype=np.int32))
        took = c.seconds(lambda given=given: b.short_conv(**given), runs=30)  # type: ignore[misc]
        moved = 4.0 * n * width * (gates + 1 + (gates == 3))
        what = f"{taps} taps, {'causal' if causal else 'centred'}{', gated' if gates == 3 else ''}, {n} × {width}"
        yield c.beside("bytes", moved / took, Line(what, moved / took / 1e9, "GB/s", limit=0.9))


def decode(c: Course) -> Iterator[Line]:
    """Steps of one stream and of many; share: of reading every weight once a step."""
    from eardrop.bench.review import weight_bytes
    from eardrop.bench.warm import Warm

    for kind, least in (("BF16", 0.5), ("Q4_0", 0.35)):
        model = c.model(kind)
        for streams in c.sizes.streams:
            warm = Warm(model)
            warm.decode(2, streams=streams)
            took = warm.decode(c.sizes.tokens, prompt=c.sizes.prompt, streams=streams) / c.sizes.tokens
            rate = streams / took
            line = Line(f"{kind}, {streams} streams", rate, "tokens/s", limit=least if streams == 1 else None)
            yield c.beside("bytes", weight_bytes(model) / took, line)
            if streams == 64:
                yield Line(f"{kind}, 64 streams, wanted", rate, "tokens/s", limit=20_000)


def many_rows(c: Course) -> Iterator[Line]:
    """Prefill and encoder of many clips; share: of the measured peak of products, by the operations' own cost."""
    from eardrop.model import decoder
    from eardrop.model.conformer import encode
    from eardrop.model.state import Streams

    model, count = c.model("BF16"), c.sizes.clips
    prompts = [_prompt(c, seed) for seed in range(count)]
    streams = Streams(model.decoder.shape, model.backend, slots=count, rows=c.sizes.prompt + 1)
    slots = [streams.join() for _ in prompts]

    def absorb(ops: Any) -> None:
        streams.position[:] = 0
        decoder.prefill(model.decoder, [decoder.embed(model.decoder, [p], ops) for p in prompts], streams, slots, ops)

    mels = [_frames(c.backend, c.clip(c.sizes.clip_seconds, seed)) for seed in range(count)]
    parts: tuple[tuple[str, float, Callable[[Any], Any]], ...] = (
        (f"prefill, {count} × {c.sizes.prompt} rows", 0.35, absorb),
        (f"encoder, {count} × {c.sizes.clip_seconds:g} s", 0.2, lambda ops: encode(model.encoder, mels, ops)),
    )
    for name, least, call in parts:
        flops = _flops(c, call)
        took = c.seconds(lambda call=call: call(c.backend), runs=3)  # type: ignore[misc]
        yield c.beside("flops", flops / took, Line(name, flops / took / 1e12, "TFLOP/s", limit=least))


def _flops(c: Course, call: Callable[[Any], Any]) -> float:
    """Of the products of one call."""
    from eardrop.backends import observed

    total = 0.0

    def around(op: Any, compute: Callable[..., Any], given: dict[str, Any]) -> Any:
        nonlocal total
        if op.name == "linear":
            total += 2.0 * len(given["x"]) * given["w"].shape[0] * given["w"].shape[1]
        elif op.name in ("attention", "rel_attention"):
            pairs = float(np.square(np.diff(given["offsets"]).astype(np.float64)).sum())
            total += (6.0 if op.name == "rel_attention" else 2.0) * pairs * given["q"].shape[1] * given["q"].shape[2]
        return compute(**given)

    call(observed(c.backend, around))
    return total


def whole(c: Course) -> Iterator[Line]:
    """From samples to text: a first token alone, then a folder of recordings, read while others are decoded."""
    from eardrop.audio import read
    from eardrop.bench.recordings import write_wav
    from eardrop.dialect import REFERENCE
    from eardrop.engine import Engine, Request
    from eardrop.text import MEDIA, prompt

    model, seconds = c.model("BF16"), c.sizes.clip_seconds
    asked = prompt(model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=REFERENCE)
    paths = [
        write_wav(c.folder / f"clip-{i}.wav", (c.clip(seconds, i) * 32767).astype(np.int16))
        for i in range(c.sizes.recordings)
    ]
    with Engine(model, streams=min(max(c.sizes.streams), len(paths))) as engine:

        def answer(samples: np.ndarray, tokens: int) -> Any:
            return engine.submit(Request(asked, audio=[samples], limit=tokens, stop=frozenset()))

        clip = c.clip(min(4.9, seconds))
        first = c.seconds(lambda: next(answer(clip, 1)), runs=9)
        yield Line(f"first token of {min(4.9, seconds):g} s", first, "s", limit=0.06)
        for _ in answer(clip, c.sizes.recording_tokens):
            pass
        started = time.perf_counter()
        for handle in [answer(read(path), c.sizes.recording_tokens) for path in paths]:
            for _ in handle:
                pass
        speed = seconds * len(paths) / (time.perf_counter() - started)
    what = f"{len(paths)} recordings of {seconds:g} s, {c.sizes.recording_tokens} tokens each"
    yield Line(what, speed, "× real time", limit=2000)


def growth(c: Course) -> Iterator[Line]:
    """Memory of the GPU after many batches, less what it was after a few: the small pair, from samples to tokens."""
    import torch

    from eardrop.bench.pairs import write_pair
    from eardrop.dialect import REFERENCE
    from eardrop.engine import Engine, Request
    from eardrop.loading import load_model
    from eardrop.text import MEDIA, prompt

    model = load_model(*write_pair("micro", c.folder), c.backend)
    asked = prompt(model.tokenizer, system="Perform ASR.", user=[MEDIA], dialect=REFERENCE)
    held, cuda, together = [], torch.cuda.is_available(), min(4, max(c.sizes.streams))
    longest = min(0.7, c.sizes.clip_seconds)
    with Engine(model, streams=together) as engine:
        for batch in range(c.sizes.growth):
            seconds = [0.1 + (longest - 0.1) * ((batch + i) % 7) / 6 for i in range(together)]
            clips = [c.clip(each, batch + i) for i, each in enumerate(seconds)]
            for handle in [engine.submit(Request(asked, audio=[clip], limit=3)) for clip in clips]:
                for _ in handle:
                    pass
            held.append(torch.cuda.memory_reserved() if cuda else 0)
    grown = held[-1] - held[len(held) // 5]
    yield Line(f"{len(held)} batches, behind the first fifth", grown / 1e6, "MB", ok=grown <= 0)


def launches(c: Course) -> Iterator[Line]:
    """Kernels that one step of one stream launches; replayed they are one graph."""
    from eardrop.bench.gpu import launches

    counted = launches(c.model("BF16"))
    yield Line("kernels a token", counted, note="" if counted is not None else "not counted without a GPU")


PARTS: dict[str, Callable[[Course], Iterator[Line]]] = {
    part.__name__: part
    for part in (machine, ceilings, short_conv, decode, many_rows, whole, launches, checks, alike, goldens, growth)
}
