"""A table that reads well in a notebook (HTML), a terminal (text) and the README (Markdown), and what stands in it;
imports nothing heavy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; columns that hold a number are aligned right, all others and the first one left."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def is_right(self, column: int) -> bool:
        return column > 0 and any(re.match(r"[-+\N{MINUS SIGN}]?\d", row[column]) for row in self.rows)

    def _repr_html_(self) -> str:
        sides = ["right" if self.is_right(column) else "left" for column in range(len(self.header))]

        def line(cells: Sequence[str], tag: str) -> str:
            pairs = zip(cells, sides, strict=True)
            parts = (f"<{tag} style='text-align: {side}'>{escape(cell)}</{tag}>" for cell, side in pairs)
            return f"<tr>{''.join(parts)}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return f"<table><thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody></table>"

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]

        def pad(line: Sequence[str]) -> str:
            cells = [
                cell.rjust(width) if self.is_right(column) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            return "  ".join(cells).rstrip()

        return "\n".join([pad(self.header), "  ".join("-" * width for width in widths), *map(pad, self.rows)])

    __repr__ = __str__

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        rule = ["---:" if self.is_right(column) else "---" for column in range(len(self.header))]
        lines = [[cell.replace("|", r"\|") for cell in line] for line in (self.header, *self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def format_number(value: float | None, deviation: float | None = None, decimals: int = 3, sign: str = "") -> str:
    """A number, with its standard deviation if there is one; `sign="+"` for a difference; None was not scored."""
    if value is None:
        return "not scored"
    mean = f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # never a zero below zero
    return mean if deviation is None else f"{mean} ± {deviation:.{decimals}f}"


def flatten_scores(test: dict) -> dict[str, float | None]:
    """Scores by a name to read: `iou {pet: …}` becomes `iou pet`; lists, such as the swap matrix, are left out."""
    flat = {}
    for name, value in test.items():
        if isinstance(value, dict):
            flat |= {f"{name} {key}".replace("_", " "): part for key, part in flatten_scores(value).items()}
        elif not isinstance(value, list):
            flat[name.replace("_", " ")] = value
    return flat
