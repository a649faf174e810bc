"""What all figures share: their size and resolution, colours and axes."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch import Tensor

DPI = 200  # two pixels for each one of a page
# Text and lines are grey, which is read on white and on black: pages may be either, and figures have no background.
GREY = "#7d7d7d"
# Okabe & Ito's palette (2008), told apart by colour-blind readers as well.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7"
YELLOW = "#f0e442"
LINES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
RIGHT, WRONG = GREEN, VERMILION
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.facecolor": "none",
    "axes.labelcolor": GREY,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "grid.color": GREY,
    "text.color": GREY,
    "xtick.color": GREY,
    "xtick.labelsize": 8,
    "ytick.color": GREY,
    "ytick.labelsize": 8,
}


def new_figure(
    title: str, rows: int = 1, columns: int = 1, *, width: float = 6.5, height: float = 3.2, **options
) -> tuple[Figure, np.ndarray]:
    """A figure of `width`×`height` inches and its axes, an array (rows, columns); `options` as of `plt.subplots`.

    pyplot forgets it at once, so that a notebook shows it once, where it is the value of a cell.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", dpi=DPI, squeeze=False, **options
        )
        figure.suptitle(title, fontsize=11, color=GREY)
        plt.close(figure)
    return figure, axes


def draw_sentence(title: str, sentence: str) -> Figure:
    """A figure that says why there is nothing to see, so that a notebook goes on."""
    figure, [[axis]] = new_figure(title, height=1)
    axis.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=10, color=GREY, transform=axis.transAxes)
    hide_frame(axis)
    return figure


def draw_arrow(
    axis: plt.Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY, line: str = "-"
) -> None:
    """An arrow of a diagram, in the axis's own units."""
    shape = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.3}
    axis.add_patch(FancyArrowPatch(start, end, color=colour, linestyle=line, **shape))


def style_lines(axis: plt.Axes, x: str, y: str) -> None:
    """Axis labels and a light grid for an axis with lines."""
    axis.set(xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)


def label_lines(axis: plt.Axes) -> None:
    """Writes each labelled line's name beside its right end in the line's colour, instead of a legend."""
    lines = [line for line in axis.get_lines() if not line.get_label().startswith("_")]
    low, high = axis.get_ylim()
    least = 0.075 * (high - low)
    place = -math.inf
    for line in sorted(lines, key=lambda line: line.get_ydata()[-1]):
        place = max(line.get_ydata()[-1], place + least)  # labels don't cover each other
        axis.annotate(
            line.get_label(),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            color=line.get_color(),
            fontsize=9,
            va="center",
        )


def hide_frame(axis: plt.Axes) -> None:
    """Takes away an axis's ticks and frame."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def show_matrix(axis: plt.Axes, values: Tensor, names: Sequence[str], low: float, high: float) -> None:
    """A square matrix with its numbers, coloured from `low` to `high`, so that differences show; NaNs stay empty."""
    picture = axis.imshow(values.numpy(), cmap="viridis", vmin=low, vmax=high)
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            if math.isnan(value):
                continue
            colour = "white" if value < (low + high) / 2 else "black"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    turn = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 2 else {}
    axis.set_xticks(range(len(names)), names, **turn)
    axis.set_yticks(range(len(names)), names)
    axis.spines[:].set_visible(False)
    bar = axis.figure.colorbar(picture, ax=axis)
    bar.ax.tick_params(colors=GREY)
    bar.outline.set_visible(False)
