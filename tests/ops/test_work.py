"""Work that others may stop."""

import inspect
import threading

import pytest

from eardrop.ops import OPS
from eardrop.ops.work import Work, heed, heeding, stoppable
from tests.given_up import given_up


class Wanted:
    """Whether somebody waits, as a switch."""

    def __init__(self) -> None:
        self.yes = True

    def __call__(self) -> bool:
        return self.yes


def test_outside_of_any_work_nothing_is_heeded() -> None:
    heed()
    with stoppable(lambda: None):
        pass


def test_work_that_nobody_wants_does_not_begin() -> None:
    with given_up(), Work(lambda: False):
        raise AssertionError("it began")
    heed()


def test_work_ends_at_the_next_heed_once_nobody_wants_it() -> None:
    wanted = Wanted()
    with given_up(), Work(wanted):
        heed()
        wanted.yes = False
        heed()
        raise AssertionError("it went on")
    heed()


def test_what_was_stopped_in_its_last_kernel_does_not_pass_for_done() -> None:
    wanted = Wanted()
    with given_up(), Work(wanted):
        wanted.yes = False


def test_an_error_of_the_work_itself_is_not_hidden() -> None:
    wanted = Wanted()

    def fail() -> None:
        with Work(wanted):
            wanted.yes = False
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_nudge_stops_the_kernel_under_way_only_if_nobody_wants_it() -> None:
    wanted, stops = Wanted(), []
    with given_up(), Work(wanted) as work:
        work.nudge()
        with stoppable(lambda: stops.append("first")):
            work.nudge()
        with stoppable(lambda: stops.append("second")):
            wanted.yes = False
            work.nudge()
        work.nudge()  # no kernel is under way
    assert stops == ["second"]


def test_a_kernel_does_not_begin_where_the_nudge_came_before_it() -> None:
    wanted = Wanted()
    with given_up(), Work(wanted) as work:
        wanted.yes = False
        work.nudge()
        with stoppable(lambda: None):
            raise AssertionError("it began")


def test_the_innermost_work_is_heeded() -> None:
    outer, inner = Wanted(), Wanted()
    with Work(outer):
        with given_up(), Work(inner):
            inner.yes = False
            heed()
        heed()  # others want the rest


def test_work_belongs_to_its_thread() -> None:
    wanted, heeded = Wanted(), []

    def other() -> None:
        heed()
        heeded.append(True)

    with given_up(), Work(wanted):
        wanted.yes = False
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert heeded == [True]


def test_an_operation_that_heeds_keeps_its_name_and_signature() -> None:
    reference = OPS["linear"].reference
    assert inspect.signature(heeding(reference)) == inspect.signature(reference)
    with given_up(), Work(wanted := Wanted()):
        wanted.yes = False
        heeding(lambda: pytest.fail("it ran"))()
