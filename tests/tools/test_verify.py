"""Each check can pass, and each can fail: shown on a random pair, whose own values stand in for the published ones."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eardrop.backends import choose
from eardrop.bench.pairs import PAIRS, write_pair
from eardrop.errors import ModelFileError
from eardrop.gguf import open_gguf
from eardrop.gguf.mixes import MIXES
from eardrop.tools import measures
from eardrop.tools.clips import find
from eardrop.tools.compare import NotComparable, text, tokens, words
from eardrop.tools.measures import Spoken
from eardrop.tools.published import ANY, Fact, Reference, published
from eardrop.tools.subject import Precision, Subject, family_of
from eardrop.tools.verify import CHECKS, Check, Need, Report, Verdict, verify

CHIRP = Path(__file__).parent.parent / "data" / "micro" / "chirp1.wav"  # the micro model's answer to it ends
BY_ID = {check.id: check for check in CHECKS}

# What a fact of the micro pair needs other than the published one: two layers, one second, 960 tokens.
INPUTS: dict[str, dict[str, Any]] = {
    "backbone.layer2_attention": {"layer": 1},
    "backbone.layer2_attention_decode": {"layer": 1},
    "ls6930.mel_points": {"points": [[3, 10], [127, 90]]},
    "tokenizer.decode_cases": {"ids": [[300, 301], [5]]},
}
ASKED: dict[str, Any] = {  # measures that read from the expected value what to measure
    "gguf.projector_tensors": {"a.blk.0.ffn_up.bias": [], "mm.a.mlp.1.weight": []},
    "ls6930.greedy_tokens": range(99),
    "asr_wav.tokens": range(99),
}


def subject_of(name: str, form: str, folder: Path) -> Subject:
    micro = PAIRS["micro"]
    pair = replace(
        micro,
        name=name,
        sha256="",
        text=replace(micro.text, mix=MIXES[form]),
        audio=replace(micro.audio, mix=MIXES[form], sha256=""),
    )
    text_file, projector = (open_gguf(path) for path in write_pair(pair, folder))
    clips = dict.fromkeys(published().clips, CHIRP)
    return Subject(choose("numpy"), text=text_file, projector=projector, clips=clips, hashing=True)


def own_fact(check: Check, subject: Subject) -> Fact:
    """The published fact with the pair's own value in it."""
    fact = published().facts[check.id]
    fact = replace(fact, model=ANY, doubt="", inputs={**fact.inputs, **INPUTS.get(check.id, {})})
    fact = replace(fact, value=ASKED.get(check.id, fact.value))
    return replace(fact, value=as_published(check, check.measure(subject, fact)))


def as_published(check: Check, value: Any) -> Any:
    if check.measure is measures.first_logits:
        chances = value - np.log(np.exp(value, dtype=np.float64).sum())
        return [[int(token), float(chances[token])] for token in np.argsort(-value)[:5]]
    return value.ids if check.measure is measures.spoken else value


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    subject = subject_of("micro-f32", "F32", tmp_path_factory.mktemp("pair"))
    yield subject
    subject.close()


@pytest.fixture(scope="module")
def reference(subject: Subject) -> Reference:
    return replace(published(), facts={check.id: own_fact(check, subject) for check in CHECKS})


@pytest.fixture(scope="module")
def remembered(subject: Subject, reference: Reference) -> list[Check]:
    """The table, each measure computed once, but where it depends on what is expected."""
    values = {check.id: check.measure(subject, reference.facts[check.id]) for check in CHECKS}

    def measure(subject: Subject, fact: Fact) -> Any:
        same = BY_ID[fact.id].measure is not measures.spoken or fact.value == values[fact.id].ids
        return values[fact.id] if same else measures.spoken(subject, fact)

    return [replace(check, measure=measure) for check in CHECKS]


def failures(report: Report) -> set[str]:
    return {row.fact.id for row in report.rows if row.verdict is Verdict.FAIL}


def test_every_check_passes_with_the_values_of_the_model_itself(subject: Subject, reference: Reference) -> None:
    report = verify(subject, reference)
    assert {row.fact.id: row.why for row in report.rows if row.verdict is not Verdict.PASS} == {}
    assert not report.failed


def wrong(value: Any) -> Iterator[Any]:
    """The value with one part wrong, for each of its parts."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ({**value, key: changed} for changed in wrong(part))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in wrong(part))
        yield [*value, 4]
    elif isinstance(value, np.ndarray):
        for index in (0, -1):
            changed = np.array(value)
            changed.flat[index] += 0.1 * np.abs(value).max()
            yield changed
        yield np.full_like(value, np.nan)
    else:
        yield f"{value} extra" if isinstance(value, str) else 1 if value is None else value + 1


def variants(check: Check, value: Any) -> list[Any]:
    changed = list(wrong(value))
    if check.measure is measures.first_logits:  # always five
        return changed[:-1]
    return changed[:: len(changed) // 10] if check.measure is measures.spoken else changed[:40]


@pytest.mark.parametrize("id_", BY_ID)
def test_a_wrong_value_fails_its_check_and_no_other(
    id_: str, subject: Subject, reference: Reference, remembered: list[Check]
) -> None:
    fact = reference.facts[id_]
    for value in variants(BY_ID[id_], fact.value):
        other = replace(reference, facts={**reference.facts, id_: replace(fact, value=value)})
        assert failures(verify(subject, other, checks=remembered)) == {id_}, value


def test_a_model_of_another_shape_is_told_so_and_nothing_breaks(subject: Subject) -> None:
    report = verify(subject, published())
    reasons = {row.fact.id: (row.verdict, row.why) for row in report.rows}
    assert reasons["backbone.layer0_conv"] == (
        Verdict.NOT_COMPARABLE,
        "width: this model has 128, the published one 2048",
    )
    assert reasons["asr.prompt_prefix"][1] == "tokens: this model has 960, the published one 65536"
    assert {"shape.decoder", "shape.encoder", "tokenizer.vocabulary_size"} <= failures(report)
    assert all(check.id not in failures(report) for check in CHECKS if check.need.value.like)
    assert report.failed


@pytest.mark.parametrize(("factor", "verdict"), [(1.005, Verdict.PASS), (1.02, Verdict.FAIL)])
def test_sixteen_bits_are_compared_by_the_norms_of_rows(factor: float, verdict: Verdict, tmp_path: Path) -> None:
    subject = subject_of("micro-half", "F16", tmp_path)
    ids = ("backbone.layer0_conv", "backbone.layer2_attention_decode", "ls6930.adapter_rows", "question.adapter80")
    own = {check.id: own_fact(check, subject) for check in CHECKS if check.id in (*ids, "shape.decoder")}
    own["shape.encoder"] = own_fact(BY_ID["shape.encoder"], subject)
    larger = {
        id_: replace(own[id_], value={k: v * factor for k, v in own[id_].value.items()})
        if isinstance(own[id_].value, dict)
        else replace(own[id_], value=own[id_].value * factor)
        for id_ in ids
    }
    report = verify(subject, replace(published(), facts={**published().facts, **own, **larger}), only=ids)
    assert {row.verdict for row in report.rows} == {verdict}


def test_of_quantised_weights_only_words_are_compared(reference: Reference, tmp_path: Path) -> None:
    subject = subject_of("micro-q8_0", "Q8_0", tmp_path)
    report = verify(subject, reference, only=["backbone.*", "ls6930.adapter_rows", "*.greedy_tokens"])
    assert {row.why for row in report.rows} == {"of quantised weights, words alone can be compared"}
    assert Precision.BLOCKS in BY_ID["ls6930.transcript"].compare
    subject.close()


def test_one_layer_is_loaded_alone(subject: Subject, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    backend = choose("numpy")
    weight = backend.weight
    monkeypatch.setattr(backend, "weight", lambda tensor: taken.append(tensor.name) or weight(tensor))
    alone = Subject(backend, text=subject.text)
    assert not verify(alone, reference, only=["backbone.layer0_conv", "tokenizer.*", "asr.*"]).failed
    assert {name.split(".")[1] for name in taken} == {"0"}


def test_a_check_that_breaks_fails_and_the_others_go_on(subject: Subject, reference: Reference) -> None:
    def breaks(subject: Subject, fact: Fact) -> None:
        raise MemoryError

    def refuses(subject: Subject, fact: Fact) -> None:
        raise ModelFileError("tensor x is cut off")

    broken = [
        replace(BY_ID["tokenizer.bos"], measure=breaks),
        replace(BY_ID["tokenizer.eos"], measure=refuses),
        BY_ID["asr.stop_ids"],
    ]
    rows = verify(subject, reference, checks=broken).rows
    assert [(row.verdict.value, row.why) for row in rows] == [
        ("FAIL", "MemoryError: "),
        ("FAIL", "tensor x is cut off"),
        ("pass", ""),
    ]


def test_what_is_missing_is_named_and_nothing_fails() -> None:
    report = verify(Subject(choose("numpy")), published(), missing={"jfk": "the clip jfk couldn't be fetched"})
    why = {row.fact.id: row.why for row in report.rows if row.verdict is Verdict.NOT_RUN}
    assert set(BY_ID) - set(why) == {"reference.arrays"}
    assert why["tokenizer.bos"] == "needs the text file (-m)"
    assert why["ls6930.mel_points"] == "needs the clip ls_6930 (--audio or --fetch)"
    assert why["jfk.crispasr"].endswith("the clip jfk couldn't be fetched")
    assert report.rows[0].verdict is Verdict.PASS
    assert not report.failed


def test_without_leave_no_file_is_read_whole(subject: Subject, reference: Reference) -> None:
    timid = Subject(subject.backend, text=subject.text, projector=subject.projector)
    (row,) = verify(timid, reference, only=["gguf.sha256"]).rows
    assert (row.verdict, row.why) == (Verdict.NOT_RUN, "needs leave to read the files whole (--hash)")


def test_a_doubtful_value_that_differs_fails_nobody(subject: Subject, reference: Reference) -> None:
    fact = replace(reference.facts["tokenizer.merges"], value=1, doubt="read elsewhere")
    report = verify(subject, replace(reference, facts={**reference.facts, fact.id: fact}), only=[fact.id])
    assert report.rows[0].verdict is Verdict.NOT_COMPARABLE
    assert report.rows[0].why.endswith("doubtful itself: read elsewhere")


def of_models(reference: Reference, **models: tuple[str, Any]) -> Reference:
    """Facts given to a model, as id = (model, value)."""
    given = {id_.replace("__", "."): pair for id_, pair in models.items()}
    changed = {id_: replace(reference.facts[id_], model=model, value=value) for id_, (model, value) in given.items()}
    return replace(reference, facts={**reference.facts, **changed})


def test_a_model_without_a_name_is_the_one_whose_values_fit(subject: Subject, reference: Reference) -> None:
    merges, bos = reference.facts["tokenizer.merges"].value, reference.facts["tokenizer.bos"].value
    both = of_models(reference, tokenizer__merges=("LFM2.5", merges + 1), tokenizer__bos=("LFM2", bos))
    report = verify(subject, both, only=["tokenizer.merges", "tokenizer.bos"])
    assert (report.family, report.told, report.failed) == ("LFM2", False, False)
    assert report.rows[0].why == "it differs, and the values of LFM2 fit: this is another model"
    neither = of_models(both, tokenizer__bos=("LFM2", bos + 1))
    report = verify(subject, neither, only=["tokenizer.merges", "tokenizer.bos"])
    assert (report.family, report.count(Verdict.FAIL)) == (None, 2)


def test_values_of_another_model_are_not_compared(subject: Subject, reference: Reference) -> None:
    named = Subject(subject.backend, text=subject.text, family="LFM2")
    report = verify(named, of_models(reference, tokenizer__bos=("LFM2.5", 5)), only=["tokenizer.bos"])
    assert report.rows[0].why == "a value of LiquidAI/LFM2.5-Audio-1.5B, and this is LFM2"
    assert report.family == "LFM2"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("LFM2.5 Audio 1.5B", "LFM2.5"),
        ("lfm2_5-audio", "LFM2.5"),
        ("LFM2.5-Audio-1.5B-JP-F16", "LFM2.5-JP"),
        ("LFM2-Audio-1.5B", "LFM2"),
        ("LFM2 1.2B", None),
        ("c362a0625dfe", None),
    ],
)
def test_a_model_is_told_by_its_name(name: str, family: str | None, subject: Subject) -> None:
    class Named:
        facts = {"general.name": name}  # noqa: RUF012
        path = Path("model.gguf")

    assert family_of([Named()]) == family  # type: ignore[list-item]
    Named.facts, Named.path = {}, Path(f"{name}.gguf")
    assert family_of([Named()]) == family  # type: ignore[list-item]


def test_a_near_tie_is_no_failure_and_a_clear_choice_is() -> None:
    fact = replace(published().facts["ls6930.greedy_tokens"], value=[1, 2, 3])
    with pytest.raises(NotComparable, match=r"near tie: token 1 is 9, published 2, whose logit is 0\.01 lower"):
        tokens(0.02)(Spoken([1, 9, 3], 0.01), fact)
    assert tokens(0.02)(Spoken([1, 9, 3], 0.5), fact).note.endswith("0.5 lower")
    assert not tokens(0.02)(Spoken([1, 2], 0.5), fact).passed
    assert tokens(0.02)(Spoken([1, 2, 3]), fact).passed


def test_the_gap_of_another_token_is_measured_where_it_was_not_said(subject: Subject, reference: Reference) -> None:
    fact = reference.facts["ls6930.greedy_tokens"]
    scores = subject.logits("ls_6930", "Perform ASR.", fact.value[:3])
    assert int(scores.argmax()) == fact.value[3]
    other = replace(fact, value=[*fact.value[:3], 5])
    assert measures.spoken(subject, other).gap == pytest.approx(scores.max() - scores[5], abs=1e-5)
    longer, shorter = replace(fact, value=[*fact.value, 5]), replace(fact, value=fact.value[:-1])
    assert measures.spoken(subject, longer).gap > 0  # it should have gone on
    assert measures.spoken(subject, shorter).gap > 0  # it should have ended


def test_texts_are_compared_letter_by_letter_and_words_are_not() -> None:
    fact = replace(published().facts["ls7902.transcript"], value="I'm from the cutter.")
    assert text("I'm from the cutter.", fact).passed
    written = text("I’m from the Cutter", fact)
    assert (written.passed, written.distance) == (False, "the same words, written otherwise")
    assert words("I’m from the Cutter", fact).passed
    assert words("I am from the cutter", fact).distance == "2 of 4 words"
    assert text("Mr. Q", replace(fact, value=["Mister Q", "Mr. Q"])).passed


def test_the_real_front_end_gives_the_published_values(recordings: Path) -> None:
    clips = find(recordings / "speech", published().clips.values())
    report = verify(Subject(choose("numpy"), clips=clips), published(), only=["ls6930.mel_*"])
    assert [row.verdict for row in report.rows] == [Verdict.PASS, Verdict.PASS]


def test_every_check_has_a_fact_and_every_fact_a_check() -> None:
    reference = published()
    assert list(BY_ID) == list(dict.fromkeys(BY_ID)), "an id twice"
    assert set(BY_ID) == set(reference.facts)
    for fact in reference.facts.values():
        assert fact.model in {ANY, *reference.models}
        assert fact.sources
        assert all(map(reference.source, fact.sources))
        assert (fact.clip in reference.clips) is BY_ID[fact.id].need.value.clip
        assert BY_ID[fact.id].need is not Need.ALL or Precision.HALF in BY_ID[fact.id].compare


def test_what_ships_is_small_and_names_no_place_of_ours() -> None:
    path = Path(measures.__file__).with_name("reference.json")
    written = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= 250_000
    assert not [row for row in json.loads(written)["clips"].values() if "file" in row]
    assert "shared/" not in written


def test_the_formulas_are_those_of_the_published_rows() -> None:
    """A layer adds to what goes through it, so what went in can be seen in what came out."""
    facts = published().facts
    for id_ in ("backbone.layer0_conv", "backbone.layer2_attention"):
        fact = facts[id_]
        rows = measures.ramp(16, 2048)
        assert np.abs(fact.value["rows"] - rows[fact.inputs["rows"]]).max() < 0.25
        np.testing.assert_allclose(rows.sum(axis=1), fact.value["row_sum"], rtol=0.03)
    for id_ in ("backbone.layer0_conv_decode", "backbone.layer2_attention_decode"):
        now, past = (np.corrcoef(facts[id_].value["output"], measures.waves(1, 2048, phase))[0, 1] for phase in (1, 0))
        assert now > 0.85 > 0.7 > past


def test_the_page_names_every_check_with_what_it_needs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "verify.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"| `{check.id}` | {check.need.value.about} |" in page
    for clip in published().clips.values():
        assert f"| `{clip.id}` | {clip.licence.split(' (')[0].split(':')[0]} |" in page
