"""docs/benchmarks.svg: the rates of benchmark 1, drawn from docs/benchmarks.json.

`python -m benches.picture` redraws it. The colours are legible on white and on black.
"""

import json
from html import escape
from statistics import median

from .document import DOCS, RESULTS
from .table import number

PICTURE = DOCS / "benchmarks.svg"
WIDTH, LEFT, RIGHT = 860, 210, 150  # widths of the picture, the names and the numbers
BAR, GAP, HEAD = 20, 8, 40
TEXT, LIMIT, OURS, PEER = "#7d8590", "#8b949e", "#2f81f7", "#c2803a"


def draw() -> None:
    panels = json.loads(RESULTS.read_text())["throughput"]
    parts, top = [], 0
    for customers in sorted(panels, key=int, reverse=True):
        rates = {name: each["rate"] for name, each in panels[customers].items()}
        parts += panel(f"Batches of {number(int(customers))} customers: rows per second", rates, top)
        top += HEAD + len(rates) * (BAR + GAP) + GAP
    style = "font-family: system-ui, sans-serif; font-size: 13px"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" style="{style}">'
    title = "<title>Rows per second from Kafka into Postgres: the reader, COPY alone, and three peers</title>"
    PICTURE.write_text("\n".join([head, title, *parts, "</svg>"]) + "\n")


def panel(title: str, rates: dict[str, list[float]], top: int) -> list[str]:
    """A bar up to the median, and a line from the least to the greatest value."""
    scale = (WIDTH - LEFT - RIGHT) / max(max(each) for each in rates.values())
    parts = [text(0, top + 24, title, "start", "font-weight: 600")]
    for i, (name, values) in enumerate(rates.items()):
        y = top + HEAD + i * (BAR + GAP)
        middle, width = y + BAR / 2, median(values) * scale
        ends = [LEFT + value * scale for value in (min(values), max(values))]
        parts.append(text(LEFT - 10, middle + 5, name.replace("`", ""), "end"))
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{max(1, width):.1f}" height="{BAR}" rx="2" fill="{colour(name)}"/>'
        )
        line = f'x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}"'
        parts.append(f'<line {line} stroke="{TEXT}" stroke-width="2"/>')
        parts.append(text(max(LEFT + width, ends[1]) + 8, middle + 5, number(median(values)), "start"))
    return parts


def colour(name: str) -> str:
    return OURS if name.startswith("reader") else PEER if name.startswith("peer") else LIMIT


def text(x: float, y: float, words: str, anchor: str, style: str = "") -> str:
    styled = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{TEXT}"{styled}>{escape(words)}</text>'


if __name__ == "__main__":
    draw()
