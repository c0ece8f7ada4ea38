"""Many recordings at a time: a thread for each that waits for its windows, while the engine decodes them together."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from eardrop.audio import Source
from eardrop.errors import EardropError
from eardrop.transcribe.channels import Channels
from eardrop.transcribe.transcription import Transcription
from eardrop.transcript import Result

Outcome: TypeAlias = Result | EardropError
DONE = 4  # times as many as are under way may be finished and wait for a slow one before them


def many(
    sources: Iterable[tuple[int, Source]], most: int, start: Callable[[int, Source], Transcription | Channels]
) -> Iterator[Outcome]:
    """The result of each numbered source, or its error, in their order; at most `most` are under way."""
    going, over = set[Transcription | Channels](), threading.Event()

    def outcome(number: int, source: Source) -> Outcome:
        try:
            transcription = start(number, source)
            going.add(transcription)
            try:
                if over.is_set():  # nobody who looked through `going` has seen it
                    transcription.cancel()
                return transcription.result()
            finally:
                going.discard(transcription)
        except EardropError as error:
            return error

    with ThreadPoolExecutor(most, thread_name_prefix="eardrop-recording") as pool:
        waiting: deque[Future[Outcome]] = deque()
        try:
            for number, source in sources:
                waiting.append(pool.submit(outcome, number, source))
                if len(waiting) == DONE * most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            over.set()
            for future in waiting:
                future.cancel()
            for transcription in tuple(going):
                transcription.cancel()
