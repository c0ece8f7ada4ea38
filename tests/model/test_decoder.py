"""The decoder: chunks, batches, order of streams and saved moments change nothing."""

import numpy as np
import pytest

from eardrop.backends import BACKENDS
from eardrop.backends.numpy import NumpyBackend
from eardrop.engine import Model
from eardrop.errors import ContextFull
from eardrop.loading import load_model
from eardrop.model import decoder
from eardrop.model.state import KVCache, Streams
from eardrop.ops import listening
from tests.pairs import sharp_pair

rng = np.random.default_rng(5)
LONG, SHORT = rng.integers(20, 900, 37).astype(np.int32), rng.integers(20, 900, 5).astype(np.int32)


@pytest.fixture(scope="module", params=[name for name, choice in BACKENDS.items() if choice.missing() is None])
def model(request: pytest.FixtureRequest) -> Model:
    ops = BACKENDS[request.param].make()
    return load_model(*sharp_pair(ops), ops)


def inputs_of(model: Model, ids: np.ndarray) -> np.ndarray:
    return decoder.embed(model.decoder, [ids], model.backend)


def streams_of(model: Model, slots: int = 3, rows: int = 64) -> Streams:
    return Streams(model.decoder.shape, model.backend, slots=slots, rows=rows, kv="float32")


def prefilled(model: Model, streams: Streams, slot: int, ids: np.ndarray, **options) -> np.ndarray:
    logits = decoder.prefill(model.decoder, [inputs_of(model, ids)], streams, [slot], model.backend, **options)
    return np.array(model.backend.download(logits))


def steps(model: Model, streams: Streams, slots: list[int], ids: list[list[int]]) -> np.ndarray:
    """Logits (steps, B, V) of feeding each stream its ids."""
    step = decoder.Step(model.decoder, streams, len(slots), model.backend)
    return np.array([np.array(model.backend.download(step(now, slots)[0])) for now in zip(*ids, strict=True)])


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-5 of the largest logit."""
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_prefill_in_chunks_equals_one_pass(model: Model, chunk: int) -> None:
    whole = streams_of(model)
    expected = prefilled(model, whole, whole.join(), LONG, chunk=len(LONG))
    parts = streams_of(model)
    assert_same(prefilled(model, parts, parts.join(), LONG, chunk=chunk), expected)


def test_prefill_equals_stepping(model: Model) -> None:
    a, b = streams_of(model), streams_of(model)
    expected = prefilled(model, a, a.join(), LONG, logits_for=[range(len(LONG))])
    assert_same(steps(model, b, [b.join()], [LONG.tolist()])[:, 0], expected)


def test_logits_come_for_the_rows_asked_across_chunks(model: Model) -> None:
    a, b = streams_of(model), streams_of(model)
    every = prefilled(model, a, a.join(), LONG, logits_for=[range(len(LONG))])
    some = prefilled(model, b, b.join(), LONG, logits_for=[[0, 6, 7, 36]], chunk=7)
    assert_same(some, every[[0, 6, 7, 36]])


def test_two_streams_of_different_length_together_equal_each_alone(model: Model) -> None:
    together = streams_of(model)
    slots = [together.join(), together.join()]
    rows = [inputs_of(model, ids) for ids in (LONG, SHORT)]
    first = np.array(decoder.prefill(model.decoder, rows, together, slots, model.backend, chunk=8))
    later = steps(model, together, slots, [[30, 31, 32], [40, 41, 42]])
    for i, (ids, follow) in enumerate(((LONG, [30, 31, 32]), (SHORT, [40, 41, 42]))):
        alone = streams_of(model)
        slot = alone.join()
        assert_same(first[i], prefilled(model, alone, slot, ids)[0])
        assert_same(later[:, i], steps(model, alone, [slot], [follow])[:, 0])


def test_streams_that_join_and_leave_leave_no_trace(model: Model) -> None:
    streams = streams_of(model, slots=2)
    first, second = streams.join(), streams.join()
    prefilled(model, streams, first, LONG)
    kept = prefilled(model, streams, second, SHORT)
    streams.leave(first)
    again = streams.join()
    assert again == first
    assert_same(prefilled(model, streams, again, SHORT), kept)
    one, other = steps(model, streams, [again, second], [[9, 8, 7], [9, 8, 7]]).transpose(1, 0, 2)
    assert_same(one, other)


def test_a_second_generation_equals_the_first(model: Model) -> None:
    streams, runs = streams_of(model), []
    for _ in range(2):
        slot = streams.join()
        logits = prefilled(model, streams, slot, LONG)
        runs.append(np.concatenate([logits, steps(model, streams, [slot], [[5, 6, 7, 8]])[:, 0]]))
        streams.leave(slot)
    assert np.array_equal(runs[0], runs[1])


def test_restore_goes_back_to_the_saved_moment(model: Model) -> None:
    streams = streams_of(model)
    slot = streams.join()
    prefilled(model, streams, slot, LONG)
    moment = streams.save(slot)
    expected = steps(model, streams, [slot], [[30, 31, 32]])
    streams.restore(moment)
    assert streams.position[slot] == len(LONG)
    steps(model, streams, [slot], [[50, 51]])
    streams.restore(moment)
    assert np.array_equal(steps(model, streams, [slot], [[30, 31, 32]]), expected)


def test_a_moment_behind_which_the_slot_went_is_void(model: Model) -> None:
    streams = streams_of(model)
    slot = streams.join()
    early = streams.save(slot)
    prefilled(model, streams, slot, SHORT)
    late = streams.save(slot)
    streams.restore(early)
    with pytest.raises(AssertionError, match="moment is gone"):
        streams.restore(late)
    streams.leave(slot)
    with pytest.raises(AssertionError, match="moment is gone"):
        streams.restore(early)


@pytest.mark.parametrize("rows", [0, 1, 2, 9, 20])
def test_keep_cuts_a_prefill_back_to_its_first_rows(model: Model, rows: int) -> None:
    streams, plain = streams_of(model), streams_of(model)
    slot, other = streams.join(), plain.join()
    prefilled(model, streams, slot, SHORT)
    streams.revisable(slot)
    prefilled(model, streams, slot, LONG[:20], chunk=8)
    streams.keep(slot, rows)
    prefilled(model, plain, other, np.concatenate([SHORT, LONG[:rows]]))
    assert streams.position[slot] == plain.position[other] == len(SHORT) + rows
    assert_same(steps(model, streams, [slot], [[30, 31]]), steps(model, plain, [other], [[30, 31]]))


def test_keep_cuts_each_stream_of_a_prefill_back_by_itself(model: Model) -> None:
    together = streams_of(model)
    slots = [together.join(), together.join()]
    for slot in slots:
        together.revisable(slot)
    rows = [inputs_of(model, ids) for ids in (LONG, SHORT)]
    decoder.prefill(model.decoder, rows, together, slots, model.backend, chunk=8)
    for slot, ids, kept in zip(slots, (LONG, SHORT), (19, 4), strict=True):
        together.keep(slot, kept)
        plain = streams_of(model)
        other = plain.join()
        prefilled(model, plain, other, ids[:kept])
        assert_same(steps(model, together, [slot], [[30, 31]]), steps(model, plain, [other], [[30, 31]]))


def test_what_was_saved_behind_a_cut_is_void_and_what_was_saved_before_is_not(model: Model) -> None:
    streams = streams_of(model)
    slot = streams.join()
    prefilled(model, streams, slot, SHORT)
    early = streams.save(slot)
    streams.revisable(slot)
    prefilled(model, streams, slot, LONG[:8])
    late = streams.save(slot)
    streams.keep(slot, 3)
    with pytest.raises(AssertionError, match="moment is gone"):
        streams.restore(late)
    streams.restore(early)
    assert streams.position[slot] == len(SHORT)


def test_a_slot_that_left_is_no_longer_revisable(model: Model) -> None:
    streams = streams_of(model, slots=1)
    slot = streams.join()
    streams.revisable(slot)
    streams.leave(slot)
    assert streams.join() == slot
    with pytest.raises((KeyError, AssertionError)):
        streams.keep(slot, 0)


def test_a_slot_takes_exactly_its_rows(model: Model) -> None:
    streams = streams_of(model, rows=16)
    slot = streams.join()
    prefilled(model, streams, slot, LONG[:16])
    assert streams.room(slot) == 0
    with pytest.raises(ContextFull, match="17 rows are needed"):
        prefilled(model, streams, slot, LONG[:1])


def test_a_sequence_that_does_not_fit_changes_nothing(model: Model) -> None:
    streams = streams_of(model, rows=16)
    slot = streams.join()
    expected = prefilled(model, streams, slot, SHORT)
    with pytest.raises(ContextFull, match="42 rows are needed"):
        prefilled(model, streams, slot, LONG, chunk=4)
    assert streams.position[slot] == len(SHORT)
    fresh = streams_of(model)
    other = fresh.join()
    assert_same(prefilled(model, fresh, other, SHORT), expected)
    assert_same(steps(model, streams, [slot], [[3]]), steps(model, fresh, [other], [[3]]))


def test_longer_caches_hold_what_the_shorter_held(model: Model) -> None:
    streams, plain = streams_of(model, rows=8), streams_of(model)
    slot, other = streams.join(), plain.join()
    prefilled(model, streams, slot, SHORT)
    streams.reserve(64)
    assert streams.room(slot) == 64 - len(SHORT)
    prefilled(model, plain, other, SHORT)
    assert np.array_equal(prefilled(model, streams, slot, LONG), prefilled(model, plain, other, LONG))


def test_half_precision_caches_stay_close(model: Model) -> None:
    wide = streams_of(model)
    narrow = Streams(model.decoder.shape, model.backend, slots=1, rows=64, kv="float16")
    expected = prefilled(model, wide, wide.join(), LONG)
    got = prefilled(model, narrow, narrow.join(), LONG)
    assert 0 < np.abs(got - expected).max() < 0.03


def test_rows_of_a_step_that_are_left_over_serve_nobody_and_disturb_nobody(model: Model) -> None:
    exact, wide = streams_of(model), streams_of(model)
    found = []
    for streams, count in ((exact, 2), (wide, 4)):
        slots = [streams.join(), streams.join()]
        for slot, ids in zip(slots, (LONG, SHORT), strict=True):
            prefilled(model, streams, slot, ids)
        step = decoder.Step(model.decoder, streams, count, model.backend)
        for tokens in ((5, 9), (7, 3), (2, 2)):
            logits, picks = step(tokens, slots)
            found += [np.array(model.backend.download(part)) for part in (logits, *picks)]
        assert streams.position[streams.spare] == 0
    half = len(found) // 2
    for mine, theirs in zip(found[half:], found[:half], strict=True):
        assert len(mine) == 2
        assert_same(mine, theirs)


def test_a_mask_keeps_a_step_from_saying_what_is_not_allowed(model: Model) -> None:
    streams = streams_of(model)
    slots = [streams.join(), streams.join()]
    step = decoder.Step(model.decoder, streams, 2, model.backend, masked=True)
    allowed = np.zeros(model.decoder.shape.vocabulary, bool)
    allowed[123] = True
    step.allow(0, allowed)
    logits, (ids, _, margins) = step([5, 5], slots)
    assert ids.tolist() == [123, int(np.argmax(logits[1]))]
    assert margins[0] == np.inf
    step.allow(0, None)
    logits, (ids, _, _) = step([6, 6], slots)
    assert ids[0] == np.argmax(logits[0])


def test_taps_name_every_layer_by_the_training_frameworks_names(model: Model) -> None:
    seen: dict[str, np.ndarray] = {}
    streams = streams_of(model)
    with listening(lambda name, x: seen.__setitem__(name, model.backend.download(x))):
        logits = prefilled(model, streams, streams.join(), SHORT)
    assert [name for name in seen if name.count(".") == 2] == [f"lfm.layers.{i}" for i in range(4)]
    assert {"lfm.layers.0.conv", "lfm.layers.1.self_attn", "lfm.embedding_norm", "logits"} <= set(seen)
    assert seen["lfm.layers.2"].shape == (len(SHORT), 128)
    assert seen["lfm.layers.3"].shape == (1, 128)  # behind the last mixer only what is wanted
    assert np.array_equal(seen["logits"], logits)
    seen.clear()
    prefilled(model, streams, streams.join(), SHORT)
    assert not seen


def test_where_memory_ends_while_caches_grow_they_still_hold_what_they_say(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, made = NumpyBackend(), []
    streams = Streams(model.decoder.shape, backend, slots=1, rows=8)

    def zeros(shape, dtype):
        made.append(shape)
        if len(made) == 3:
            raise MemoryError
        return np.zeros(shape, dtype)

    monkeypatch.setattr(backend, "zeros", zeros)
    with pytest.raises(MemoryError):
        streams.reserve(64)
    assert streams.rows == 8
    assert all(len(layer.keys[0]) >= 8 for layer in streams.layers if isinstance(layer, KVCache))


def looks_of(model: Model, ids: np.ndarray, *, wanted: int = 0, rows: tuple[int, int], **options) -> np.ndarray:
    streams, looks = streams_of(model), decoder.Looks(rows)
    prefilled(model, streams, streams.join(), ids, logits_for=[range(wanted, len(ids))], looks=looks, **options)
    return np.concatenate(looks.seen)


def test_where_rows_looked_is_what_every_head_of_every_layer_attended_to(model: Model) -> None:
    heads = sum(mixer.heads for mixer in model.decoder.shape.mixers if hasattr(mixer, "heads"))
    whole = looks_of(model, LONG, rows=(0, len(LONG)))
    assert whole.shape == (len(LONG), heads, len(LONG))
    np.testing.assert_allclose(whole.sum(axis=2), 1, atol=1e-5)
    assert not np.triu(whole.transpose(1, 0, 2), 1).any()  # nobody looks ahead
    assert len({line.tobytes() for line in whole[-1]}) == heads
    part = looks_of(model, LONG, rows=(3, 20))
    assert_same(part, whole[:, :, 3:20])


@pytest.mark.parametrize("chunk", [1, 7])
def test_where_the_last_rows_looked_does_not_depend_on_chunks(model: Model, chunk: int) -> None:
    whole = looks_of(model, LONG, rows=(2, 9))
    for wanted in (0, 20, len(LONG) - 1):
        got = looks_of(model, LONG, wanted=wanted, rows=(2, 9), chunk=chunk)
        assert_same(got, whole[wanted:])


def test_only_one_sequence_is_watched_at_a_time(model: Model) -> None:
    streams = streams_of(model)
    inputs = [inputs_of(model, ids) for ids in (LONG, SHORT)]
    with pytest.raises(AssertionError, match="one sequence"):
        decoder.prefill(
            model.decoder, inputs, streams, [streams.join(), streams.join()], model.backend, looks=decoder.Looks((0, 5))
        )
