"""Channels each for itself, and stretches of a recording."""

import numpy as np
import pytest

import eardrop
from eardrop.audio import SAMPLE_RATE, read
from eardrop.transcribe.channels import common, speaker
from tests.examples import BUNDLED, EXAMPLES


@pytest.fixture(scope="module")
def asr():
    with eardrop.load(BUNDLED) as asr:
        yield asr


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    """Two speakers who take turns, each on a channel."""
    both = np.zeros((14 * SAMPLE_RATE, 2), np.float32)
    for start, channel, (path, _) in ((1, 1, EXAMPLES[5]), (6, 0, EXAMPLES[0]), (10, 1, EXAMPLES[4])):
        samples = read(path)
        both[start * SAMPLE_RATE : start * SAMPLE_RATE + len(samples), channel] = samples
    return both


def test_each_channel_is_a_speaker_and_their_turns_are_in_order(asr, call):
    result = asr.transcribe(call, channels="split")
    assert [(segment.speaker, segment.text) for segment in result.segments] == [
        ("right", EXAMPLES[5][1]), ("left", EXAMPLES[0][1]), ("right", EXAMPLES[4][1]),
    ]  # fmt: skip
    assert result.duration == 14.0
    assert all(stop - start > 0 for start, stop in result.skipped)
    assert [segment.text for segment in asr.stream(call, channels="split")] == [one.text for one in result.segments]


def test_mixed_channels_and_single_ones_have_no_speaker(asr, call):
    assert {segment.speaker for segment in asr.transcribe(call).segments} == {""}
    assert {segment.speaker for segment in asr.transcribe(call[:, 1], channels="split").segments} == {""}


def test_names_of_channels():
    assert [speaker(i, 2) for i in range(2)] == ["left", "right"]
    assert speaker(2, 4) == "channel 3"


def test_what_is_skipped_is_skipped_on_all_channels():
    assert common([(0, 2), (3, 7)], [(1, 4), (6, 9)]) == [(1, 2), (3, 4), (6, 7)]
    assert common([], [(1, 4)]) == []


def test_a_stretch_has_the_times_of_the_whole(asr, call):
    whole = asr.transcribe(call, words=True)
    part = asr.transcribe(call, words=True, start=5.0, end=9.5)
    (segment,) = part.segments
    near = next(one for one in whole.segments if one.text == segment.text)
    assert segment.start == pytest.approx(near.start, abs=0.1)
    assert segment.words[0].start == pytest.approx(near.words[0].start, abs=0.15)
    assert segment.words[-1].end <= 9.5
    assert part.duration == 4.5


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"start": -1.0}, "start is -1 seconds, expected 0 or more"),
        ({"start": 3.0, "end": 2.0}, "end is 2 seconds, expected more than start, 3"),
        ({"channels": "left"}, "channels is 'left', expected mix or split"),
        ({"window": 0.5}, "window is 0.5 seconds, expected at least 1"),
    ],
)
def test_wishes_that_can_not_be_met(asr, call, wishes, message):
    with pytest.raises(eardrop.OptionError, match=message):
        asr.transcribe(call, **wishes)
