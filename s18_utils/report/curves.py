"""Curves of a training: each term of the loss, and what the epoch is chosen by."""

import math

from matplotlib.figure import Figure

from s18_utils.records import Record
from s18_utils.report.style import BLUE, VERMILION, label_lines, new_figure, style_lines

# The axis label of each panel, and its lines: name and column of the history; by family.
PANELS = {
    "unet": {
        "loss": {"training": "train_loss", "validation": "val_loss"},
        "mean IoU": {"validation": "val_mean_iou"},
    },
    "cvae": {
        "loss": {"training": "train_loss", "validation": "val_loss"},
        "negative log-likelihood": {"training": "train_nll", "validation": "val_nll"},
        "KL divergence": {"training": "train_kl", "validation": "val_kl"},
        "label loss, true label": {"training": "train_label_true", "validation": "val_label_true"},
        "label loss, wrong label": {"training": "train_label_swapped", "validation": "val_label_swapped"},
        "adversarial loss": {"drawings": "train_adversarial", "discriminator": "train_discriminator"},
    },
    "classifier": {
        "loss": {"training": "train_loss", "validation": "val_loss"},
        "accuracy": {"validation": "val_accuracy"},
    },
}
STYLES = {"training": (":", BLUE), "validation": ("-", VERMILION)}
STYLES |= {"drawings": (":", BLUE), "discriminator": ("--", BLUE)}  # both of training


def draw_curves(record: Record) -> Figure:
    """Each term of the loss, and what checkpoints are chosen by, against the epoch; a line for each seed."""
    known = {column for row in record.history for column in row}
    panels = {label: lines for label, lines in PANELS[record.family].items() if known & set(lines.values())}
    panels = panels or PANELS[record.family]  # of a history that says nothing, empty ones
    rows = -(-len(panels) // 2)  # two panels side by side, so that a page is wide enough
    figure, axes = new_figure(record.title(), rows=rows, columns=2, width=8, height=0.2 + 3 * rows)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    seeds = sorted({row["seed"] for row in record.history})
    for axis, (label, lines) in zip(axes.flat, panels.items(), strict=False):
        for seed in seeds:
            history = [row for row in record.history if row["seed"] == seed]
            epochs = [row["epoch"] for row in history]
            marker = "o" if len(history) < 3 else None  # a line of one point can't be seen
            for name, column in lines.items():
                values = [row.get(column, math.nan) for row in history]  # a term may join in later
                shown, (style, colour) = name if seed == seeds[0] else f"_{name} {seed}", STYLES[name]
                axis.plot(epochs, values, style, color=colour, label=shown, marker=marker)
        axis.xaxis.get_major_locator().set_params(integer=True)
        style_lines(axis, "epoch", label)
        label_lines(axis)
    return figure
