"""Figures of records: drawn the same in a notebook, in the repository and on the page."""

import math
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor
from torchmetrics.functional.segmentation import mean_iou

from s18_utils.data import READERS
from s18_utils.data.batches import StoreData, to_floats
from s18_utils.data.pets import CLASSES
from s18_utils.device import device
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, get_experiment
from s18_utils.records import Record, find_record

# Okabe & Ito's palette: told apart by colour-blind readers as well.
MASK_COLOURS = ListedColormap(["#e69f00", "#0b3954", "#f5f5f5"])
ERROR_COLOURS = ListedColormap(["#f5f5f5", "#d55e00"])
LINE_COLOURS = {"training": "#0072b2", "validation": "#d55e00"}
LOSS_COLOURS = {"ce": "#0072b2", "dice": "#d55e00"}
DOWN_MARKERS = {"maxpool": "o", "strided": "s"}
# (training column, validation column, axis label) of each panel of the curves, by family.
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


def share(record: Record) -> str:
    """How much of which data set a record was made from."""
    data = record.metrics["data"]
    if record.synthetic:
        return f"synthetic {data['name']}"
    reader, images = READERS[data["name"]], data["train"] + data["val"]
    part = f"{images:,} of the {reader.OFFICIAL:,} official training images ({images / reader.OFFICIAL:.0%})"
    return f"{reader.TITLE}, {part}"


def provenance(record: Record) -> str:
    """One line on where a record's numbers come from."""
    metrics, data = record.metrics, record.metrics["data"]
    seeds = f"seed {metrics['seeds'][0]}" if len(metrics["seeds"]) == 1 else f"{len(metrics['seeds'])} seeds"
    return (
        f"{share(record)}, from {data['source']}, fingerprint {data['fingerprint']}: {data['train']:,} to train on, "
        f"{data['val']:,} to choose the epoch by, {data['test']:,} test images, at {data['size']} px; "
        f"preset {metrics['preset']}, {metrics['epochs']} epochs, {seeds}, {metrics['seconds']:.0f} s on "
        f"{metrics['device']} in {metrics['precision']}; "
        f"commit {metrics['commit']}, torch {metrics['versions']['torch']}"
        + ("; interrupted" if metrics["interrupted"] else "")
    )


def new_figure(
    title: str, rows: int = 1, columns: int = 1, width: float = 6.5, height: float = 3.2
) -> tuple[Figure, np.ndarray]:
    """A figure of `width`×`height` inches and its axes, an array (rows, columns).

    pyplot forgets it at once, so that a notebook shows it once, where it is the value of a cell.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", dpi=110, squeeze=False)
    figure.suptitle(title, fontsize=11)
    plt.close(figure)
    return figure, axes


def style_lines(axis: plt.Axes, x: str, y: str) -> None:
    """Labels, legend and a light grid for an axis with lines."""
    axis.set(xlabel=x, ylabel=y)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)


def curves(record: Record) -> Figure:
    """Each term of the loss, and what checkpoints are chosen by, against the epoch; a line for each seed."""
    panels = PANELS[get_experiment(record.metrics["experiment"]).family]
    figure, axes = new_figure(record.title(), columns=len(panels), width=5 + 2.5 * len(panels), height=3.4)
    seeds = sorted({row["seed"] for row in record.history})
    for axis, (training, validation, label) in zip(axes[0], panels, strict=True):
        for seed in seeds:
            rows = [row for row in record.history if row["seed"] == seed]
            epochs = [row["epoch"] for row in rows]
            for column, name, style in ((training, "training", ":"), (validation, "validation", "-")):
                if column:
                    legend = name if seed == seeds[0] else None
                    values = [row.get(column, math.nan) for row in rows]  # a term may join in later
                    marker = "o" if len(rows) < 3 else None  # a line of one point can't be seen
                    axis.plot(epochs, values, style, color=LINE_COLOURS[name], label=legend, marker=marker)
        axis.xaxis.get_major_locator().set_params(integer=True)
        style_lines(axis, "epoch", label)
    return figure


def figures(record: Record, module: torch.nn.Module, data: StoreData) -> dict[str, Figure]:
    """The pictures of a UNet's record."""
    return {
        "curves": curves(record),
        "predictions": predictions(record, module, data),
        "extremes": extremes(record, module, data),
    }


def classifier_figures(record: Record, module: torch.nn.Module, data: StoreData) -> dict[str, Figure]:
    """The picture of a classifier's record."""
    return {"curves": curves(record)}


def picture_grid(
    lines: Iterable[tuple[str, Tensor]], title: str, captions: dict[str, list[str]] | None = None
) -> Figure:
    """Labelled lines of pictures of equal number.

    Args:
        lines: for each line its label and N pictures: photographs, float (N, 3, H, W) in [0, 1]; masks, integer
            (N, H, W) of classes 0–2; or errors, boolean (N, H, W).
        title: above all of them.
        captions: for the label of a line, a caption below each of its pictures.
    """
    lines, captions = list(lines), captions or {}
    count = len(lines[0][1])
    figure, axes = new_figure(title, len(lines), count, width=1.5 * count, height=1.55 * len(lines) + 0.5)
    legend = [Patch(facecolor=MASK_COLOURS(index), edgecolor="grey", label=name) for index, name in enumerate(CLASSES)]
    if any(pictures.dtype == torch.bool for _, pictures in lines):
        legend.append(Patch(facecolor=ERROR_COLOURS(1), label="wrong"))
    for line, (label, pictures) in zip(axes, lines, strict=True):
        line[0].set_ylabel(label, fontsize=9)
        below = captions.get(label, [])
        if pictures.dtype == torch.bool:
            below = [f"{picture.float().mean():.1%} wrong" for picture in pictures]
        for axis, caption in zip(line, below, strict=False):
            axis.set_xlabel(caption, fontsize=9)
        for axis, picture in zip(line, pictures, strict=True):
            axis.set(xticks=[], yticks=[])
            if picture.ndim == 3:
                axis.imshow(picture.permute(1, 2, 0).numpy())
            else:
                colours = ERROR_COLOURS if picture.dtype == torch.bool else MASK_COLOURS
                axis.imshow(picture.numpy(), cmap=colours, vmin=0, vmax=colours.N - 1, interpolation="nearest")
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False)
    return figure


def predictions(record: Record, module: torch.nn.Module, data: StoreData, count: int = 6) -> Figure:
    """Input, truth, prediction and errors for test images spread evenly over the test split."""
    batch = data.examples(count)
    predicted = module.predict(batch["image"])
    lines = [("input", batch["image"]), ("truth", batch["mask"]), ("prediction", predicted)]
    return picture_grid([*lines, ("errors", predicted != batch["mask"])], record.title())


def extremes(record: Record, module: torch.nn.Module, data: StoreData, count: int = 6) -> Figure:
    """The test images that the network gets most wrong and most right, by the mean IoU of the single image."""
    scores = image_scores(module, data)
    count = min(count, len(scores))
    lines, captions = [], {}
    for name, rows in (("hardest", scores.argsort()[:count]), ("easiest", scores.argsort(descending=True)[:count])):
        batch = to_floats(data.test.__getitems__(rows.tolist()))
        predicted = f"prediction\n({name})"
        lines += [(f"input\n({name})", batch["image"]), (f"truth\n({name})", batch["mask"])]
        lines.append((predicted, module.predict(batch["image"])))
        captions[predicted] = [f"mIoU {score:.2f}" for score in scores[rows].tolist()]
    title = f"{record.title()}\nThe {count} hardest and the {count} easiest of {len(scores):,} test images"
    return picture_grid(lines, title, captions)


def image_scores(module: torch.nn.Module, data: StoreData) -> Tensor:
    """The IoU of every test image by itself, float (N,), averaged over the classes that are in it or in its prediction.

    Other than the IoU over all pixels of the split, which is the score of a record, it can be low for an image whose
    border is a few pixels.
    """
    place, scores = device(), []
    module = module.to(place)
    for rows in torch.arange(len(data.test)).split(data.batch_size):
        batch = to_floats(data.test.__getitems__(rows.tolist()))
        predicted = module.predict(batch["image"].to(place)).cpu()
        scores.append(mean_iou(predicted, batch["mask"], num_classes=len(CLASSES), input_format="index"))
    module.cpu()
    return torch.cat(scores)


def unet_records(preset: str) -> list[Record]:
    """The records of that preset that there are of the four UNets, in the order of the notebooks."""
    names = [experiment.name for experiment in EXPERIMENTS.values() if experiment.family == "unet"]
    return [record for name in names if (record := find_record(name, preset))]


def side_by_side(preset: str, data: StoreData, count: int = 6) -> Figure:
    """The same test images as seen by every UNet whose record of that preset keeps its weights."""
    batch = data.examples(count)
    lines = [("input", batch["image"]), ("truth", batch["mask"])]
    for record in unet_records(preset):
        if record.has_weights:
            experiment = get_experiment(record.metrics["experiment"])
            label = "\n".join(experiment.model[choice] for choice in ("down", "up", "loss"))
            lines.append((label, record.model().predict(batch["image"])))
    return picture_grid(lines, f"The same test images, {data.kind} data, preset {preset}")


def by_class(preset: str) -> Figure:
    """IoU of every UNet of that preset, their mean and each class: a dot a run, with its deviation over seeds.

    The panels have axes of one scale, so that a difference is as high in one as in the other. Colours tell the loss,
    shapes the way down; hollow marks go up by interpolation.
    """
    kept = unet_records(preset)
    if not kept:
        raise InputError(f"there is no record of a UNet at {preset}: run `fit` for one of them first")
    synthetic = any(record.synthetic for record in kept)
    title = f"IoU on the test split, {'synthetic' if synthetic else 'real'} data, preset {preset}, {over_seeds(kept)}"
    panels = ("mean", *CLASSES)
    figure, [axes] = new_figure(title, columns=len(panels), width=9, height=4)
    for axis, name in zip(axes, panels, strict=True):
        for place, record in enumerate(kept):
            experiment = get_experiment(record.metrics["experiment"])
            model = experiment.model
            value, deviation = (
                scores.get("mean_iou", 0) if name == "mean" else scores.get("iou", {}).get(name, 0)
                for scores in (record.metrics["test"], record.metrics["spread"])
            )
            colour = LOSS_COLOURS[model["loss"]]
            face = "white" if model["up"] == "bilinear" else colour
            style = {"fmt": DOWN_MARKERS[model["down"]], "color": colour, "markerfacecolor": face, "markersize": 8}
            label = f"{int(experiment.notebook[:2])} · {', '.join(model.values())}"
            axis.errorbar(place, value, deviation or None, capsize=4, label=label, **style)
        axis.set(title=name, xlim=(-0.6, len(kept) - 0.4), xticks=[])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    half = 0.55 * max(high - low for low, high in (axis.get_ylim() for axis in axes))
    for axis in axes:
        middle = sum(axis.get_ylim()) / 2
        axis.set_ylim(middle - half, middle + half)
    axes[0].set_ylabel("IoU")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def over_seeds(kept: list[Record]) -> str:
    """What a number of these records is: one run's, or a mean over several."""
    counts = sorted({len(record.metrics["seeds"]) for record in kept})
    return "one seed" if counts == [1] else f"{' or '.join(map(str, counts))} seeds: mean ± standard deviation"
