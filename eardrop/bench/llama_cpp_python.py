"""One transcription by llama-cpp-python, in a process of the Python that has it: nothing of eardrop is imported here.

    python llama_cpp_python.py -m TEXT --mmproj PROJECTOR --audio FILE -sys TEXT -p TEXT --temp 0 -n N -t N -c N

The flags are llama-mtmd-cli's, and so are the prompt's tokens. The text goes to standard output, and what each stage
took, in seconds, to standard error as one line of JSON. Text model, sampling and steps are those of its class `Llama`,
as its users write it. The recording goes through its bindings of libmtmd: its chat handlers refuse a projector that has
no eyes.
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from llama_cpp import Llama, llama_cpp, mtmd_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter


def main() -> None:
    """Transcribe, and say how long it took."""
    wishes = _parser().parse_args()
    model = Llama(
        wishes.model, n_ctx=wishes.context, n_threads=wishes.threads, n_threads_batch=wishes.threads, verbose=False
    )
    spent = {"encoder": 0.0, "prefill": 0.0}
    _absorb(model, _projector(model, wishes), wishes, spent)
    started = time.perf_counter()
    first = model.sample(temp=wishes.temperature)
    spent["prefill"] += time.perf_counter() - started
    started = time.perf_counter()
    said = [*_answer(model, first, wishes)]
    seconds, steps = time.perf_counter() - started, len(said) - 1
    sys.stdout.buffer.write(model.detokenize(said, special=True) + b"\n")
    told = {**spent, "decode": steps / seconds if steps > 0 else None, "tokens": len(said)}
    sys.stderr.write(json.dumps(told) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="model")
    parser.add_argument("--mmproj")
    parser.add_argument("--audio")
    parser.add_argument("-sys", dest="system")
    parser.add_argument("-p", dest="prompt")
    parser.add_argument("--temp", dest="temperature", type=float)
    parser.add_argument("-n", dest="tokens", type=int)
    parser.add_argument("-t", dest="threads", type=int)
    parser.add_argument("-c", dest="context", type=int)
    return parser


def _projector(model: Any, wishes: argparse.Namespace) -> Any:
    """libmtmd's, loaded and warmed up."""
    parameters = mtmd_cpp.mtmd_context_params_default()
    parameters.n_threads, parameters.print_timings = wishes.threads, False
    return _made(mtmd_cpp.mtmd_init_from_file(wishes.mmproj.encode(), model.model, parameters), wishes.mmproj)


def _made(found: Any, what: str) -> Any:
    """What libmtmd gave, where it gave anything."""
    if not found:
        sys.exit(f"libmtmd refuses {what}")
    return found


def _absorb(model: Any, projector: Any, wishes: argparse.Namespace, spent: dict[str, float]) -> None:
    """The prompt, part by part; the seconds are added to `spent`."""
    system, user = _turns(model, wishes)
    for text, recordings in ((system, []), (user, [wishes.audio])):
        chunks = _chunks(projector, text, recordings)
        for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
                _timed(spent, "prefill", model.eval, _tokens(chunk))
            else:
                _timed(spent, "encoder", mtmd_cpp.mtmd_encode_chunk, projector, chunk)
                _timed(spent, "prefill", _hear, model, projector, chunk)
        mtmd_cpp.mtmd_input_chunks_free(chunks)


def _turns(model: Any, wishes: argparse.Namespace) -> tuple[str, str]:
    """The system's turn and the rest, by the model's own template, but for the first token, which libmtmd adds.

    As llama-mtmd-cli has them: apart, and a newline before the user's.
    """
    start, end = (model.detokenize([token], special=True).decode() for token in (model.token_bos(), model.token_eos()))
    turns = [{"role": "system", "content": wishes.system}, {"role": "user", "content": wishes.prompt}]
    template = model.metadata["tokenizer.chat_template"]
    first, both = (
        str(Jinja2ChatFormatter(template, end, start, add_generation_prompt=whole)(messages=said).prompt)
        for said, whole in ((turns[:1], False), (turns, True))
    )
    return first.removeprefix(start), "\n" + both.removeprefix(first)


def _chunks(projector: Any, text: str, recordings: list[str]) -> Any:
    """A turn as libmtmd's parts: tokens, mel frames, tokens."""
    heard = [
        _made(mtmd_cpp.mtmd_helper_bitmap_init_from_file(projector, path.encode(), False), path) for path in recordings
    ]
    said = text.encode()
    given = mtmd_cpp.mtmd_input_text(text=said, text_len=len(said), add_special=not heard, parse_special=True)
    chunks, table = mtmd_cpp.mtmd_input_chunks_init(), (mtmd_cpp.mtmd_bitmap_p_ctypes * len(heard))(*heard)
    if mtmd_cpp.mtmd_tokenize(projector, chunks, ctypes.byref(given), table, len(heard)):
        sys.exit("libmtmd refuses the prompt")
    for recording in heard:
        mtmd_cpp.mtmd_bitmap_free(recording)
    return chunks


def _tokens(chunk: Any) -> list[int]:
    """Of a part that is text."""
    count = ctypes.c_size_t()
    tokens = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return list(tokens[: count.value])


def _timed(spent: dict[str, float], stage: str, work: Callable[..., int | None], *arguments: Any) -> None:
    """Do it; the seconds are the stage's."""
    started = time.perf_counter()
    if work(*arguments):
        sys.exit(f"{stage} failed")
    spent[stage] += time.perf_counter() - started


def _hear(model: Any, projector: Any, chunk: Any) -> int:
    """Absorb what was encoded last."""
    after = llama_cpp.llama_pos()
    failed = mtmd_cpp.mtmd_helper_decode_image_chunk(
        projector, model.ctx, chunk, mtmd_cpp.mtmd_get_output_embd(projector), llama_cpp.llama_pos(model.n_tokens),
        llama_cpp.llama_seq_id(0), model.n_batch, ctypes.byref(after),
        mtmd_cpp.mtmd_helper_post_decode_callback(), None,
    )  # fmt: skip
    model.n_tokens = after.value
    return int(failed)


def _answer(model: Any, token: int, wishes: argparse.Namespace) -> Iterator[int]:
    """Tokens until the model ends, or as many as are wished for."""
    vocabulary = llama_cpp.llama_model_get_vocab(model.model)
    for _ in range(wishes.tokens - 1):
        yield token
        if llama_cpp.llama_vocab_is_eog(vocabulary, token):
            return
        model.eval([token])
        token = model.sample(temp=wishes.temperature)
    yield token


if __name__ == "__main__":
    main()
