"""A review as a picture: the stages as bars, and the operations under the roof that the machine sets them."""

from pathlib import Path
from typing import Any

from eardrop.errors import MissingExtra, OptionError
from eardrop.printable import printable

SUFFIXES = (".png", ".svg")
LABELLED = 6  # operations, those that take most of the time; the others would lie on one another
_BLUE, _PALE, _RED = "#3b6ea5", "#b9cde3", "#b5483a"


def check(path: Path) -> None:
    """Raise, before anything is measured, where no picture can be drawn or the name's suffix is none we draw."""
    if path.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{printable(path.name)}: a picture's name ends in {' or '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtra("pictures need matplotlib; install it with: pip install 'eardrop[bench]'") from None


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw the review; the operations need a review that timed them."""
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15 if "gpu" in report else 11, 4.8), layout="constrained")
    parts = [_stages, _roofline, *([_streams] if "gpu" in report else [])]
    for draw, axes in zip(parts, figure.subplots(1, len(parts), width_ratios=(1, 1.15, 1)[: len(parts)]), strict=True):
        draw(axes, report)
    names = ", ".join(printable(file["name"]) for file in report["files"][:1])
    flags = report["flags"]
    figure.suptitle(
        f"{names} · {report['audio_seconds']:.1f} s of audio · {flags['backend']}, {flags['threads']} threads\n"
        f"{report['machine']['processor']} · eardrop {report['versions']['eardrop']} · {report['date'][:10]}",
        fontsize=10,
        parse_math=False,
    )
    figure.savefig(path, dpi=150)


def _stages(axes: Any, report: dict[str, Any]) -> None:
    """A bar each: what the stage has to itself, and behind it what it holds, with the interval."""
    stages = report["stages"][::-1]
    names = [f"{s['stage']}  × {s['calls']}" if s["calls"] > 1 else s["stage"] for s in stages]
    whole = [s["inclusive"]["median"] * 1e3 for s in stages]
    own = [s["own"]["median"] * 1e3 for s in stages]
    away = [
        [1e3 * (s["inclusive"]["median"] - s["inclusive"]["low"]) for s in stages],
        [1e3 * (s["inclusive"]["high"] - s["inclusive"]["median"]) for s in stages],
    ]
    axes.barh(
        names, whole, color=_PALE, xerr=away, error_kw={"ecolor": "#444", "capsize": 2}, label="with what it holds"
    )
    axes.barh(names, own, color=_BLUE, height=0.45, label="itself")
    for place, spent in enumerate(whole):  # behind the interval, to be legible
        end = (spent + away[1][place], place)
        axes.annotate(f"{spent:,.1f}", end, xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.14)
    axes.set(title="stages", xlabel="ms, median and 95 % interval")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _roofline(axes: Any, report: dict[str, Any]) -> None:
    """Operations by what they compute for a byte, and how fast; no point can lie above the line."""
    axes.set(title="operations under the roof", xlabel="operations for each byte", ylabel="GFLOP/s")
    speeds = [line for line in report.get("operations", ()) if line["flops"] and line["bytes"] and line["seconds"]]
    if not speeds:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    total = sum(line["seconds"] for line in speeds)
    x = [line["flops"] / line["bytes"] for line in speeds]
    y = [line["flops"] / line["seconds"] / 1e9 for line in speeds]
    axes.scatter(x, y, s=[20 + 600 * line["seconds"] / total for line in speeds], color=_BLUE, alpha=0.6, lw=0)
    for line, place in list(zip(speeds, zip(x, y, strict=True), strict=True))[:LABELLED]:
        axes.annotate(line["op"], place, xytext=(6, 4), textcoords="offset points", fontsize=8)
    bandwidth, peak = report["figures"]["read bandwidth"]["median"] / 1e9, report["product_peak"] / 1e9
    ridge, ends = peak / bandwidth, (min(x) / 2, max(*x, peak / bandwidth) * 4)
    axes.plot([ends[0], ridge, ends[1]], [ends[0] * bandwidth, peak, peak], color=_RED, lw=1.2)
    here = "reads {:.0f} GB/s; NumPy's float32 product {:,.0f} GFLOP/s"
    on_gpu = "the GPU copies {:.0f} GB/s; its product of halves {:,.0f} GFLOP/s"
    axes.annotate(
        (on_gpu if "gpu" in report else here).format(bandwidth, peak),
        (ends[1], peak), xytext=(0, 5), textcoords="offset points", ha="right", fontsize=8, color=_RED,
    )  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)


def _streams(axes: Any, report: dict[str, Any]) -> None:
    """Tokens a second of so many streams together."""
    lines = report["gpu"]["streams"]
    axes.set(title="streams together", xlabel="streams", ylabel="tokens a second")
    axes.plot([line["streams"] for line in lines], [line["rate"]["median"] for line in lines], "o-", color=_BLUE)
    for line in lines:
        place = (line["streams"], line["rate"]["median"])
        axes.annotate(f"{line['rate']['median']:,.0f}", place, xytext=(5, -3), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
