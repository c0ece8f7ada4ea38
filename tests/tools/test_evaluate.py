import json

import jiwer
import pytest

from eardrop.errors import OptionError
from eardrop.tools.corpus import Heard
from eardrop.tools.evaluate import Run, compare, read_run, score

SAID = {
    "a.wav": ("x", "It's twenty-one colours, Mr. Brown.", "it is 21 colors mister brown"),
    "b.wav": ("x", "the quick brown fox", "the quick brown ox jumps"),
    "c.wav": ("y", "one more thing to say", "more thing"),
    "d.wav": ("y", "[silence]", "Thank you."),
    "e.wav": ("y", "", ""),
}


def run(said=SAID, normalizer="english", **about):
    scored = [
        score(name, group, text, Heard(heard, 10.0, 2.0), normalizer=normalizer)
        for name, (group, text, heard) in said.items()
    ]
    return Run({"corpus": "made up", **about}, normalizer, scored, {"f.wav": "no text"})


def test_rates_are_sums_over_sums():
    words = run().whole.words
    assert (words.hits, words.substitutions, words.deletions, words.insertions) == (11, 1, 3, 3)
    assert words.rate == 7 / 15


def test_without_silence_the_rates_are_jiwers():
    loud = next(part for part in run().parts if part.name == "speech alone")
    reference = ["it is 21 colors mister brown", "the quick brown fox", "one more thing to say"]
    heard = [heard for _, _, heard in SAID.values()][:3]
    assert loud.words.rate == jiwer.wer(reference, heard)
    assert loud.character_rate == jiwer.cer(reference, heard)


def test_groups_and_silence_stand_by_themselves():
    found = run()
    assert [part.name for part in found.parts] == ["speech alone", "x", "y"]
    assert found.whole.spoke_on_silence == 0.5
    assert found.parts[0].spoke_on_silence is None
    assert len(found.whole.silent) == 2


def test_of_silence_alone_there_is_no_rate():
    whole = run({"d.wav": SAID["d.wav"], "e.wav": SAID["e.wav"]}).whole
    assert (whole.words.rate, whole.character_rate, whole.interval) == (None, None, None)
    assert whole.words.insertions == 2
    assert whole.spoke_on_silence == 0.5


def test_one_group_is_no_part():
    assert run({"b.wav": SAID["b.wav"]}).parts == []


def test_the_worst_come_first_and_what_is_right_not_at_all():
    assert [one.name for one in run().worst] == ["d.wav", "c.wav", "b.wav"]


def test_mistakes_are_counted():
    found = run({str(n): ("", "fox box", "ox box") for n in range(3)}).whole.mistakes
    assert found.most_common() == [(("fox", "ox"), 3)]


def test_speed_is_of_those_that_were_timed():
    found = run()
    assert found.whole.times_real_time == 5.0
    untimed = Run(found.about, "english", [score("z", "", "x", Heard("x"), normalizer="english")], {})
    assert untimed.whole.times_real_time is None


def test_a_run_is_read_as_it_was_written(tmp_path):
    found = run(model="m")
    (tmp_path / "run.json").write_text(json.dumps(found.facts()))
    again = read_run(tmp_path / "run.json")
    assert again == Run(found.about, "english", tuple(found.scored), found.left_out)
    assert again.facts() == found.facts()


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("schema"),
        lambda facts: facts.update(schema=0),
        lambda facts: facts.update(normalizer="french"),
        lambda facts: facts.update(utterances=3),
        lambda facts: facts["utterances"][0].pop("hypothesis"),
        lambda facts: facts["utterances"][0].update(time="soon"),
        lambda facts: facts.update(about=[]),
    ],
)
def test_another_file_is_told(damage, tmp_path):
    facts = run().facts()
    damage(facts)
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(OptionError, match=r"run\.json: expected what eardrop eval --json wrote"):
        read_run(tmp_path / "run.json")


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_what_is_no_json_is_told(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(OptionError, match="expected what eardrop eval --json wrote"):
        read_run(tmp_path / "run.json")


def better(said=SAID):
    return {**said, "c.wav": ("y", "one more thing to say", "one more thing to say")}


def test_two_runs_are_compared_in_pairs():
    found = compare(run(), run(better()))
    assert found.whole.words.value == pytest.approx(-3 / 15)
    assert [(a.name, a.words.edits, b.words.edits) for a, b in found.whole.changed] == [("c.wav", 3, 0)]
    assert found.whole.worse == 0
    assert [(one.name, one.words and one.words.value) for one in found.groups] == [
        ("x", 0.0),
        ("y", pytest.approx(-0.6)),
    ]
    assert found.whole.characters.value < 0


def test_what_one_run_has_alone_is_left_out():
    less = {name: row for name, row in SAID.items() if name != "a.wav"}
    found = compare(run(), run(less))
    assert found.alone == (["a.wav"], [])
    assert len(found.whole.before) == 4


def test_runs_that_answer_other_questions_are_refused():
    with pytest.raises(OptionError, match="A was normalised as english, B as basic"):
        compare(run(), run(normalizer="basic"))
    with pytest.raises(OptionError, match="no recording in common"):
        compare(run(), run({"z.wav": SAID["a.wav"]}))
    with pytest.raises(OptionError, match=r"1 recordings have other references in B, as b\.wav"):
        compare(run(), run({**SAID, "b.wav": ("x", "other words", "")}))


def test_a_reference_written_otherwise_is_the_same():
    compare(run(), run({**SAID, "b.wav": ("x", "The quick, brown fox!", "")}))
