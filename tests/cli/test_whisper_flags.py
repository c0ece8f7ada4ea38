"""What people of whisper and whisper.cpp type from habit."""

import argparse

import pytest

from eardrop.cli.transcribe import _parser
from eardrop.cli.whisper_flags import FLAGS, translated
from eardrop.errors import OptionError


def typed(line: str) -> argparse.Namespace:
    return translated(_parser().parse(line.split()), line.split())


@pytest.mark.parametrize(
    ("line", "wishes"),
    [
        ("talk.mp3 --task transcribe --fp16 False --condition_on_previous_text False", {"files": ["talk.mp3"]}),
        ("--word_timestamps True talk.mp3", {"words": True, "files": ["talk.mp3"]}),
        ("--words False talk.mp3", {"words": False, "files": ["talk.mp3"]}),
        ("--highlight_words True talk.mp3", {"highlight_words": True, "files": ["talk.mp3"]}),
        ("--verbose False a", {"quiet": True}),
        ("-np a", {"quiet": True}),
        ("-pp -nt a", {"progress": "lines"}),
        ("--device cpu a", {"backend": "cpu"}),
        ("-l ja a", {"language": "ja"}),
        ("-ot 1500 -d 2000 a", {"start": 1.5, "end": 3.5}),
        ("-d 2000 a", {"end": 2.0}),
        ("--clip_timestamps 3,4.5 a", {"start": 3.0, "end": 4.5}),
        ("--temperature 0 --best_of 1 --beam_size 1 a", {}),
        ("--start 1:02:03.5 --end 4000 a", {"start": 3723.5, "end": 4000.0}),
    ],
)
def test_their_flags_mean_ours(line, wishes):
    found = vars(typed(line))
    assert {name: found[name] for name in wishes} == wishes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--task translate a", "--task: expected transcribe, found translate: these models write what they hear"),
        ("--translate a", "--translate: these models write what they hear"),
        ("--temperature 0.4 a", "--temperature: expected 0.0, found 0.4: the likeliest token is always taken"),
        ("--beam_size 5 a", "--beam_size: expected 1, found 5"),
        ("--beam-size=5 a", "--beam-size: expected 1, found 5"),
        ("-bs 5 a", "-bs: expected 1, found 5"),
        ("--initial_prompt Dr a", "--initial_prompt: these models were trained with a prompt of their own alone"),
        ("--clip_timestamps 1,2,3 a", "one stretch can be transcribed at a time"),
        ("--clip_timestamps a,b a", "--clip_timestamps: expected seconds or h:m:s, found 'a'"),
        ("--fp16 maybe a", "expected True or False, found 'maybe'"),
        ("--start 1:x a", "expected seconds or h:m:s, found '1:x'"),
    ],
)
def test_what_can_not_be_had_is_told_with_its_reason(line, message):
    with pytest.raises(OptionError, match=message):
        typed(line)


def test_none_of_their_flags_is_in_the_help():
    shown = _parser().format_help()
    assert not [name for flag in FLAGS for name in flag.names if f" {name} " in shown]
