"""Ratios as a bar chart: an SVG of its own, in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_BAR, _GAP, _LABEL, _WIDTH, _TOP = 18, 10, 190, 420, 44


def bars(title: str, values: Mapping[str, float], targets: Mapping[str, float]) -> str:
    """One bar a value, with a mark where its target is; the line at 1 is the limit."""
    scale = _WIDTH / max([1.0, *values.values(), *targets.values()])
    height = _TOP + len(values) * (_BAR + _GAP) + 10
    one = _LABEL + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _WIDTH + 70}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(title)}</text>',
        f'<line x1="{one:.0f}" y1="{_TOP - 12}" x2="{one:.0f}" y2="{height - 6}" stroke="#888"/>',
        f'<text x="{one:.0f}" y="{_TOP - 15}" text-anchor="middle" fill="#555">1</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        top = _TOP + number * (_BAR + _GAP)
        target = targets.get(name)
        colour = "#3b7dd8" if target is None or value >= target else "#d8743b"
        middle = top + _BAR * 0.72
        parts += [
            f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{value * scale:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LABEL + value * scale + 6:.0f}" y="{middle:.0f}">{value:.2f}</text>',
        ]
        if target is not None:
            at = _LABEL + target * scale
            parts.append(
                f'<line x1="{at:.1f}" y1="{top - 3}" x2="{at:.1f}" y2="{top + _BAR + 3}" stroke="black"'
                f' stroke-width="2"><title>target {target:g}</title></line>'
            )
    return "\n".join([*parts, "</svg>", ""])
