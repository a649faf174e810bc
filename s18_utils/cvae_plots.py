"""Figures of the conditional VAEs: what they draw, under the right label and under wrong ones."""

import math

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from s18_utils.cvae import CVAEModule
from s18_utils.cvae.checks import CLASSES
from s18_utils.cvae.losses import mismatched_labels
from s18_utils.data import class_names
from s18_utils.data.batches import StoreData
from s18_utils.plots import curves, new_figure
from s18_utils.records import Record

RIGHT, WRONG = "#009e73", "#d55e00"


def figures(record: Record, module: CVAEModule, data: StoreData) -> dict[str, Figure]:
    """The pictures of a conditional VAE's record."""
    return {
        "curves": curves(record),
        "composite": composite(record, module),
        "all_labels": all_labels(record, module),
        "reconstructions": reconstructions(record, module),
        "samples": samples(record, module),
        "matrix": matrix(record),
    }


def examples(data: StoreData, count: int = 24) -> Figure:
    """Test images with their classes."""
    batch, names = data.examples(count), class_names(data.data.name, data.data.source)
    rows = math.ceil(len(batch["label"]) / 12)
    figure, axes = new_figure(f"Test images, {data.kind} data", rows, 12, width=11, height=1.15 * rows + 0.4)
    for axis, image, label in zip(axes.flat, batch["image"], batch["label"], strict=False):
        show(axis, image)
        axis.set_title(names[label], fontsize=9)
    return figure


def composite(record: Record, module: CVAEModule, seed: int = 0) -> Figure:
    """25 test images, each beside itself drawn under a label that is not its own.

    Each pair is titled *true → asked*, in green where the judge reads what was asked, else in red with what it read.
    """
    batch = record.examples(25)
    asked = mismatched_labels(batch["label"], torch.Generator().manual_seed(seed))
    drawings = module.swap(batch["image"], batch["label"], asked)
    read = module.scores.read(drawings)
    names = names_of(record)
    figure, axes = new_figure(f"{record.title()}: input | drawn under a wrong label", 5, 5, width=9, height=6.2)
    tiles = zip(batch["image"], drawings, batch["label"], asked, read, strict=True)
    for axis, (image, drawing, true, wanted, got) in zip(axes.flat, tiles, strict=False):
        show(axis, torch.cat([image, torch.ones_like(image[:, :, :1]), drawing], dim=2))
        verdict = "" if got == wanted else f", read as {names[got]}"
        colour = RIGHT if got == wanted else WRONG
        axis.set_title(f"{names[true]} → {names[wanted]}{verdict}", fontsize=9, color=colour)
    for axis in axes.flat[len(drawings) :]:
        axis.set_axis_off()
    return figure


def all_labels(record: Record, module: CVAEModule, count: int = 8) -> Figure:
    """Test images, each drawn under all ten labels; its own is framed."""
    batch = record.examples(count)
    names = names_of(record)
    title = f"{record.title()}: each input under all ten labels"
    figure, axes = new_figure(
        title, len(batch["label"]), CLASSES + 1, width=9.5, height=0.95 * len(batch["label"]) + 0.6
    )
    for line, image, label in zip(axes, batch["image"], batch["label"], strict=True):
        drawings = draw_all(module, image, label)
        show(line[0], image)
        line[0].set_ylabel(names[label], fontsize=9)
        for number, (axis, drawing) in enumerate(zip(line[1:], drawings, strict=True)):
            show(axis, drawing)
            if number == label:
                for spine in axis.spines.values():
                    spine.set(visible=True, color=RIGHT, linewidth=2.5)
    axes[0, 0].set_title("input", fontsize=9)
    for axis, name in zip(axes[0, 1:], names, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def draw_all(module: CVAEModule, image: Tensor, label: Tensor) -> Tensor:
    """One image (C, S, S) drawn under all ten labels: float (10, C, S, S)."""
    every = torch.arange(CLASSES)
    return module.swap(image.expand(CLASSES, -1, -1, -1), label.expand(CLASSES), every)


def reconstructions(record: Record, module: CVAEModule, count: int = 12) -> Figure:
    """Test images above themselves drawn under their own label."""
    batch = record.examples(count)
    drawn = module.reconstruct(batch["image"], batch["label"])
    title = f"{record.title()}: drawn under their own label"
    figure, axes = new_figure(title, 2, len(drawn), width=0.95 * len(drawn), height=2.5)
    for line, label, images in zip(axes, ("input", "drawn"), (batch["image"], drawn), strict=True):
        line[0].set_ylabel(label, fontsize=9)
        for axis, image in zip(line, images, strict=True):
            show(axis, image)
    return figure


def samples(record: Record, module: CVAEModule, count: int = 5) -> Figure:
    """Codes from the prior, N(0, 1), drawn under every label; a row is one code."""
    names = names_of(record)
    codes = torch.randn(count, module.vae.latent, generator=torch.Generator().manual_seed(0))
    title = f"{record.title()}: codes from the prior, one a row, under all ten labels"
    figure, axes = new_figure(title, count, CLASSES, width=9, height=0.95 * count + 0.6)
    with torch.no_grad():
        drawings = [module.vae.decode(code.expand(CLASSES, -1), torch.arange(CLASSES)) for code in codes]
    for line, row in zip(axes, drawings, strict=True):
        for axis, drawing in zip(line, row, strict=True):
            show(axis, drawing)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def matrix(record: Record) -> Figure:
    """How often the judge reads the asked label, for each pair of true and asked label."""
    names = names_of(record)
    agreement = 100 * torch.tensor(record.metrics["test"]["swap_matrix"])
    overall = record.metrics["test"]["swap_agreement"]
    title = f"{record.title()}: the judge reads what was asked, in per cent ({overall:.1%} of all swaps)"
    figure, [[axis]] = new_figure(title, width=7.5, height=5.6)
    picture = axis.imshow(agreement.numpy(), cmap="viridis", vmin=0, vmax=100)
    for true in range(CLASSES):
        for asked in range(CLASSES):
            value = agreement[true, asked].item()
            colour = "white" if value < 60 else "black"
            axis.text(asked, true, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    turn = {"rotation": 30, "ha": "right"} if max(map(len, names)) > 2 else {}
    axis.set_xticks(range(CLASSES), names, **turn)
    axis.set_yticks(range(CLASSES), names)
    axis.set(xlabel="asked", ylabel="true")
    figure.colorbar(picture, ax=axis)
    return figure


def names_of(record: Record) -> tuple[str, ...]:
    """The names of the classes that a record's numbers stand for."""
    return class_names(record.metrics["data"]["name"], record.metrics["data"]["source"])


def show(axis: plt.Axes, image: Tensor) -> None:
    """One image, float (1 or 3, H, W) in [0, 1], without ticks and frame."""
    picture = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    axis.imshow(picture.detach().float().numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
