"""Charts as SVG, drawn here: no library in the browser, and they are there when the page is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from mooring.logs.stats import Point, Series

WIDTH: Final = 640
HEIGHT: Final = 132
_LEFT, _BOTTOM, _TOP = 40, 18, 8

Label = Callable[[float], str]


def _frame(label: str, inside: Sequence[str], top: float, show: Label, points: Sequence[Point]) -> str:
    """The axes: a line at the bottom, the middle and the top, and the first, middle and last time."""
    base, height = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = base - height * share
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(show(top * share))}</text>')
    if points:
        form = "%H:%M" if (points[-1].at - points[0].at).total_seconds() < 2 * 86400 else "%d.%m."
        for index, anchor in ((0, "start"), (len(points) // 2, "middle"), (len(points) - 1, "end")):
            x = _LEFT + (WIDTH - _LEFT) * (index / max(1, len(points) - 1))
            text = points[index].at.strftime(form)
            lines.append(f'<text x="{x:.1f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{text}</text>')
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(lines)}{''.join(inside)}</svg>"
    )


def _nice(value: float) -> float:
    """The next round number, so that the axis can be read."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if power * step >= value)


def bars(series: Series, label: str) -> str:
    """Calls per step, with the failed ones at the foot of each bar."""
    top = _nice(max((p.calls for p in series.points), default=0))
    base, height = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT) / max(1, len(series.points))
    out = []
    for index, point in enumerate(series.points):
        x, width = _LEFT + index * step, max(1.0, step - 1.5)
        tall, failed = height * point.calls / top, height * point.errors / top
        if point.calls:
            out.append(
                f'<rect class="calls" x="{x:.1f}" y="{base - tall:.1f}" width="{width:.1f}" height="{tall:.1f}"/>'
            )
        if point.errors:
            failed = max(failed, 2.0)
            out.append(
                f'<rect class="errors" x="{x:.1f}" y="{base - failed:.1f}" width="{width:.1f}" height="{failed:.1f}"/>'
            )
        title = f"{point.at:%Y-%m-%d %H:%M} UTC: {point.calls}, {point.errors} failed, p95 {point.p95_ms:.0f} ms"
        out.append(
            f'<rect class="hit" x="{x:.1f}" y="{_TOP}" width="{step:.1f}" height="{height}"><title>{title}</title></rect>'
        )
    return _frame(label, out, top, _count, series.points)


def curve(series: Series, label: str) -> str:
    """The 95th percentile of latency per step."""
    top = _nice(max((p.p95_ms for p in series.points), default=0))
    base, height = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT) / max(1, len(series.points))
    out, run = [], []
    for index, point in enumerate([*series.points, None]):
        if point is not None and point.calls:
            run.append(f"{_LEFT + (index + 0.5) * step:.1f},{base - height * point.p95_ms / top:.1f}")
            continue
        if len(run) == 1:
            x, y = run[0].split(",")
            out.append(f'<circle class="calls" cx="{x}" cy="{y}" r="2"/>')
        elif run:
            out.append(f'<polyline class="line" points="{" ".join(run)}"/>')
        run = []
    return _frame(label, out, top, _ms, series.points)


def spark(series: Series) -> str:
    """A chart for a table's cell; the numbers stand beside it."""
    top = max((p.calls for p in series.points), default=0) or 1
    step = 120 / max(1, len(series.points))
    out = []
    for index, point in enumerate(series.points):
        tall, failed = 22 * point.calls / top, 22 * point.errors / top
        x = f'x="{index * step:.1f}" width="{max(1.0, step - 0.6):.1f}"'
        if point.calls:
            out.append(f'<rect class="calls" {x} y="{23 - tall:.1f}" height="{max(tall, 1):.1f}"/>')
        if point.errors:
            out.append(f'<rect class="errors" {x} y="{23 - max(failed, 1.5):.1f}" height="{max(failed, 1.5):.1f}"/>')
    return (
        f'<svg class="chart spark" viewBox="0 0 120 24" width="120" height="24" aria-hidden="true">{"".join(out)}</svg>'
    )


def _count(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _ms(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g}"
