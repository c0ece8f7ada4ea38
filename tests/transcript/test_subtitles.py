"""Subtitles equal whisper's bytes, and whatever a model says they can be parsed and lack nothing."""

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eardrop.errors import OptionError
from eardrop.transcript import FORMATS, Lines, Result, Segment, Word

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LINES = st.builds(
    Lines,
    max_line_width=st.none() | st.integers(1, 30),
    max_line_count=st.none() | st.integers(1, 3),
    max_words_per_line=st.none() | st.integers(1, 4),
    highlight_words=st.booleans(),
)
WORD = st.text("aé日𝄞\U0001f600<&'.", min_size=1, max_size=8)


@st.composite
def transcripts(draw, *, worded: bool) -> Result:
    now, segments = 0.0, []
    for texts in draw(st.lists(st.lists(WORD, max_size=6), max_size=4)):
        begin, words = now, []
        for text in texts:
            start = now + draw(st.sampled_from([0.0, 0.0004, 0.25, 3.5, 4000.0]))
            now = start + draw(st.sampled_from([0.0, 0.0006, 0.3]))
            words.append(Word(start, now, text))
        segments.append(Segment(begin, now, f" {' '.join(texts)}", words=tuple(words) if worded else ()))
    if worded and not any(segment.words for segment in segments):
        segments = []
    return Result(tuple(segments), "a.mp3", "tiny", now)


def oracle(result: Result, lines: Lines) -> Iterator[tuple[float, float, str]]:
    """Whisper's cues, told anew: each word first learns how it joins the one before, then cues are read off."""
    words = [(word, i) for segment in result.segments for i, word in enumerate(segment.words)]
    if not words:
        yield from ((s.start, s.end, s.text.strip().replace("-->", "->")) for s in result.segments)
        return
    flows = lines.max_line_width is not None and lines.max_line_count is not None
    joins, column, row = [], 0, 1
    for at, (word, place) in enumerate(words):
        late = flows and at > 0 and word.start - words[at - 1][0].start > 3
        opens = at == 0 or (not flows and place % (lines.max_words_per_line or 1000) == 0)
        if not opens and not late and column + 1 + len(word.text) <= (lines.max_line_width or 1000):
            joins.append(" ")
            column += 1 + len(word.text)
            continue
        if opens or (lines.max_line_count is not None and (late or row >= lines.max_line_count)):
            joins.append("")
            row = 1
        else:
            joins.append("\n")
            row += 1
        column = len(word.text)
    starts = [at for at, join in enumerate(joins) if join == ""]
    for first, after in zip(starts, [*starts[1:], len(words)], strict=True):
        cue = [word for word, _ in words[first:after]]
        if not lines.highlight_words:
            text = "".join(j + w.text for j, w in zip(joins[first:after], cue, strict=True))
            yield cue[0].start, cue[-1].end, text
            continue
        shown = cue[0].start
        for chosen in range(-1, len(cue)):
            marked = [f"<u>{w.text}</u>" if i == chosen else w.text for i, w in enumerate(cue)]
            text = "".join(j + w for j, w in zip(joins[first:after], marked, strict=True))
            if chosen < 0:
                plain = text
                continue
            if round(shown * 1000) != round(cue[chosen].start * 1000):
                yield shown, cue[chosen].start, plain
            yield cue[chosen].start, cue[chosen].end, text
            shown = cue[chosen].end


def srt_time(seconds: float) -> str:
    total = round(seconds * 1000)
    return f"{total // 3600000:02d}:{total // 60000 % 60:02d}:{total // 1000 % 60:02d},{total % 1000:03d}"


def vtt_time(seconds: float) -> str:
    return srt_time(seconds).replace(",", ".").removeprefix("00:" if seconds * 1000 < 3599999.5 else "")


@QUICK
@given(st.booleans().flatmap(lambda worded: transcripts(worded=worded)), LINES)
def test_srt_and_vtt_are_whispers_bytes(result: Result, lines: Lines) -> None:
    if not any(segment.words for segment in result.segments):
        lines = Lines()
    cues = list(oracle(result, lines))
    srt = "".join(f"{n}\n{srt_time(s)} --> {srt_time(e)}\n{text}\n\n" for n, (s, e, text) in enumerate(cues, 1))
    vtt = "WEBVTT\n\n" + "".join(f"{vtt_time(s)} --> {vtt_time(e)}\n{text}\n\n" for s, e, text in cues)
    assert FORMATS["srt"].write(result, lines=lines) == srt
    assert FORMATS["vtt"].write(result, lines=lines) == vtt


HELLO = Result(
    (
        Segment(0.0, 1.5, " Hello there.", words=(Word(0.1, 0.5, "Hello"), Word(0.6, 1.25, "there."))),
        Segment(3661.9996, 3662.5, " Good --> bye", words=()),
    ),
    "a.mp3",
    "tiny",
    4000.0,
)


def test_a_transcript_by_hand() -> None:
    assert FORMATS["srt"].write(HELLO) == (
        "1\n00:00:00,100 --> 00:00:01,250\nHello there.\n\n2\n01:01:02,000 --> 01:01:02,500\nGood -> bye\n\n"
    )
    assert FORMATS["vtt"].write(HELLO) == (
        "WEBVTT\n\n00:00.100 --> 00:01.250\nHello there.\n\n01:01:02.000 --> 01:01:02.500\nGood -> bye\n\n"
    )
    assert FORMATS["tsv"].write(HELLO) == "start\tend\ttext\n0\t1500\tHello there.\n3662000\t3662500\tGood --> bye\n"


def test_a_highlighted_word_is_underlined_while_it_is_spoken_and_none_between() -> None:
    cues = FORMATS["srt"].write(HELLO, lines=Lines(highlight_words=True)).split("\n\n")
    assert [cue.splitlines()[-1] for cue in cues[:3]] == ["<u>Hello</u> there.", "Hello there.", "Hello <u>there.</u>"]


def test_a_segment_without_words_is_cut_by_its_characters() -> None:
    result = Result((Segment(10.0, 20.0, " aaaa bbbb"),), "a", "m", 20.0)
    assert FORMATS["srt"].write(result, lines=Lines(max_words_per_line=1)) == (
        "1\n00:00:10,000 --> 00:00:14,444\naaaa\n\n2\n00:00:14,444 --> 00:00:20,000\nbbbb\n\n"
    )


def test_japanese_has_no_spaces_and_breaks_before_no_closing_mark() -> None:
    result = Result((Segment(0.0, 6.0, "今日は。晴れ"),), "a", "m", 6.0)
    cues = FORMATS["srt"].write(result, lines=Lines(max_line_width=3, max_line_count=1)).split("\n\n")
    assert [cue.splitlines()[-1] for cue in cues if cue] == ["今日", "は。晴", "れ"]
    worded = Result((Segment(0.0, 2.0, "今日は", words=(Word(0, 1, "今日"), Word(1, 2, "は"))),), "a", "m", 2.0)
    assert FORMATS["srt"].write(worded, lines=Lines(highlight_words=True)).splitlines()[2] == "<u>今日</u>は"
    assert '"word": "\\u306f"' in FORMATS["json"].write(worded)


@pytest.mark.parametrize("lacking", [("one", "three"), ("one", "two"), ("two", "three"), ("one", "two", "four")])
def test_words_that_lack_some_of_the_text_give_way_to_the_text(lacking: tuple[str, ...]) -> None:
    result = Result(
        (Segment(0.0, 2.0, " one two three", words=tuple(Word(0, 1, text) for text in lacking)),), "a", "m", 2
    )
    assert "one two three\n" in FORMATS["srt"].write(result)


@pytest.mark.parametrize(("start", "texts"), [(3.5, ["one two"]), (3.51, ["one", "two"])])
def test_cues_that_flow_end_at_a_pause_of_more_than_three_seconds(start: float, texts: list[str]) -> None:
    segments = (
        Segment(0.5, 1, "one", words=(Word(0.5, 1, "one"),)),
        Segment(1, 4, "two", words=(Word(start, 4, "two"),)),
    )
    written = FORMATS["srt"].write(Result(segments, "a", "m", 4.0), lines=Lines(max_line_width=40, max_line_count=2))
    assert [cue.splitlines()[-1] for cue in written.split("\n\n") if cue] == texts


def test_a_speaker_begins_a_cue_and_is_named() -> None:
    segments = (Segment(0, 1, "a b", speaker="left"), Segment(1, 2, "c", speaker="right"))
    result = Result(segments, "a", "m", 2.0)
    flow = Lines(max_line_width=40, max_line_count=2)
    for lines in (Lines(), flow):
        texts = [cue.splitlines()[-1] for cue in FORMATS["srt"].write(result, lines=lines).split("\n\n") if cue]
        assert texts == ["[left]: a b", "[right]: c"]
    assert FORMATS["txt"].write(result) == "[left]: a b\n[right]: c\n"


HOSTILE = st.text(st.sampled_from("ab -->\n\r\t\x00\x1b\x85\u2028\u202e\ud800日\U0001f600"), max_size=20)


@st.composite
def hostile_transcripts(draw) -> Result:
    times = sorted(draw(st.lists(st.floats(0, 1e7), min_size=2, max_size=6)))
    segments = []
    for start, end in itertools.pairwise(times):
        text = draw(HOSTILE)
        spelt = text.split() if draw(st.booleans()) else ()
        step = (end - start) / max(1, len(spelt))
        words = tuple(Word(start + i * step, start + (i + 1) * step, word) for i, word in enumerate(spelt))
        segments.append(Segment(start, end, text, words=words, speaker=draw(st.sampled_from(["", "x\ny"]))))
    return Result(tuple(segments), "a.mp3", "tiny", times[-1])


def letters(text: str) -> str:
    return "".join(re.findall("[ab日\U0001f600]", text))


@QUICK
@given(hostile_transcripts(), LINES)
def test_whatever_is_said_the_cues_are_sound_and_nothing_is_lost(result: Result, lines: Lines) -> None:
    said = "".join(letters(segment.text) for segment in result.segments)
    written = FORMATS["srt"].write(result, lines=lines)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800]", written)
    stamp = r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})"
    found = re.findall(rf"(\d+)\n{stamp} --> {stamp}\n((?:.+\n)*?)\n+(?=\d+\n\d|\Z)", written)
    assert [int(cue[0]) for cue in found] == list(range(1, len(found) + 1))
    assert written.count("-->") == len(found)
    stamps = [stamp for cue in found for stamp in (cue[1:5], cue[5:9])]
    times = [((int(h) * 60 + int(m)) * 60 + int(s)) * 1000 + int(ms) for h, m, s, ms in stamps]
    assert times == sorted(times)
    if not lines.highlight_words:
        assert letters("".join(cue[9].replace("[x y]: ", "") for cue in found)) == said
    for form in ("txt", "tsv"):
        rows = FORMATS[form].write(result).encode().decode().splitlines()[form == "tsv" :]
        assert len(rows) == len(result.segments)
        assert letters("".join(row.split("\t")[-1] for row in rows)) == said


def test_wishes_below_one_are_refused() -> None:
    for name in ("max_line_width", "max_line_count", "max_words_per_line"):
        with pytest.raises(OptionError, match=f"{name} is 0, expected at least 1"):
            Lines(**{name: 0})
