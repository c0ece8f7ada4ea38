"""Ending a program that is under way: chunks that threads have taken are finished, no other is begun."""

from eardrop.backends.cpu.team import CHUNKS, NEXT, RECORD, Program

TAKEN = 1 << 62  # more than any record has chunks


def stop(program: Program) -> None:
    """End a program early, on any thread; what it computes is void, and it can't be run again.

    Its records come to an end of chunks, so the team passes every barrier as always. First the number of chunks, then
    the counter: a thread that has read the old number has it from after `launch` reset the counter.
    """
    assert program.records is not None, "a program is frozen before it is stopped"
    words = program.records.reshape(-1, RECORD // 8)
    words[:, CHUNKS // 8] = 0
    words[:, NEXT // 8] = TAKEN
