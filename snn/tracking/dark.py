"""Figures on a dark page: each colour of the one style has a dark twin, and an SVG carries the rule that swaps them.

The colours that stand in the file are those for white paper. A browser that is set to dark uses the twins; whatever
does not know the rule (editors, converters for papers) shows the light figure.
"""

from __future__ import annotations

#: Colour on white → on dark, each told apart as well as before, and read on its ground with a contrast of 4.5 or more
#: where it colours text.
DARK = {
    "#ffffff": "#15181b",  # paper
    "#1a1a1a": "#e6e8ea",  # ink
    "#000000": "#ffffff",
    "#444444": "#b8bdc2",
    "#767676": "#8f969c",
    "#cccccc": "#4a5056",
    "#e6e6e6": "#2d3236",
    "#bbd4e6": "#35536a",
    "#0072b2": "#4aa3e0",
    "#d55e00": "#ee7733",
    "#009e73": "#2cc295",
    "#cc79a7": "#e09bc2",
    "#e69f00": "#f0b73a",
    "#56b4e9": "#9bd3f5",
}


def dark_rules() -> str:
    """CSS that swaps the colours of a figure where the reader prefers dark ones."""
    swaps = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark} !important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{swaps}}}"


def with_dark(svg: str) -> str:
    """An SVG that matplotlib wrote, with :func:`dark_rules` in it."""
    return svg.replace("</style>", f"{dark_rules()}</style>", 1)
