"""An evaluation as one page of HTML: no script, nothing loaded from elsewhere, every stranger's word escaped."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from eardrop.printable import printable
from eardrop.tools.bootstrap import Interval
from eardrop.tools.evaluate import Run, Scored, Summary
from eardrop.transcript.align import Counts, Pair

MOST_SHOWN = 300  # utterances with their words, the worst first: a page should open at once
MOST_MISTAKES = 12  # lines of each list
_KINDS = (("hit", "hits"), ("substituted", "substitutions"), ("deleted", "deletions"), ("inserted", "insertions"))
_SHARES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # upper edges of the histogram's bins, the last of which has none
_BINS = ("none", "to 5 %", "to 10 %", "to 20 %", "to 50 %", "to 100 %", "more")


def page(run: Run) -> str:
    """The whole document."""
    style = resources.files("eardrop.tools").joinpath("evaluation.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    parts = (_head, _tiles, _composition, _sets, _histogram, _mistakes, _utterances, _left_out, _about)
    body = "\n".join(part(run) for part in parts)
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{digest}'; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_shown(percent(run.whole.words.rate))} word errors: {_shown(run.about.get("corpus", "evaluation"))}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def percent(share: float | None, digits: int = 1) -> str:
    """A share for people; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def between(interval: Interval | None, digits: int = 1) -> str:
    """An interval of shares for people."""
    return f"{interval.low * 100:.{digits}f} … {interval.high * 100:.{digits}f} %" if interval else ""


def _shown(text: str) -> str:
    """A stranger's text: no markup, and no character that turns the line around."""
    return escape(printable(text))


def _head(run: Run) -> str:
    where = " · ".join(_shown(run.about[key]) for key in ("corpus", "model") if run.about.get(key))
    interval = (
        f', <span class="together">95 % interval {between(run.whole.interval)}</span>' if run.whole.interval else ""
    )
    words = run.whole.words
    return f"""\
<h1>{where}</h1>
<p class="rate">{percent(words.rate)}</p>
<p>word error rate: {words.edits:,} edits for {words.length:,} words in {len(run.scored):,} utterances{interval}</p>"""


def _tiles(run: Run) -> str:
    whole = run.whole
    tiles = [(percent(whole.character_rate), "character error rate", between(whole.character_interval))]
    for number, (_, kind) in list(zip(_parts(whole.words), _KINDS, strict=True))[1:]:
        share = percent(number / whole.words.length) if whole.words.length else "–"
        tiles.append((f"{number:,}", kind, f"{share} of words"))
    if whole.silent:
        tiles.append((percent(whole.spoke_on_silence, 0), "wrote on silence", f"of {len(whole.silent):,} recordings"))
    if whole.times_real_time:
        audio, spent = whole.seconds
        tiles.append((f"{whole.times_real_time:.1f} ×", "real time", f"{audio:,.0f} s in {spent:,.0f} s"))
    cells = "".join(f'<div class="tile"><b>{b}</b>{what}<br><span>{more}</span></div>' for b, what, more in tiles)
    return f'<div class="tiles">{cells}</div>'


def _parts(words: Counts) -> tuple[int, ...]:
    return words.hits, words.substitutions, words.deletions, words.insertions


def _composition(run: Run) -> str:
    """One bar of all words."""
    parts = _parts(run.whole.words)
    total, start, bars = max(1, sum(parts)), 0.0, ""
    for number, (kind, _) in zip(parts, _KINDS, strict=True):
        width = 100 * number / total
        bars += f'<rect class="{kind}" x="{start:.3f}" y="0" width="{width:.3f}" height="6"/>'
        start += width
    keys = "".join(
        f'<span class="together"><svg class="key" viewBox="0 0 1 1" aria-hidden="true">'
        f'<rect class="{kind}" width="1" height="1"/></svg>'
        f"{name} {number:,}</span>"
        for number, (kind, name) in zip(parts, _KINDS, strict=True)
    )
    return (
        '<figure><svg viewBox="0 0 100 6" height="28" preserveAspectRatio="none" role="img" '
        f'aria-label="all words by what became of them">{bars}</svg><figcaption>{keys}</figcaption></figure>'
    )


def _sets(run: Run) -> str:
    """A line for all, for speech alone, and for each group, its interval drawn to one scale."""
    sets = [run.whole, *run.parts]
    if len(sets) == 1:
        return ""
    ends = [part.interval.high if part.interval else part.words.rate or 0 for part in sets]
    most = min(max(*ends, 0.01), 1.0)  # a group beyond 100 % would make dots of all others
    rows = "".join(_set(part, most) for part in sets)
    heads = "".join(
        f"<th>{head}</th>"
        for head in ("set", "utterances", "words", "WER", f"0 … {percent(most, 0)}", "95 %", "CER", "real time")
    )
    return f'<h2>By group</h2><div class="scroll"><table><tr>{heads}</tr>{rows}</table></div>'


def _set(part: Summary, most: float) -> str:
    speed = f"{part.times_real_time:.1f} ×" if part.times_real_time else ""
    cells = (
        _shown(part.name), f"{len(part.scored):,}", f"{part.words.length:,}", percent(part.words.rate),
        _whisker(part, most), between(part.interval), percent(part.character_rate), speed,
    )  # fmt: skip
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _whisker(part: Summary, most: float) -> str:
    if part.words.rate is None:
        return f"{part.words.insertions:,} words inserted" if part.words.insertions else ""
    dot = f'<circle class="dot" cx="{4 + 172 * min(1, part.words.rate / most):.1f}" cy="8" r="3.5"/>'
    line = '<line class="axis" x1="4" x2="176" y1="8" y2="8"/>'
    if part.interval:
        ends = (4 + 172 * min(1, end / most) for end in (part.interval.low, part.interval.high))
        line += '<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="8" y2="8"/>'.format(*ends)
    return f'<svg viewBox="0 0 180 16" height="16" aria-hidden="true">{line}{dot}</svg>'


def _histogram(run: Run) -> str:
    """How many utterances have how many errors: a few that fail are another trouble than many small slips."""
    rates = [one.words.rate for one in run.scored if one.words.rate is not None]
    if len(rates) < 2:
        return ""
    counts = [0] * len(_BINS)
    for rate in rates:
        counts[sum(rate > edge for edge in _SHARES)] += 1
    bars = ""
    for place, (name, number) in enumerate(zip(_BINS, counts, strict=True)):
        height, x = 90 * number / max(counts), 100 * place
        bars += f'<rect class="bar" x="{x + 12}" y="{108 - height:.1f}" width="76" height="{height:.1f}"/>'
        bars += f'<text x="{x + 50}" y="{102 - height:.1f}" text-anchor="middle">{number:,}</text>'
        bars += f'<text x="{x + 50}" y="126" text-anchor="middle">{name}</text>'
    return (
        f'<h2>Utterances by their word error rate</h2><figure><svg viewBox="0 0 {100 * len(_BINS)} 132" role="img" '
        f'aria-label="number of utterances by word error rate">{bars}'
        f'<line class="axis" x1="0" x2="{100 * len(_BINS)}" y1="108.5" y2="108.5"/></svg></figure>'
    )


def _mistakes(run: Run) -> str:
    """The most frequent of each kind."""
    every = run.whole.mistakes.most_common()
    substituted = [(pair, n) for pair, n in every if None not in pair]
    deleted = [(pair, n) for pair, n in every if pair[1] is None]
    inserted = [(pair, n) for pair, n in every if pair[0] is None]
    lists = (("substitutions", substituted), ("deletions", deleted), ("insertions", inserted))
    columns = "".join(_column(name, pairs) for name, pairs in lists if pairs)
    return f'<h2>Most frequent mistakes</h2><div class="columns">{columns}</div>' if columns else ""


def _column(name: str, pairs: Sequence[tuple[Pair, int]]) -> str:
    rows = "".join(f"<tr><td>{_words([pair])}</td><td>{n:,}</td></tr>" for pair, n in pairs[:MOST_MISTAKES])
    return f'<div class="column"><h3>{name}</h3><table>{rows}</table></div>'


def _words(pairs: Iterable[Pair]) -> str:
    """Words side by side, as edits of the reference."""
    shown = []
    for said, heard in pairs:
        if said == heard:
            shown.append(_shown(said or ""))
        else:
            gone = f"<del>{_shown(said)}</del>" if said is not None else ""
            shown.append(gone + (f"<ins>{_shown(heard)}</ins>" if heard is not None else ""))
    return " ".join(shown)


def _utterances(run: Run) -> str:
    worst = run.worst
    if not worst:
        return "<h2>Utterances with mistakes</h2><p>None.</p>"
    rest = f"<p class='soft'>{len(worst) - MOST_SHOWN:,} more are not shown.</p>" if len(worst) > MOST_SHOWN else ""
    shown = "".join(_utterance(one, opened=place < 3) for place, one in enumerate(worst[:MOST_SHOWN]))
    return (
        f"<h2>Utterances with mistakes, the worst first</h2><p class='soft'>{len(worst):,} of {len(run.scored):,}. "
        f"<del>struck out</del> was said and not written, <ins>bold</ins> was written and not said.</p>{shown}{rest}"
    )


def _utterance(one: Scored, *, opened: bool) -> str:
    words = one.words
    rate = "silence" if one.silent else percent(words.rate, 0)
    counts = f"{words.edits:,} of {words.length:,}" if words.length else f"{words.insertions:,} inserted"
    error = f"<p>{_shown(one.heard.error)}</p>" if one.heard.error else ""
    return (
        f"<details{' open' if opened else ''}><summary><b>{rate}</b> {_shown(one.name)} "
        f'<span class="soft">{counts}</span></summary><div>{error}<p class="words">{_words(one.pairs)}</p>'
        f"<dl><dt>said</dt><dd>{_shown(one.reference.strip()) or '–'}</dd>"
        f"<dt>written</dt><dd>{_shown(one.heard.text.strip()) or '–'}</dd></dl></div></details>"
    )


def _left_out(run: Run) -> str:
    if not run.left_out:
        return ""
    rows = "".join(f"<dt>{_shown(name)}</dt><dd>{_shown(why)}</dd>" for name, why in run.left_out.items())
    summary = f"<summary>{len(run.left_out):,} recordings</summary>"
    return f"<h2>Not scored</h2><details>{summary}<div><dl>{rows}</dl></div></details>"


def _about(run: Run) -> str:
    facts = {**run.about, "normaliser": run.normalizer}
    rows = "".join(f"<dt>{_shown(key)}</dt><dd>{_shown(value)}</dd>" for key, value in facts.items())
    return (
        f"<h2>What was measured</h2><dl>{rows}</dl>"
        "<p class='soft'>Word error rate: substitutions, deletions and insertions, divided by the words of all "
        "references after normalisation. Words written on silence are insertions. Intervals: bootstrap over "
        "utterances. Speed: seconds of audio divided by seconds until all were texts, several at a time.</p>"
    )
