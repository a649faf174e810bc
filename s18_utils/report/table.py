"""A table that reads well in a notebook (HTML), a terminal (text) and the README (Markdown), and what stands in it;
imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is aligned left, the others right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            left = [f"<{tag} style='text-align: left'>{escape(cells[0])}</{tag}>"]
            return "<tr>" + "".join(left + [f"<{tag}>{escape(cell)}</{tag}>" for cell in cells[1:]]) + "</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return f"<table><thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody></table>"

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]

        def pad(line: Sequence[str]) -> str:
            return "  ".join(
                [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
            )

        return "\n".join([pad(self.header), "  ".join("-" * width for width in widths), *map(pad, self.rows)])

    __repr__ = __str__

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return "\n".join("| " + " | ".join(line) + " |" for line in (self.header, rule, *self.rows))


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
