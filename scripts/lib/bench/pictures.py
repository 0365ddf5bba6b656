"""Charts of lines as SVG: both axes logarithmic, readable on light and dark ground, every line named at its end."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 840, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 270, 48, 48
# Told apart with any kind of colour vision; on light and on dark ground.
COLOURS = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9e5e"),
    ("#009e73", "#4fd1a5"),
    ("#aa4499", "#e08fcf"),
    ("#666666", "#b0b0b0"),
    ("#8a6d00", "#e6c84f"),
]


@dataclass
class Line:
    """Values by column, None where there is none."""

    name: str
    values: list
    # By number; two lines may share one.
    colour: int
    dashed: bool = False


def style():
    rules = ["text{font:12px sans-serif;fill:#333}", ".title{font-size:15px;font-weight:600}", ".grid{stroke:#ddd}", "path{fill:none;stroke-width:2}"]
    dark = ["text{fill:#ddd}", ".grid{stroke:#444}"]
    for number, (light, night) in enumerate(COLOURS):
        rules.append(f".c{number}{{stroke:{light}}}.f{number}{{fill:{light};stroke:none}}")
        dark.append(f".c{number}{{stroke:{night}}}.f{number}{{fill:{night}}}")
    return f"<style>{''.join(rules)}@media(prefers-color-scheme:dark){{{''.join(dark)}}}</style>"


def chart(title, x_title, y_title, columns, lines):
    """A whole picture, or None where there is nothing to show; `columns`: labels, evenly apart."""
    values = [value for line in lines for value in line.values if value]
    if not values:
        return None
    low, high = math.floor(math.log10(min(values)) * 3) / 3, math.ceil(math.log10(max(values)) * 3) / 3
    high = max(high, low + 1 / 3)
    x = lambda column: LEFT + (WIDTH - LEFT - RIGHT) * (column / max(len(columns) - 1, 1))
    y = lambda value: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (math.log10(value) - low) / (high - low)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', f"<title>{escape(title)}</title>", style()]
    parts.append(f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text><text x="{LEFT}" y="38">{escape(y_title)}</text>')
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for number, label in enumerate(columns):
        parts.append(f'<text x="{x(number):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(label)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    parts += draw(lines, x, y)
    return "\n".join(parts) + "\n</svg>\n"


def ticks(low, high):
    """1, 2 and 5 of each power of ten that is in sight."""
    for power in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            tick = step * 10.0**power
            if low - 1e-9 <= math.log10(tick) <= high + 1e-9:
                yield tick


def draw(lines, x, y):
    ends = []
    for line in lines:
        colour = line.colour % len(COLOURS)
        places = [(x(column), y(value)) for column, value in enumerate(line.values) if value]
        if not places:
            continue
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        path = " ".join(f"{'L' if at else 'M'}{px:.1f} {py:.1f}" for at, (px, py) in enumerate(places))
        yield f'<path class="c{colour}"{dash} d="{path}"/>'
        yield from (f'<circle class="f{colour}" cx="{px:.1f}" cy="{py:.1f}" r="3.5"/>' for px, py in places)
        ends.append([places[-1][1], line.name, colour])
    # Names that would stand on one another are moved apart, downwards.
    ends.sort()
    for above, below in zip(ends, ends[1:]):
        below[0] = max(below[0], above[0] + 15)
    for height, name, colour in ends:
        yield f'<text class="f{colour}" x="{WIDTH - RIGHT + 12}" y="{height + 4:.1f}">{escape(name)}</text>'
