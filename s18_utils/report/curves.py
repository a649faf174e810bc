"""Curves of a training: each term of the loss, and what the epoch is chosen by."""

import math

from matplotlib.figure import Figure

from s18_utils.records import Record
from s18_utils.report.style import BLUE, VERMILION, label_lines, new_figure, style_lines

# (training column, validation column, axis label) of each panel, by family.
PANELS = {
    "unet": (("train_loss", "val_loss", "loss"), (None, "val_mean_iou", "mean IoU")),
    "cvae": (
        ("train_nll", "val_nll", "negative log-likelihood"),
        ("train_kl", "val_kl", "KL divergence"),
        ("train_label_true", "val_label_true", "label loss, true label"),
        ("train_label_swapped", "val_label_swapped", "label loss, wrong label"),
    ),
    "classifier": (("train_loss", "val_loss", "loss"), (None, "val_accuracy", "accuracy")),
}


def draw_curves(record: Record) -> Figure:
    """Each term of the loss, and what checkpoints are chosen by, against the epoch; a line for each seed."""
    panels = PANELS[record.family]
    lines = len(panels) // 2  # two panels side by side, so that a page is wide enough
    figure, axes = new_figure(record.title(), rows=lines, columns=2, width=8, height=0.2 + 3 * lines)
    seeds = sorted({row["seed"] for row in record.history})
    for axis, (training, validation, label) in zip(axes.flat, panels, strict=True):
        for seed in seeds:
            rows = [row for row in record.history if row["seed"] == seed]
            epochs = [row["epoch"] for row in rows]
            for column, name, style, colour in (
                (training, "training", ":", BLUE),
                (validation, "validation", "-", VERMILION),
            ):
                if column:
                    values = [row.get(column, math.nan) for row in rows]  # a term may join in later
                    marker = "o" if len(rows) < 3 else None  # a line of one point can't be seen
                    shown = name if seed == seeds[0] else f"_{name} {seed}"
                    axis.plot(epochs, values, style, color=colour, label=shown, marker=marker)
        axis.xaxis.get_major_locator().set_params(integer=True)
        style_lines(axis, "epoch", label)
        label_lines(axis)
    return figure
