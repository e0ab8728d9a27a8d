"""Curves as inline SVG whose colours are the page's own, so that one drawing is right in light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tutelage.evaluation.intervals import Floats

# Matplotlib cannot draw in CSS variables: it draws in these, and they are exchanged in the finished SVG.
_INK, _GRID, _CURVE, _FAINT = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "var(--muted)", _GRID: "var(--line)", _CURVE: "var(--accent)", _FAINT: "var(--accent-faint)"}
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
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.4, 2.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        if many:
            axes.plot(x, y, color=_FAINT, linewidth=1.0)
            axes.plot(x, smooth, color=_CURVE, linewidth=1.8)
        else:
            axes.plot(x, y, color=_CURVE, linewidth=1.8, marker="o", markersize=3)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", visible=False)
        axes.margins(x=0.02, y=0.12)
        if 0 <= 2 * np.nanmin(y) <= np.nanmax(y):
            axes.set_ylim(bottom=0)  # what comes near 0 is read against 0
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_the_page(out.getvalue(), title)


def against(title: str, distance: Sequence[float], curves: Mapping[str, Sequence[float]]) -> str:
    """Several metrics over how far a policy has gone, as `<svg>`: a point for each step, and a moving average."""
    order = np.argsort(np.array(distance, dtype=float), kind="stable")
    x = np.array(distance, dtype=float)[order]
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(6.0, 2.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for (name, values), dashes in zip(curves.items(), ("-", "--", ":", "-.") * len(curves), strict=False):
            y = np.array(values, dtype=float)[order]
            axes.plot(x, y, color=_FAINT, linestyle="", marker="o", markersize=2)
            axes.plot(x, moving_average(y), color=_CURVE, linewidth=1.8, linestyle=dashes, label=name)
        axes.legend(frameon=False, fontsize=8)
        axes.margins(x=0.02, y=0.12)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_the_page(out.getvalue(), title)


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
