"""Plots of conditional VAEs' scores: which swaps are read as asked, and agreement against variety."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from s18_utils.cvae.variety import find_variety
from s18_utils.records import Record
from s18_utils.report.style import BLUE, GREEN, GREY, ORANGE, VERMILION, new_figure, show_matrix, style_lines
from s18_utils.report.table import Table, format_number

MODEL = {"swapped": ("o", BLUE), "true_label": ("D", BLUE)}  # markers and colours
CONTROLS = {"real": ("*", GREEN), "template": ("X", VERMILION), "nearest": ("s", ORANGE)}
NAMES = {
    "swapped": "swapped",
    "true_label": "true label",
    "real": "real images, held aside",
    "template": "template painter",
    "nearest": "nearest neighbour of the class",
}

WORST = 5  # pairs that are named
LETTER = 0.0135  # of the width of the plot of agreement against coverage


def draw_matrix(record: Record) -> Figure:
    """How often all judges read the asked label, for each pair of true and asked label; the worst pairs are named.

    The colours run from the worst swap to 100 %, so that differences show; the diagonal, which is no swap, stays empty.
    """
    names, agreement = record.data["classes"], 100 * torch.tensor(record.test["swap_matrix"])
    agreement = agreement.fill_diagonal_(math.nan)
    swaps = agreement.nan_to_num(math.inf)
    title = f"{record.title()}: judges read what was asked, in per cent\n{describe_swaps(record)}"
    figure, [[axis]] = new_figure(title, width=7.4, height=6.2)
    show_matrix(axis, agreement, names, min(math.floor(swaps.min()), 99), 100)
    axis.set(xlabel="asked", ylabel="true")
    places = swaps.flatten().argsort()[: min(WORST, len(names) * (len(names) - 1))]
    worst = [divmod(place, len(names)) for place in places.tolist()]
    for true, asked in worst:
        corner = asked - 0.47, true - 0.47
        axis.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=VERMILION, linewidth=2))
    pairs = [f"{names[true]} → {names[asked]} {agreement[true, asked]:.1f}" for true, asked in worst]
    text = "worst, framed: " + ",\n".join(", ".join(pairs[i : i + 3]) for i in range(0, len(pairs), 3))
    figure.supxlabel(text, fontsize=8.5, color=VERMILION)
    return figure


def describe_swaps(record: Record) -> str:
    """The two numbers that a claim about swaps has to name together."""
    swapped, real = find_variety(record.test, "swapped"), find_variety(record.test, "real")
    agreement = f"{swapped['agreement']:.1%} of swaps agree"
    if swapped["coverage"] is None:
        return f"{agreement}; their variety is not scored"
    return (
        f"{agreement} and cover {swapped['coverage']:.0%} of the real images (held-aside ones: {real['coverage']:.0%})"
    )


def draw_variety(records: Sequence[Record]) -> Figure:
    """Agreement against coverage: conditional VAEs, and what the first of them is held against.

    Right and high is good: pictures that are read as asked *and* are as varied as real images.
    """
    several = len(records) > 1
    points = {
        f"{record.label(records)}, {NAMES[name]}" if several else NAMES[name]: (record, name)
        for record in records
        for name in MODEL
    }
    points |= {NAMES[name]: (records[0], name) for name in CONTROLS}
    scores = {label: find_variety(record.test, name) for label, (record, name) in points.items()}
    scored = [label for label in points if scores[label]["coverage"] is not None]
    subject = "Are swaps" if several else f"{records[0].title()}: are swaps"
    figure, [[axis]] = new_figure(f"{subject} read as asked, and as varied as real images?", width=7, height=4.4)
    low = min((scores[label]["agreement"] for label in scored), default=0)
    room = 0.08 * max(1 - low, 0.01)
    axis.set(xlim=(-0.03, 1.03), ylim=(low - room, 1 + room))
    texts = []
    for label in scored:
        marker, colour = (MODEL | CONTROLS)[points[label][1]]
        place = scores[label]["coverage"], scores[label]["agreement"]
        axis.plot(*place, marker, color=colour, markerfacecolor="none" if marker == "D" else colour, markersize=9)
        texts.append((*place, label, colour))
    label_points(axis, texts)
    style_lines(axis, "coverage of the real images of the class", "all judges read the class")
    if missing := [label for label in points if label not in scored]:
        text = "not scored: " + ",\n".join(missing)
        axis.text(0.5, 0.5, text, color=GREY, transform=axis.transAxes, ha="center", va="center")
    return figure


def list_variety(record: Record) -> Table:
    """Agreement and variety of a conditional VAE's drawings, of real images, and of the cheap painters."""
    rows = []
    for painter, name in NAMES.items():
        scores = find_variety(record.test, painter)
        rows.append([name, *map(format_number, scores.values())])
    return Table(["pictures", *scores], rows)


def label_points(axis: plt.Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes the name of each point (x, y, name, colour) beside it, on the side with room, lower where one stands."""
    low, high = axis.get_ylim()
    line = 0.065 * (high - low)
    taken: list[tuple[float, float, float]] = []
    for x, y, name, colour in sorted(points, key=lambda point: -point[1]):
        left = x > 0.6
        start = x - 0.02 - LETTER * len(name) if left else x + 0.02
        end = start + LETTER * len(name)
        place = min([y, *(height - line for a, b, height in taken if a < end and start < b and height - line < y)])
        taken.append((start, end, place))
        axis.text(
            end if left else start, place, name, color=colour, fontsize=9, va="center", ha="right" if left else "left"
        )
