"""Curves as inline SVG whose colours are the page's own, so that one drawing is right in light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Generator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tutelage.evaluation.intervals import Floats

# Matplotlib cannot draw in CSS variables: it draws in these, and they are exchanged in the finished SVG.
_INK, _GRID, _CURVE, _FAINT = "#010203", "#040506", "#070809", "#0a0b0c"
_SERIES = tuple(f"#0{i:x}0{i:x}ff" for i in range(1, 9))
_VARIABLES = {
    _INK: "var(--muted)", _GRID: "var(--line)", _CURVE: "var(--accent)", _FAINT: "var(--accent-faint)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)},
}  # fmt: skip
_DASHES = ("-", "--", ":", "-.")  # beside colour, for those who do not see it
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.left": False,
    "xtick.bottom": False,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
}
# Of a chart without a legend, as shares of it. To measure what its labels take costs as much as two further drawings,
# and a run of many stages has a hundred of these charts. Six characters fit on the left, the last step on the right.
_MARGINS = {"left": 0.125, "right": 0.965, "bottom": 0.13, "top": 0.91}
_SMOOTH_FROM = 12  # steps; a shorter curve is shown as it is


def curve(title: str, steps: Sequence[int], values: Sequence[float | None]) -> str:
    """One metric over the steps of a stage, as `<svg>`. Long curves get a moving average over the faint points.

    Args:
        title: what a screen reader says instead of the picture.
        steps: the steps.
        values: the metric at each step; None is a gap.
    """
    x = np.array(steps, dtype=float)
    y = np.array([np.nan if value is None else value for value in values], dtype=float)
    smooth = moving_average(y)
    x, y, smooth = (thin(line) for line in (x, y, smooth))
    many = len(x) >= _SMOOTH_FROM
    with _drawing(title, (4.4, 2.0), _MARGINS) as (axes, out):
        if many:
            axes.plot(x, y, color=_FAINT, linewidth=1.0)
            axes.plot(x, smooth, color=_CURVE, linewidth=1.8)
        else:
            axes.plot(x, y, color=_CURVE, linewidth=1.8, marker="o", markersize=3)
        _over_steps(axes)
        _against_zero(axes, y)
    return _for_the_page(out.getvalue(), title)


def against(title: str, distance: Sequence[float], curves: Mapping[str, Sequence[float]]) -> str:
    """Several metrics over how far a policy has gone, as `<svg>`: a point for each step, and a moving average."""
    order = np.argsort(np.array(distance, dtype=float), kind="stable")
    x = np.array(distance, dtype=float)[order]
    with _drawing(title, (6.0, 2.6)) as (axes, out):
        for (name, values), dashes in zip(curves.items(), _DASHES * len(curves), strict=False):
            y = np.array(values, dtype=float)[order]
            axes.plot(x, y, color=_FAINT, linestyle="", marker="o", markersize=2)
            axes.plot(x, moving_average(y), color=_CURVE, linewidth=1.8, linestyle=dashes, label=name)
        axes.legend(frameon=False, fontsize=8)
        axes.margins(x=0.02, y=0.12)
    return _for_the_page(out.getvalue(), title)


def stacked(title: str, steps: Sequence[int], parts: Mapping[str, Sequence[float]]) -> str:
    """The parts of a whole over the steps, one on top of the other, as `<svg>`."""
    x = thin(np.array(steps, dtype=float))
    heights = [thin(np.array(values, dtype=float)) for values in parts.values()]
    with _drawing(title, (6.0, 2.4)) as (axes, out):
        axes.stackplot(x, heights, labels=list(parts), colors=_SERIES, linewidth=0)
        _legend(axes, parts)
        _over_steps(axes)
    return _for_the_page(out.getvalue(), title)


def lines(title: str, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], ordered: bool = True) -> str:
    """Named curves, x and y of each, in one drawing, as `<svg>`.

    Args:
        ordered: is x a number of steps? If not, each curve is its moving average in the order given, over its points.
    """
    with _drawing(title, (6.0, 2.6)) as (axes, out):
        for number, (name, (xs, ys)) in enumerate(curves.items()):
            colour, dashes = _SERIES[number % len(_SERIES)], _DASHES[number % len(_DASHES)]
            x, y = np.array(xs, dtype=float), np.array(ys, dtype=float)
            if ordered:
                x, y = thin(x), thin(y)
            else:
                axes.plot(thin(x), thin(y), color=colour, alpha=0.35, linestyle="", marker="o", markersize=2.5)
                x, y = thin(moving_average(x)), thin(moving_average(y))
            _named(axes, x, y, name, colour, dashes)
        _legend(axes, curves)
        if ordered:
            _over_steps(axes)
        _against_zero(axes, np.concatenate([np.array(ys, dtype=float) for _, ys in curves.values()]))
    return _for_the_page(out.getvalue(), title)


@dataclass(frozen=True, slots=True)
class Band:
    """A curve with how far single runs lie from it; low and high are the curve itself where there is one run."""

    name: str
    steps: Sequence[int]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def bands(title: str, curves: Sequence[Band | None]) -> str:
    """One metric of several recipes over the steps, as `<svg>`. None keeps a recipe's colour where it has no curve."""
    with _drawing(title, (4.4, 2.2), _MARGINS) as (axes, out):
        for number, band in enumerate(curves):
            if band is None:
                continue
            colour, dashes = _SERIES[number % len(_SERIES)], _DASHES[number % len(_DASHES)]
            x = thin(np.array(band.steps, dtype=float))
            low, middle, high = (
                thin(moving_average(np.array(line, dtype=float)) if len(line) >= _SMOOTH_FROM else np.array(line))
                for line in (band.low, band.middle, band.high)
            )
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            _named(axes, x, middle, band.name, colour, dashes)
        _over_steps(axes)
        _against_zero(axes, np.concatenate([np.array(band.low, dtype=float) for band in curves if band]))
    return _for_the_page(out.getvalue(), title)


@contextmanager
def _drawing(
    title: str, size: tuple[float, float], margins: Mapping[str, float] | None = None
) -> Generator[tuple[Axes, io.StringIO]]:
    """Axes to draw on; on leaving, the drawing is in the text. Without margins they are what labels and legend take."""
    out = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout=None if margins else "constrained")
        FigureCanvasSVG(figure)
        if margins:
            figure.subplots_adjust(**margins)
        axes = figure.add_subplot()
        yield axes, out
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _named(axes: Axes, x: Floats, y: Floats, name: str, colour: str, dashes: str) -> None:
    """One curve of several. A short one has points: what was measured once would not show as a line."""
    marker = "o" if len(x) < _SMOOTH_FROM else ""
    axes.plot(x, y, color=colour, linewidth=1.8, linestyle=dashes, marker=marker, markersize=3, label=name)


def _over_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.02, y=0.12)


def _against_zero(axes: Axes, y: Floats) -> None:
    """What comes near 0 is read against 0."""
    if not np.isnan(y).all() and 0 <= 2 * np.nanmin(y) <= np.nanmax(y):
        axes.set_ylim(bottom=0)


def _legend(axes: Axes, names: Sized) -> None:
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=min(3, len(names)), loc="lower left", bbox_to_anchor=(0.0, 1.0))


def thin(values: Floats) -> Floats:
    """At most 200 points: more cannot be told apart in a chart this wide, and a long run's page would not load."""
    parts = min(len(values), 200)
    return np.array([part[len(part) // 2] for part in np.array_split(values, parts)]) if parts else values


def moving_average(values: Floats) -> Floats:
    """A centred mean over a tenth of the curve; at its ends over what there is. Gaps take no part."""
    half = max(1, len(values) // 20)
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    number = counts[high] - counts[low]
    return np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), np.nan)


def _for_the_page(svg: str, title: str) -> str:
    """The `<svg>` element alone: in the page's colours, as wide as its place, with a name, without foreign ids."""
    svg = svg[svg.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    box = re.search(r'viewBox="[^"]+"', svg)
    name = html.escape(title)
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{name}">'
    svg = head + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?![mp][0-9a-f]+")[^"]*"', "", svg)  # all but markers and clip paths: they are used
    return re.sub(r" font-family: [^;\"]*;", "", svg)
