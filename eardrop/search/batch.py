"""The decode loop: all streams step together, and join and leave between steps.

    submit ─→ waiting ─→ prepared and prefilled ─→ going: one token each per step ─→ ended, slot free
                            └─→ a draft of the text verified, many tokens at once

Where memory ends, half as many go on together: all of them join anew, absorb what they had said, and say what follows.
There is no other loop: one stream is a batch of one. Everything here runs on the thread that calls `run`; `submit`,
`call`, `cancel` and `close` may be called from any. What is computed is `Work` for some tasks: once all of them are
cancelled it ends within a kernel; as long as one of them waits it goes on.
"""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, takewhile
from typing import Any

import numpy as np

from eardrop.errors import Cancelled, ContextFull, EngineClosed, ModelFileError
from eardrop.model.decoder import EXACT, Looks, Picks, Step, embed, prefill
from eardrop.model.state import Checkpoint, Streams
from eardrop.model.weights import Decoder
from eardrop.ops import Array, Float32
from eardrop.ops.backend import Backend
from eardrop.ops.work import Work
from eardrop.search.choice import Choice, Chooser, Logits, Mask, Search
from eardrop.search.stop import Finish, Stop
from eardrop.stages import stage

ROWS = 256  # rows of room are made in such pieces: a growing text moves the caches seldom

MOST_STEPS = 2  # captured steps that are kept: each has all that is computed on its way, 28 MB of a real model
MEET = 3  # tokens in a row that a draft and a text have in common where it is trusted
GUESSED = 4  # tokens absorbed at once where it isn't: little more work than one, and one is sure to be said


@dataclass(frozen=True, eq=False)
class Look:
    """Where a text's rows looked is wanted: told before the end of every text that wasn't cancelled.

    before, after  rows of the prompt before the audio's and after them
    tell           called on the loop's thread with (tokens said, heads of all layers, rows of the audio): row i is what
                   was looked at when token i was chosen
    """

    before: int
    after: int
    tell: Callable[[Float32], None]


@dataclass(eq=False)
class Task:
    """One text to be said. `say` and `end` are called on the loop's thread; `end` exactly once.

    A draft is what the text may begin with: its tokens are absorbed up to EXACT at a time, as far as the search says
    the same. It saves steps and changes nothing: on the exact path their logits have the bits of steps.
    """

    prompt: Any  # what `prepare` makes rows of
    search: Search
    stop: Stop
    say: Callable[[Choice], None]
    end: Callable[[Finish | BaseException], None]
    allowed: Mask | None = None
    draft: Sequence[int] = ()
    look: Look | None = None
    cancelled: bool = False


@dataclass(eq=False)
class _Going:
    """A task that has a slot, and what it said."""

    task: Task
    slot: int = field(init=False)
    chooser: Chooser = field(init=False)  # begun with the prefill: if that fails, this stream alone ends
    said: list[int] = field(default_factory=list)
    looks: Looks | None = None  # of the tokens said up to `moment`
    moment: Checkpoint | None = None
    ahead: int = 0  # places by which the draft was ahead of the text where they last went together

    def drafted(self) -> tuple[int, ...]:
        """What the draft says next, from where it ends as the text does.

        Where that is nowhere, as if one token of it were another; behind its end nothing is guessed.
        """
        said, draft, expected = self.said, self.task.draft, len(self.said) + self.ahead
        sure = min(MEET, len(said))

        def alike(place: int) -> int:
            pairs = zip(reversed(draft[max(0, place - MEET) : place]), reversed(said), strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        place = expected
        if expected >= len(draft) or alike(expected) < sure:
            near = lambda place: (alike(place), -abs(place - expected))  # noqa: E731
            place = max(range(1, len(draft)), key=near, default=expected)
        trusted = alike(place) >= sure
        if not trusted and (expected >= len(draft) or not alike(place)):
            place = expected
        self.ahead = place - len(said)
        return tuple(draft[place : place + (EXACT if trusted else GUESSED) - 1])


@dataclass(eq=False)
class _Errand:
    """A function to run between steps."""

    function: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)
    cancelled: bool = False


@dataclass(eq=False)
class Batch:
    """The loop's state. `prepare` turns the prompts of several tasks into rows, (P, D) each."""

    w: Decoder
    ops: Backend
    prepare: Callable[[Sequence[Any]], Sequence[Array]]
    slots: int = 8
    kv: str | None = None
    _inbox: "queue.SimpleQueue[Task | _Errand | None]" = field(default_factory=queue.SimpleQueue)
    _waiting: deque[Task] = field(default_factory=deque)
    _going: list[_Going] = field(default_factory=list)
    _interrupted: dict[Task, _Going] = field(default_factory=dict)  # of those that wait: what they said before
    _steps: dict[tuple[int, bool], Step] = field(default_factory=dict)
    _masked: dict[tuple[int, bool], list[_Going]] = field(default_factory=dict)
    _work: Work | None = None  # what is computed now
    _closed: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        self.streams = self._made()

    def _made(self) -> Streams:
        """State for as many streams as there are slots, or half, or a quarter: as many as memory bears."""
        while True:
            try:
                return Streams(self.w.shape, self.ops, slots=self.slots, rows=ROWS, kv=self.kv)
            except MemoryError:
                if self.slots == 1:
                    raise
            self.slots //= 2

    def submit(self, task: Task) -> None:
        """Let a task join at the next step."""
        self._put(task)

    def call(self, function: Callable[[], Any]) -> Any:
        """What a function gives that is run on the loop's thread, between steps; an exception here cancels it."""
        errand = _Errand(function)
        self._put(errand)
        try:
            return errand.future.result()
        finally:
            self.cancel(errand)

    def cancel(self, whom: Task | _Errand) -> None:
        """Nobody waits for this any more; harmless once it has ended."""
        whom.cancelled = True
        self._nudge()

    def _nudge(self) -> None:
        work = self._work
        if work is not None:  # the next one, if this is over, looks for itself when it begins
            work.nudge()

    def _put(self, message: Task | _Errand) -> None:
        self._inbox.put(message)
        if self._ended:  # between the caller's look and now
            self._turn_away()

    def close(self) -> None:
        """End the loop; whatever has not ended is told so."""
        self._closed = True
        self._nudge()
        self._inbox.put(None)  # wakes it

    def run(self) -> None:
        """The loop, until `close`. However it ends, nobody is left waiting."""
        try:
            while not self._closed:
                self._receive()
                self._drop_cancelled()
                self._admit()
                if self._going:
                    self._guarded(self._step, self._going)
        finally:
            self._ended = True
            for task in (*self._waiting, *(going.task for going in self._going)):
                task.end(_closed())
            self._turn_away()

    def _receive(self) -> None:
        """Take what has arrived; with nothing to do, wait for something."""
        idle = not self._going and not self._waiting
        while not self._closed and (idle or not self._inbox.empty()):
            message, idle = self._inbox.get(), False
            if isinstance(message, Task):
                self._waiting.append(message)
            elif message is not None:
                self._run_errand(message)

    def _run_errand(self, errand: _Errand) -> None:
        try:
            with self._working([errand]):
                result = errand.function()
        except BaseException as error:  # the caller's to handle
            errand.future.set_exception(_closed() if self._closed else error)
        else:
            errand.future.set_result(result)

    @contextmanager
    def _working(self, tasks: Sequence[Task | _Errand]) -> Iterator[None]:
        """Work for these tasks: Cancelled is raised once none of them waits any more, or the loop is closed."""
        work = Work(lambda: not (self._closed or all(task.cancelled for task in tasks)))
        outer, self._work = self._work, work
        try:
            with work:
                yield
        finally:
            self._work = outer

    def _turn_away(self) -> None:
        """Tell whoever came too late; called on any thread once the loop has ended."""
        with suppress(queue.Empty):
            while True:
                message = self._inbox.get_nowait()
                if isinstance(message, Task):
                    message.end(_closed())
                elif message is not None:
                    message.future.set_exception(_closed())

    def _drop_cancelled(self) -> None:
        for going in [going for going in self._going if going.task.cancelled]:
            self._leave(going, Finish.CANCELLED)
        for task in [task for task in self._waiting if task.cancelled]:
            self._dismiss(task, Finish.CANCELLED)

    def _dismiss(self, task: Task, how: Finish | BaseException) -> None:
        """End a task that waits."""
        self._waiting.remove(task)
        self._interrupted.pop(task, None)
        task.end(how)

    def _admit(self) -> None:
        """Give free slots to those who wait longest: encoded together, absorbed one after another."""
        slots, tasks = self.slots, list(islice(self._waiting, self.slots - len(self._going)))
        for task, rows in self._prepared(tasks):
            if task.cancelled:  # meanwhile: it is dropped before the next step
                continue
            if self.slots != slots:  # memory ended: who was interrupted comes first
                break
            self._waiting.remove(task)
            going = self._interrupted.pop(task, None) or _Going(task)
            going.slot = self.streams.join()
            self._going.append(going)
            self._guarded(partial(self._absorb, rows=rows), [going])

    def _prepared(self, tasks: Sequence[Task]) -> list[tuple[Task, Array]]:
        """Rows for each task; together if that works, else one by one, so that only the culprit fails."""
        if not tasks:
            return []
        try:
            with self._working(tasks):
                return list(zip(tasks, self.prepare([task.prompt for task in tasks]), strict=True))
        except Exception as error:  # whatever it is, the loop goes on and the caller is told
            if len(tasks) > 1:
                return [pair for task in tasks for pair in self._prepared([task])]
            self._dismiss(tasks[0], self._end_of(tasks[0], error))
            return []

    def _absorb(self, new: Sequence[_Going], rows: Array) -> None:
        """Prefill one stream and say its first token, and those of its draft; or absorb what it said before."""
        (going,) = new
        look, going.moment = going.task.look, None
        going.looks = None if look is None else Looks((look.before, len(rows) - look.after))
        self._make_room(going.slot, len(rows))
        with stage("prefill"):
            logits = prefill(self.w, [rows], self.streams, [going.slot], self.ops, looks=going.looks)
        if going.said:
            self._follow(going, going.said[:-1])
        else:
            going.chooser = going.task.search.begin()
            self._say(new, logits, self._picked(logits, going.task.allowed))
        self._verify(going)
        if going.looks is not None and going in self._going:
            going.moment = self.streams.save(going.slot)

    def _picked(self, logits: Array, allowed: Mask | None) -> Picks:
        """The likeliest tokens of several rows of one text."""
        mask = None if allowed is None else self.ops.upload(np.repeat(allowed[None], len(logits), axis=0))
        return self.ops.pick(logits, mask)

    def _verify(self, stream: _Going) -> None:
        """Absorb what a stream's draft says next, as far as the search says the same, and again where they meet."""
        while stream in self._going and (next_ones := stream.drafted()):
            room = self.w.shape.context - int(self.streams.position[stream.slot])
            group = [stream.said[-1], *next_ones][:room]
            if not group:  # the text ends as it would without a draft
                return
            self.streams.revisable(stream.slot)
            logits = self._followed(stream, group, range(len(group)))
            agreed = self._agreed(stream, group, logits)
            if stream in self._going:
                self.streams.keep(stream.slot, agreed)
                if stream.looks is not None:
                    stream.looks.seen[-1] = stream.looks.seen[-1][:agreed]

    def _agreed(self, stream: _Going, group: Sequence[int], logits: Array) -> int:
        """Say what follows the tokens of a group (n,), with the logits (n, V) behind them: how many were right."""
        picks = self._picked(logits, stream.task.allowed)
        for row in range(len(group)):
            ids, logprobs, margins = (column[row : row + 1] for column in picks)
            self._say([stream], logits[row : row + 1], (ids, logprobs, margins))
            if stream not in self._going or stream.said[-1:] != group[row + 1 : row + 2]:
                break
        return row + 1

    def _followed(self, stream: _Going, tokens: Sequence[int], wanted: Sequence[int]) -> Array:
        """Absorb up to EXACT tokens that are known: the logits (n, V) behind the wanted ones."""
        self._make_room(stream.slot, len(tokens))
        rows = embed(self.w, [np.array(tokens, np.int32)], self.ops)
        with stage("tokens"):
            return prefill(
                self.w, [rows], self.streams, [stream.slot], self.ops, logits_for=[wanted], looks=stream.looks
            )

    def _step(self, going: Sequence[_Going]) -> None:
        """One token for every stream that has room for one."""
        for stream in going:
            if stream.task.draft and stream.task.look is None:  # who looks is followed from one moment on
                self._guarded(lambda one: self._verify(*one), [stream])
        going = [stream for stream in going if stream in self._going and self._has_room(stream)]
        if not going:
            return
        step = self._captured(going)
        with stage("token"):
            logits, picks = step([stream.said[-1] for stream in going], [stream.slot for stream in going])
        self._say(going, logits, picks)

    def _captured(self, going: Sequence[_Going]) -> Step:
        """A step for so many streams, captured when it is first needed."""
        key = self.ops.step_rows(len(going)), any(stream.task.allowed is not None for stream in going)
        if key not in self._steps:
            while len(self._steps) >= MOST_STEPS:
                oldest = next(iter(self._steps))
                del self._steps[oldest]
                self._masked.pop(oldest, None)
            self._steps[key] = Step(self.w, self.streams, key[0], self.ops, masked=key[1])
        step = self._steps[key]
        if key[1] and self._masked.get(key) != list(going):  # masks change only when streams come or go
            self._masked[key] = list(going)
            for row, stream in enumerate(going):
                step.allow(row, stream.task.allowed)
        return step

    def _say(self, going: Sequence[_Going], logits: Array, picks: Picks) -> None:
        best = zip(*(self.ops.download(column).tolist() for column in picks), strict=True)
        for row, (stream, pick) in enumerate(zip(going, best, strict=True)):
            fetch = lambda row=row: np.asarray(self.ops.download(logits[row]), np.float32)  # noqa: E731
            # a search is the caller's own: where it fails, it fails alone
            self._guarded(partial(self._continue, best=Choice(*pick), logits=fetch), [stream])

    def _continue(self, one: Sequence[_Going], best: Choice, logits: Logits) -> None:
        """Choose one stream's next token: say it, or end."""
        (stream,) = one
        if np.isnan(best.logprob):
            raise ModelFileError(
                "the model computes no numbers (NaN) here: expected finite logits; its weights are damaged:"
                " fetch the files again, or check them with eardrop verify"
            )
        choice = stream.chooser.choose(best, logits, stream.task.allowed)
        finish = stream.task.stop.before(choice.token, len(stream.said))
        if finish is not None:
            self._finish(stream, finish)
            return
        stream.said.append(choice.token)
        stream.task.say(choice)
        if len(stream.said) == stream.task.stop.limit:
            self._finish(stream, Finish.LENGTH)

    def _has_room(self, stream: _Going) -> bool:
        try:
            self._make_room(stream.slot, 1)
        except ContextFull:
            self._guarded(lambda one: self._finish(stream, Finish.CONTEXT), [stream])
            return False
        return True

    def _make_room(self, slot: int, rows: int) -> None:
        """Room for so many rows more, up to the model's context; captured steps are void where caches move."""
        needed, most = int(self.streams.position[slot]) + rows, self.w.shape.context
        if needed > most:
            raise ContextFull(
                f"{needed:,} rows are needed, and the model's context has {most:,};"
                " give a shorter recording or prompt, or allow fewer tokens"
            )
        if needed > self.streams.rows:
            self._forget_steps()
            wanted = max(needed, 2 * self.streams.rows)
            self.streams.reserve(min(most, -(-wanted // ROWS) * ROWS))

    def _forget_steps(self) -> None:
        self._steps.clear()
        self._masked.clear()

    def _finish(self, stream: _Going, how: Finish) -> None:
        """End a text that is complete, after telling where it looked."""
        if stream.looks is not None and stream.task.look is not None:
            self._look_back(stream, stream.looks)
            stream.task.look.tell(np.concatenate(stream.looks.seen)[: len(stream.said)])
        self._leave(stream, how)

    def _look_back(self, stream: _Going, looks: Looks) -> None:
        """Absorb once more, many at a time, the tokens that were said in steps: steps don't tell where they looked."""
        if stream.moment is not None:
            self.streams.restore(stream.moment)
            self._follow(stream, stream.said[sum(map(len, looks.seen)) - 1 : -1])

    def _follow(self, stream: _Going, tokens: Sequence[int]) -> None:
        """Absorb any number of tokens that are known."""
        for at in range(0, len(tokens), EXACT):
            self._followed(stream, tokens[at : at + EXACT], [0])

    def _leave(self, stream: _Going, how: Finish | BaseException) -> None:
        self._going.remove(stream)
        self.streams.leave(stream.slot)
        stream.task.end(how)

    def _guarded(self, work: Callable[[Sequence[_Going]], None], streams: Sequence[_Going]) -> None:
        """Run; if it fails, its streams end with the error and the loop goes on. Where memory ends, fewer go on."""
        within, shrink = self._work is not None, False
        try:
            with self._working([stream.task for stream in streams]):
                work(list(streams))
        except Exception as error:
            shrink = isinstance(error, MemoryError) and self.slots > 1
            if shrink and within:
                raise  # to where the step or the prompt began
            if not shrink:
                self._fail(streams, error)
        if shrink:  # not before the error is gone: it holds all that its frames had made
            self._shrink()

    def _fail(self, streams: Sequence[_Going], error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self._forget_steps()
        for stream in [stream for stream in streams if stream in self._going]:
            self._leave(stream, self._end_of(stream.task, error))

    def _shrink(self) -> None:
        """Half the slots from here on; who was going waits before the others, to go on from what it said."""
        self._forget_steps()
        tasks = [going.task for going in self._going]
        self._interrupted.update(zip(tasks, self._going, strict=True))
        self._waiting.extendleft(reversed(tasks))
        self._going.clear()
        self.slots //= 2
        del self.streams  # its memory first
        self.streams = self._made()

    def _end_of(self, task: Task, error: Exception) -> Finish | BaseException:
        """What a task is told whose work failed, or was stopped."""
        if task.cancelled:
            return Finish.CANCELLED
        return _closed() if self._closed else error


def _closed() -> EngineClosed:
    return EngineClosed("the engine was closed; load the model again")
