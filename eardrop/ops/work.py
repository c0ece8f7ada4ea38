"""Work that others may stop: what nobody waits for any more ends within a kernel, not when it is done.

    with Work(wanted) as work:   on the thread that computes: raises Cancelled once `wanted()` says no
        …
    work.nudge()                 on any other, after it has made `wanted()` say no

Backends `heed` before each operation. Where one can end a kernel that is under way, it says how (`stoppable`): what the
kernel gives is void then, and nobody sees it, for the next `heed` raises, or the end of the block does.

Work belongs to the thread that does it, not to a backend: several engines may share one.
"""

import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

from eardrop.errors import Cancelled

P = ParamSpec("P")
T = TypeVar("T")

_here = threading.local()  # `work`: what this thread computes


class Work:
    """One piece of work, on the thread that enters it. Works may nest; the innermost is what is heeded."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted
        self.stop: Callable[[], None] | None = None  # ends the kernel that is under way
        self._outer: Work | None = None

    def heed(self) -> None:
        """Raise Cancelled where the work isn't wanted any more."""
        if not self._wanted():
            raise Cancelled("the work was stopped, for nobody waits for it any more; ask again")

    def nudge(self) -> None:
        """Look whether it is still wanted: if not, the kernel under way ends. From any thread; late ones do no harm."""
        stop = self.stop
        if stop is not None and not self._wanted():
            stop()

    def __enter__(self) -> "Work":
        self.heed()
        self._outer, _here.work = _current(), self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.work = self._outer
        if kind is None:
            self.heed()


def _current() -> Work | None:
    work: Work | None = getattr(_here, "work", None)
    return work


def heed() -> None:
    """Raise Cancelled where nobody wants what this thread computes any more."""
    work = _current()
    if work is not None:
        work.heed()


class stoppable:  # noqa: N801  # a context manager, and no generator: kernels are too short for one
    """Heed; then, while the block runs, let `stop` end it early if this thread's work is wanted no more.

    While it runs `Work.nudge` may call `stop`, from its own thread.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._work = stop, _current()

    def __enter__(self) -> None:
        if work := self._work:
            work.stop = self._stop
            try:
                work.heed()  # after `stop` is known: who nudged before it was is noticed here
            except BaseException:
                work.stop = None
                raise

    def __exit__(self, *raised: object) -> None:
        if work := self._work:
            work.stop = None


def heeding(operation: Callable[P, T]) -> Callable[P, T]:
    """The operation, which heeds first."""

    @wraps(operation)
    def heeded(*args: P.args, **kwargs: P.kwargs) -> T:
        heed()
        return operation(*args, **kwargs)

    return heeded
