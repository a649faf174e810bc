"""Figures and tables of records: drawn the same in a notebook, in the repository and on the page."""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from s18_utils.data.batches import StoreData, to_floats
from s18_utils.data.pets import CLASSES
from s18_utils.records import Record

# Okabe & Ito's palette: told apart by colour-blind readers as well.
MASK_COLOURS = ListedColormap(["#e69f00", "#0b3954", "#f5f5f5"])
ERROR_COLOURS = ListedColormap(["#f5f5f5", "#d55e00"])
LINE_COLOURS = {"training": "#0072b2", "validation": "#d55e00"}
# (training column, validation column, axis label) of each panel of the loss curves.
PANELS = (("train_loss", "val_loss", "loss"), (None, "val_mean_iou", "mean IoU"))


def provenance(record: Record) -> str:
    """One line on where a record's numbers come from."""
    metrics, data = record.metrics, record.metrics["data"]
    size = (
        f"{data['train']:,} training, {data['val']:,} validation and {data['test']:,} test images at {data['size']} px"
    )
    seeds = f"seed {metrics['seeds'][0]}" if len(metrics["seeds"]) == 1 else f"{len(metrics['seeds'])} seeds"
    name = f"synthetic {data['name']}" if record.synthetic else f"{data['name']} ({data['source']})"
    return (
        f"{name} {data['fingerprint']}, {size}; preset {metrics['preset']}, {metrics['epochs']} epochs, {seeds}, "
        f"{metrics['seconds']:.0f} s on {metrics['device']} in {metrics['precision']}; commit {metrics['commit']}, "
        f"torch {metrics['versions']['torch']}" + ("; interrupted" if metrics["interrupted"] else "")
    )


def curves(record: Record) -> Figure:
    """Training and validation loss, and validation mean IoU, against the epoch; a line for each seed."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 3.4), layout="constrained", dpi=110)
    seeds = {row["seed"] for row in record.history}
    for axis, (training, validation, label) in zip(axes, PANELS, strict=True):
        for number, seed in enumerate(sorted(seeds)):
            rows = [row for row in record.history if row["seed"] == seed]
            epochs = [row["epoch"] for row in rows]
            for column, name, style in ((training, "training", ":"), (validation, "validation", "-")):
                if column:
                    legend = name if number == 0 else None
                    axis.plot(
                        epochs, [row[column] for row in rows], style, color=LINE_COLOURS[name], label=legend, lw=1.6
                    )
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
    figure.suptitle(record.title(), fontsize=11)
    return figure


def predictions(record: Record, module: torch.nn.Module, data: StoreData, count: int = 6) -> Figure:
    """Input, truth, prediction and errors for test images spread evenly over the test split."""
    rows = torch.linspace(0, len(data.test) - 1, min(count, len(data.test))).long()
    batch = to_floats(data.test.__getitems__(rows.tolist()))
    predicted = module.predict(batch["image"])
    figure, axes = plt.subplots(
        4, len(rows), figsize=(1.75 * len(rows), 7.6), layout="constrained", dpi=110, squeeze=False
    )
    pictures = (
        ("input", batch["image"].permute(0, 2, 3, 1), None),
        ("truth", batch["mask"], MASK_COLOURS),
        ("prediction", predicted, MASK_COLOURS),
        ("errors", predicted != batch["mask"], ERROR_COLOURS),
    )
    for line, (name, images, colours) in zip(axes, pictures, strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(
                image, cmap=colours, vmin=0, vmax=None if colours is None else colours.N - 1, interpolation="nearest"
            )
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    for axis, wrong in zip(axes[-1], predicted != batch["mask"], strict=True):
        axis.set_xlabel(f"{wrong.float().mean():.1%} wrong", fontsize=9)
    legend = [Patch(facecolor=MASK_COLOURS(index), edgecolor="grey", label=name) for index, name in enumerate(CLASSES)]
    legend.append(Patch(facecolor=ERROR_COLOURS(1), label="wrong"))
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(record.title(), fontsize=11)
    return figure


def masks(images: Tensor, masks: Tensor, title: str = "") -> Figure:
    """Images, float (N, 3, H, W) in [0, 1], above their masks, int (N, H, W)."""
    figure, axes = plt.subplots(
        2, len(images), figsize=(1.75 * len(images), 3.9), layout="constrained", dpi=110, squeeze=False
    )
    for (above, below), image, mask in zip(axes.T, images, masks, strict=True):
        above.imshow(image.permute(1, 2, 0))
        below.imshow(mask, cmap=MASK_COLOURS, vmin=0, vmax=2, interpolation="nearest")
        for axis in (above, below):
            axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=11)
    return figure
