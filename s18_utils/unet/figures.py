"""Figures of UNets' records: drawn the same in a notebook, in the repository and on the page."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.segmentation import mean_iou

from s18_utils.data.batches import StoreData
from s18_utils.data.store import Batch, to_floats
from s18_utils.device import autocast, device
from s18_utils.errors import InputError
from s18_utils.records import Record
from s18_utils.report.curves import draw_curves
from s18_utils.report.style import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    YELLOW,
    draw_sentence,
    hide_frame,
    new_figure,
    style_lines,
)
from s18_utils.unet.module import UNetModule
from s18_utils.unet.overlay import BACKGROUND, BORDER, class_colours, class_tints, draw_overlay

TILE = 256  # least side of a picture in a figure, in pixels, so that outlines are finer than the mask's pixels
WATCHED = 6  # test images that are watched while a network learns
SMALL_TILE, FILM_TILE = 192, 112  # the same of a picture among many, and in a filmstrip
COARSE = 0xF8  # five bits of a colour are enough for small pictures, and halve the file
ERROR_COLOURS = (VERMILION, YELLOW, GREEN, BLUE)  # none is like a tinted class


class Line(NamedTuple):
    """A line of a figure: N photographs, float (N, C, H, W) in [0, 1], and what lies over them."""

    label: str
    images: Tensor
    masks: Tensor | None = None  # integer (N, H, W), drawn as outlines and tint
    errors: Tensor | None = None  # integer (N, H, W), 0 right, then the kinds of `find_errors`
    captions: Sequence[str] = ()


def draw_record(record: Record, module: UNetModule, data: StoreData) -> dict[str, Figure]:
    """The pictures of a UNet's record.

    A filmstrip is among them where the record keeps snapshots: in its `stored_examples`, as `snapshots`, what
    `take_snapshot` gave, uint8 (E, N, H, W), and as `snapshot_epochs`, (E,), after how many epochs.
    """
    figures = {
        "curves": draw_curves(record),
        "predictions": draw_predictions(record, module),
        "hardest": draw_hardest(record, module, data),
    }
    if "snapshots" in record.stored_examples:
        figures["filmstrip"] = draw_filmstrip(record)
    return figures


def choose_watched(data: StoreData) -> Batch:
    """The test images that are watched while a network learns, as a float batch: spread evenly over the split."""
    return data.examples(WATCHED)


def choose_examples(module: torch.nn.Module, data: StoreData) -> Batch:
    """What a record keeps of the test split: the photographs that its figures show, and how hard each one is.

    `image`, uint8 (12, C, S, S), and `mask`, uint8 (12, S, S), are those of `choose_watched`, then those of
    `draw_predictions`; `image_iou`, float (N,), is what `score_images` gave for the whole split.
    """
    scores = score_images(module, data)
    watched, shown = data.stored_examples(WATCHED), torch.cat(list(pick_rows(scores).values()))
    kept = data.test.take(shown)
    return {name: torch.cat([watched[name], kept[name]]) for name in watched} | {"image_iou": scores}


@torch.no_grad()
def take_snapshot(module: UNetModule, batch: Batch) -> Tensor:
    """The masks of a float batch, uint8 (N, H, W); as of `UNetModule.predict`, but of a network that learned nothing
    too."""
    with autocast():
        return module(batch["image"].to(module.device)).argmax(1).byte().cpu()


def draw_snapshot(batch: Batch, snapshot: Tensor, when: str, classes: Sequence[str]) -> Figure:
    """A snapshot's masks below the true ones."""
    images = batch["image"]
    lines = [Line("truth", images, batch["mask"]), Line(when, images, snapshot.long())]
    return draw_lines(lines, "The same test images while the network learns", classes)


def score_images(module: torch.nn.Module, data: StoreData) -> Tensor:
    """The IoU of every test image by itself, float (N,), averaged over the classes that are in it or in its prediction.

    Other than the IoU over all pixels of the split, which is the score of a record, it can be low for an image whose
    border is a few pixels.
    """
    place, count, scores = device(), len(data.data.classes), []
    module = module.to(place)
    with autocast():
        for batch in data.test_batches(data.batch_size):
            predicted = module.predict(batch["image"].to(place)).cpu()
            scores.append(mean_iou(predicted, batch["mask"], num_classes=count, input_format="index"))
    module.cpu()
    return torch.cat(scores)


def find_scores(record: Record, module: torch.nn.Module, data: StoreData) -> Tensor:
    """What `score_images` gives: kept with the record, unless that is an older one or the data at hand are others."""
    kept = record.stored_examples.get("image_iou")
    same = record.data["fingerprint"] == data.data.fingerprint and kept is not None and len(kept) == len(data.test)
    return kept if same else score_images(module, data)


def draw_predictions(record: Record, module: torch.nn.Module) -> Figure:
    """Truth, prediction and errors of the two easiest, the two median and the two hardest test images.

    They are those that the record keeps, see `choose_examples`; an InputError if it keeps none.
    """
    batch, scores = record.examples(2 * WATCHED), record.stored_examples["image_iou"]
    captions = [f"{name}, mIoU {scores[row]:.2f}" for name, rows in pick_rows(scores).items() for row in rows]
    shown = {name: values[-len(captions) :] for name, values in batch.items()}
    rule = f"Of {len(scores):,} test images the two with the highest, the median and the lowest mean IoU"
    return compare_with_truth(f"{record.title()}\n{rule}", module, shown, record.data["classes"], captions)


def pick_rows(scores: Tensor) -> dict[str, Tensor]:
    """The row numbers of the two easiest, the two median and the two hardest images."""
    order, middle = scores.argsort(descending=True, stable=True), max(0, len(scores) // 2 - 1)
    return {"easiest": order[:2], "median": order[middle : middle + 2], "hardest": order[-2:]}


def draw_hardest(record: Record, module: torch.nn.Module, data: StoreData, count: int = 6) -> Figure:
    """Truth, prediction and errors of the test images that the network gets most wrong."""
    scores = find_scores(record, module, data)
    rows = scores.argsort(stable=True)[:count]
    rule = f"The {len(rows)} hardest of {len(scores):,} test images, by mean IoU"
    captions = [f"mIoU {score:.2f}" for score in scores[rows].tolist()]
    batch = to_floats(data.test.take(rows))
    title = record.title() + ", on synthetic data" * (data.data.synthetic and not record.synthetic)
    return compare_with_truth(f"{title}\n{rule}", module, batch, record.data["classes"], captions)


def compare_with_truth(
    title: str, module: torch.nn.Module, batch: Batch, classes: Sequence[str], captions: Sequence[str]
) -> Figure:
    """Truth, prediction and errors of a float batch."""
    images, masks = batch["image"], batch["mask"]
    predicted = module.predict(images)
    errors, _ = find_errors(masks, predicted, classes)
    wrong = [f"{share:.0%} of pixels wrong" for share in (errors > 0).float().mean((1, 2)).tolist()]
    truth = Line("truth", images, masks, captions=captions)
    errors = Line("errors", images, errors=errors, captions=wrong)
    return draw_lines([truth, Line("prediction", images, predicted), errors], title, classes)


def compare_predictions(records: Sequence[Record]) -> Figure:
    """The test images that are watched, their true masks, and those that every record with weights predicts.

    Raises:
        InputError: no record has weights, or none of those that have some keeps test images.
    """
    able = [record for record in records if record.loadable]
    if not able:
        raise InputError("none of the records has weights to load: train one of the experiments first")
    keeping = next((record for record in able if "mask" in record.stored_examples), able[0])
    batch = keeping.examples(WATCHED)
    images = batch["image"]
    lines = [Line("input", images), Line("truth", images, batch["mask"])]
    lines += [Line(record.label(able), images, record.model().predict(images)) for record in able]
    what = f"{len(images)} test images spread evenly over the split{', synthetic data' * keeping.synthetic}"
    return draw_lines(lines, f"{what}; {name_presets(able)}", able[0].data["classes"])


def compare_by_class(records: Sequence[Record]) -> Figure:
    """IoU of any number of records, mean and each class: a dot a record, with its deviation over seeds.

    The panels have axes of one scale, so that a difference is as long in one as in the other.

    Raises:
        InputError: no records.
    """
    if not records:
        raise InputError("there is no record to compare: train one of the experiments first")
    panels = ("mean", *dict.fromkeys(name for record in records for name in record.test["iou"]))
    seeds = {len(record.metrics["seeds"]) for record in records}
    title = f"IoU on the test split{', synthetic data' * any(record.synthetic for record in records)}; "
    title += f"{name_presets(records)}; "
    title += "one seed" if seeds == {1} else f"{' or '.join(map(str, sorted(seeds)))} seeds: mean ± standard deviation"
    size = {"width": 3 + 1.8 * len(panels), "height": 1.1 + 0.5 * len(records)}
    figure, [axes] = new_figure(title, columns=len(panels), sharey=True, **size)
    for axis, name in zip(axes, panels, strict=True):
        for place, record in enumerate(records):
            value, deviation = (
                part.get("mean_iou") if name == "mean" else part.get("iou", {}).get(name)
                for part in (record.test, record.spread)
            )
            if value is not None:
                axis.errorbar(value, place, xerr=deviation or None, fmt="o", color=BLUE, capsize=4, markersize=4)
                above = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": 8}
                axis.annotate(f"{value:.3f}", (value, place), color=BLUE, **above)
        style_lines(axis, "", "")
        axis.set_title(name, fontsize=10)
        axis.set_ylim(len(records) - 0.5, -0.7)
    half = max(0.005, 0.65 * max(high - low for low, high in (axis.get_xlim() for axis in axes)))
    for axis in axes:
        middle = sum(axis.get_xlim()) / 2
        axis.set_xlim(middle - half, middle + half)
        axis.locator_params(axis="x", nbins=4)
    axes[0].set_yticks(
        range(len(records)), [textwrap.fill(record.label(records), 34, break_on_hyphens=False) for record in records]
    )
    return figure


def name_presets(records: Iterable[Record]) -> str:
    """The presets of records and the sizes of their pictures."""
    return " and ".join(dict.fromkeys(f"{record.preset}, {record.data['size']} px" for record in records))


def draw_filmstrip(record: Record) -> Figure:
    """Masks of the same test images in the course of a record's training, a column a snapshot, then the true ones.

    Of a record that keeps no snapshots, which older ones do not, there is a sentence that says so.
    """
    if "snapshots" not in record.stored_examples:
        return draw_sentence(
            record.title(), "This record keeps no snapshots: train again with retrain=True to have some."
        )
    snapshots, classes = record.stored_examples["snapshots"].long(), record.data["classes"]
    batch = record.examples(snapshots.shape[1])
    images, epochs = batch["image"], record.stored_examples["snapshot_epochs"].tolist()
    columns = [(f"{epoch:.1f}".removesuffix(".0"), masks) for epoch, masks in zip(epochs, snapshots, strict=True)]
    columns.append(("truth", batch["mask"]))
    title = f"{record.title()}\nThe same test images after so many epochs"
    size = {"width": 0.61 * len(columns) + 0.1, "height": 0.61 * len(images) + 1.0}
    figure, axes = new_figure(title, len(images), len(columns), **size)
    for column, (name, masks) in zip(axes.T, columns, strict=True):
        column[0].set_title(name, fontsize=8)
        for axis, image, mask in zip(column, images, masks, strict=True):
            show_tile(axis, image, mask, None, classes, FILM_TILE)
    add_legend(figure, classes, errors=())
    return figure


def draw_lines(lines: Sequence[Line], title: str, classes: Sequence[str]) -> Figure:
    """Labelled lines of pictures of equal number, with a legend of the classes and the kinds of errors.

    Where lines are many their pictures are kept smaller, so that a notebook with them stays one that GitHub shows.
    """
    count, captioned = len(lines[0].images), sum(bool(line.captions) for line in lines)
    size = {"width": 1.35 * count + 1.1, "height": 1.38 * len(lines) + 0.2 * captioned + 0.8}
    figure, axes = new_figure(title, len(lines), count, **size)
    for line, row in zip(lines, axes, strict=True):
        label = textwrap.fill(line.label, 17, break_on_hyphens=False)
        row[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        for place, axis in enumerate(row):
            mask, errors = (part if part is None else part[place] for part in (line.masks, line.errors))
            show_tile(axis, line.images[place], mask, errors, classes, SMALL_TILE if len(lines) > 4 else None)
            axis.set_xlabel("".join(line.captions[place : place + 1]), fontsize=8)
    nothing = torch.zeros(1, 1, dtype=torch.long)
    kinds = find_errors(nothing, nothing, classes)[1] if any(line.errors is not None for line in lines) else ()
    add_legend(figure, classes, kinds)
    return figure


def show_tile(
    axis: plt.Axes,
    image: Tensor,
    mask: Tensor | None,
    errors: Tensor | None,
    classes: Sequence[str],
    side: int | None = None,
) -> None:
    """One photograph, with its mask, or in grey with its errors; reduced to so many pixels where `side` says so."""
    times = max(1, -(-TILE // image.shape[-1]))
    pixels = (image.clamp(0, 1) * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)
    truth = mask if errors is None else errors
    enlarged = None if truth is None else truth.numpy().repeat(times, axis=0).repeat(times, axis=1)
    if errors is not None:
        grey = np.asarray(picture.convert("L").convert("RGB")) * 0.6
        palette = np.array([[0, 0, 0], *(to_rgb(colour) for colour in ERROR_COLOURS)]) * 255
        picture = np.where(enlarged[..., None] > 0, palette[enlarged], grey)
    elif mask is not None:
        picture = draw_overlay(picture, enlarged, classes)
    if side:
        picture = picture.resize((side, side), Image.Resampling.BOX)
    coarse = np.asarray(picture).astype(np.uint8)
    axis.imshow(coarse & COARSE | coarse >> 5, interpolation="nearest")  # black and white stay what they are
    hide_frame(axis)


def find_errors(truth: Tensor, predicted: Tensor, classes: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Where a prediction is wrong and in what way: 0 right, 1 … the kinds, and the kinds' names.

    With a class `background` an object is missed, background taken for one, or objects are exchanged; where there is a
    class `border`, what is wrong about it is an error of its own kind.
    """
    kinds, wrong = torch.zeros_like(truth), truth != predicted
    if BACKGROUND not in classes:
        return kinds.masked_fill(wrong, 1), ("wrong class",)
    objects = [name for name in classes if name not in (BACKGROUND, BORDER)]
    thing, ground = objects[0] if len(objects) == 1 else "object", classes.index(BACKGROUND)
    names = [f"{thing} missed", f"background taken for {thing}"]
    kinds[wrong & (predicted == ground)] = 1
    kinds[wrong & (truth == ground)] = 2
    if BORDER in classes:
        names.append("border off")
        kinds[wrong & ((truth == classes.index(BORDER)) | (predicted == classes.index(BORDER)))] = len(names)
    if len(objects) > 1:
        names.append("objects exchanged")
        kinds[wrong & (kinds == 0)] = len(names)
    return kinds, tuple(names)


def add_legend(figure: Figure, classes: Sequence[str], errors: Sequence[str]) -> None:
    """The colours of the classes that are tinted, and of the kinds of errors, below a figure."""
    # As opaque as over a photograph: over a light page they look as over a light pet.
    named = zip(classes, class_colours(classes), class_tints(classes), strict=True)
    tinted = [(name, to_rgba(colour, tint)) for name, colour, tint in named if name != BACKGROUND]
    pairs = [*tinted[:8], *zip(errors, ERROR_COLOURS, strict=False)]
    patches = [Patch(facecolor=colour, label=name) for name, colour in pairs]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, labelcolor=GREY, frameon=False, fontsize=9)
