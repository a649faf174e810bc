"""Figures of conditional VAEs' records: what they draw, under the right label and under wrong ones."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from s18_utils.cvae.losses import mismatched_labels
from s18_utils.cvae.module import CVAEModule
from s18_utils.cvae.plots import draw_matrix, draw_variety
from s18_utils.cvae.variety import read_images
from s18_utils.data.batches import StoreData
from s18_utils.data.store import Batch, to_floats
from s18_utils.records import Record
from s18_utils.report.curves import draw_curves
from s18_utils.report.style import GREY, RIGHT, WRONG, draw_sentence, hide_frame, new_figure

GAP = 2  # pixels of an image, between tiles
LINE = 0.16  # inches, of a caption
EXAMPLES = 100  # test images kept with a record, for its pictures and the widgets
WATCHED = 10  # classes, of each of which a test image is watched while a model learns


def draw_record(record: Record, module: CVAEModule, data: StoreData) -> dict[str, Figure]:
    """The pictures of a conditional VAE's record.

    A filmstrip is among them where the record keeps snapshots: in its `stored_examples`, as `snapshots`, what
    `take_snapshot` gave, uint8 (E, 2, N, C, S, S), and as `snapshot_epochs`, (E,), after how many epochs.
    """
    figures = {
        "curves": draw_curves(record),
        "composite": draw_composite(record, module),
        "quiz": draw_composite(record, module, captions=False),
        "all_labels": draw_all_labels(record, module),
        "reconstructions": draw_reconstructions(record, module),
        "samples": draw_samples(record, module),
        "matrix": draw_matrix(record),
        "variety": draw_variety([record]),
    }
    if "snapshots" in record.stored_examples:
        figures["filmstrip"] = draw_filmstrip(record)
    return figures


def draw_tiles(
    title: str,
    tiles: Sequence[Sequence[np.ndarray]],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    captions: Sequence[Sequence[tuple[str, str]]] = (),
    tile: float = 0.8,
) -> Figure:
    """Pictures in rows of equal length, as one image with transparent gaps.

    Args:
        title: above all of them.
        tiles: RGBA arrays (H, W, 4) of one size, as of `to_tile`; the last row may be shorter.
        rows: a name beside each row.
        columns: a name above each column.
        captions: for each row, text and colour below each tile.
        tile: height of a tile in inches.
    """
    high, wide, _ = tiles[0][0].shape
    across = wide + (GAP if wide == high else 4 * GAP)
    lines = max((text.count("\n") + 1 for row in captions for text, _ in row), default=0)
    down = high + GAP + math.ceil(lines * LINE / tile * high)
    canvas = np.zeros((down * len(tiles) - GAP, across * len(tiles[0]) - (across - wide), 4), dtype=np.float32)
    width, height = (side / high * tile for side in (canvas.shape[1], canvas.shape[0]))
    room = 0.075 * max(map(len, rows), default=0), 0.35 + (0.5 if max(map(len, columns), default=0) > 6 else 0.2)
    figure, [[axis]] = new_figure(title, width=width + room[0], height=height + room[1])
    for y, row in enumerate(tiles):
        for x, picture in enumerate(row):
            canvas[y * down : y * down + high, x * across : x * across + wide] = picture
            if captions:
                text, colour = captions[y][x]
                place = x * across + wide / 2, y * down + high
                axis.text(*place, text, color=colour, fontsize=8.5, ha="center", va="top", linespacing=1.1)
    axis.imshow(canvas, interpolation="nearest")
    hide_frame(axis)
    axis.tick_params(length=0, labelsize=8.5, top=True, bottom=False, labeltop=True, labelbottom=False)
    if columns:
        turn = {"rotation": 30, "ha": "left"} if max(map(len, columns)) > 6 else {}
        axis.set_xticks([x * across + wide / 2 for x in range(len(columns))], columns, **turn)
    if rows:
        axis.set_yticks([y * down + high / 2 for y in range(len(rows))], rows)
    return figure


def to_tile(*images: Tensor) -> np.ndarray:
    """Images, float (1 or 3, S, S) in [0, 1], side by side with transparent gaps: RGBA (S, W, 4)."""
    parts = []
    for image in images:
        picture = image.detach().float().expand(3, -1, -1).permute(1, 2, 0).numpy()
        parts += [np.dstack([picture, np.ones_like(picture[:, :, 0])]), np.zeros((len(picture), GAP, 4))]
    return np.concatenate(parts[:-1], axis=1).astype(np.float32)


def draw_examples(data: StoreData, count: int = 24, columns: int = 12) -> Figure:
    """Test images with their classes."""
    batch, names = data.examples(count), data.data.classes
    kind = "synthetic data" if data.data.synthetic else "real data"
    tiles = [to_tile(image) for image in batch["image"]]
    captions = [(names[label], GREY) for label in batch["label"]]
    return draw_tiles(f"Test images, {kind}", in_rows(tiles, columns), captions=in_rows(captions, columns))


def draw_composite(record: Record, module: CVAEModule, seed: int = 0, captions: bool = True) -> Figure:
    """25 test images, each beside itself drawn under a label that is not its own.

    Below each pair stands *true → asked*, green where all judges read what was asked, else red with what they read, and
    grey where there are no judges. Without `captions` it is for naming the classes by eye.
    """
    batch, names = record.examples(25), module.classes
    asked = mismatched_labels(batch["label"], len(names), torch.Generator().manual_seed(seed))
    drawings = module.swap(batch["image"], batch["label"], asked)
    with torch.no_grad():
        verdicts = [read_images(judge, drawings) for judge in module.judges]
    tiles = in_rows([to_tile(*pair) for pair in zip(batch["image"], drawings, strict=True)], 5)
    if not captions:
        return draw_tiles(f"{record.title()}: input, and drawn under another label: which?", tiles, tile=1.0)
    texts = []
    for number, (true, wanted) in enumerate(zip(batch["label"], asked, strict=True)):
        read = [names[verdict[number]] for verdict in verdicts]
        wrong = dict.fromkeys(name for name in read if name != names[wanted])
        text = f"{names[true]} → {names[wanted]}" + (f"\nread as {' / '.join(wrong)}" if wrong else "")
        texts.append((text, WRONG if wrong else RIGHT if read else GREY))
    return draw_tiles(
        f"{record.title()}: input, and drawn under another label", tiles, captions=in_rows(texts, 5), tile=1.0
    )


def draw_all_labels(record: Record, module: CVAEModule, count: int = 8) -> Figure:
    """Test images, each drawn under all labels; its own is framed."""
    batch, names = record.examples(count), module.classes
    pictures = [
        torch.cat([image.unsqueeze(0), draw_all(module, image, label)])
        for image, label in zip(batch["image"], batch["label"], strict=True)
    ]
    tiles = [[to_tile(picture) for picture in row] for row in pictures]
    rows = [names[label] for label in batch["label"]]
    figure = draw_tiles(f"{record.title()}: each input under all labels", tiles, rows, ["input", *names])
    size = len(tiles[0][0])
    for row, label in enumerate(batch["label"].tolist()):
        corner = (label + 1) * (size + GAP) - 1.5, row * (size + GAP) - 1.5
        frame = Rectangle(corner, size + 2, size + 2, fill=False, edgecolor=RIGHT, linewidth=1.8, clip_on=False)
        figure.axes[0].add_patch(frame)
    return figure


def draw_all(module: CVAEModule, image: Tensor, label: Tensor) -> Tensor:
    """One image (C, S, S) drawn under all K labels: float (K, C, S, S)."""
    every = torch.arange(len(module.classes))
    return module.swap(image.expand(len(every), -1, -1, -1), label.expand(len(every)), every)


def draw_reconstructions(record: Record, module: CVAEModule, count: int = 12) -> Figure:
    """Test images above themselves drawn under their own label."""
    batch = record.examples(count)
    lines = batch["image"], module.reconstruct(batch["image"], batch["label"])
    tiles = [[to_tile(image) for image in line] for line in lines]
    return draw_tiles(f"{record.title()}: drawn under their own label", tiles, ["input", "drawn"])


def draw_samples(record: Record, module: CVAEModule, count: int = 5) -> Figure:
    """Codes from the prior, N(0, 1), drawn under every label; a row is one code."""
    codes, names = torch.randn(count, module.latent, generator=torch.Generator().manual_seed(0)), module.classes
    every = torch.arange(len(names))
    tiles = [[to_tile(drawn) for drawn in module.decode(code.expand(len(every), -1), every)] for code in codes]
    return draw_tiles(f"{record.title()}: codes from the prior, one a row, under all labels", tiles, (), names)


def choose_watched(data: StoreData) -> Batch:
    """The first test image of each class, of ten at most, as a float batch: they are watched while a model learns."""
    return to_floats(data.test.take(first_rows(data)))


def first_rows(data: StoreData) -> Tensor:
    """The row numbers of the first test image of each class."""
    labels = data.test.labels
    rows = [(labels == number).nonzero()[:1, 0] for number in range(min(WATCHED, len(data.data.classes)))]
    return torch.cat(rows)


def choose_examples(module: CVAEModule, data: StoreData) -> Batch:
    """What a record keeps of the test split, uint8: `image` and `label` of images spread evenly over it, and
    `watched_image` and `watched_label`, those of `choose_watched`."""
    watched = data.test.take(first_rows(data))
    return data.stored_examples(EXAMPLES) | {f"watched_{name}": values for name, values in watched.items()}


def asked_labels(labels: Tensor, classes: int) -> Tensor:
    """For each label the one that is half of all classes further, so that ten labels ask for all ten."""
    return (labels + max(1, classes // 2)) % classes


def take_snapshot(module: CVAEModule, batch: Batch) -> Tensor:
    """A float batch drawn under its own labels and under others, always the same: uint8 (2, N, C, S, S)."""
    images, labels = (batch[name].to(module.device) for name in ("image", "label"))
    asked = asked_labels(labels, len(module.classes))
    drawn = [module.swap(images, labels, under) for under in (labels, asked)]
    return (torch.stack(drawn).float().cpu() * 255).round().byte()


def draw_snapshot(batch: Batch, snapshot: Tensor, when: str, classes: Sequence[str]) -> Figure:
    """A snapshot below the images that it was drawn from."""
    return draw_strip("The same test images while the model learns", batch, [snapshot], [when], classes)


def draw_filmstrip(record: Record) -> Figure:
    """What the same images became in the course of a record's training, a row a snapshot.

    Of a record that keeps no snapshots, which older ones do not, there is a sentence that says so.
    """
    kept = record.stored_examples
    if "snapshots" not in kept:
        return draw_sentence(
            record.title(), "This record keeps no snapshots: train again with retrain=True to have some."
        )
    batch = to_floats({name: kept[f"watched_{name}"] for name in ("image", "label")})
    title = f"{record.title()}: the same test images while the model learns"
    times = [f"epoch {epoch:.1f}" for epoch in kept["snapshot_epochs"].tolist()]
    return draw_strip(title, batch, kept["snapshots"], times, record.data["classes"])


def draw_strip(
    title: str, batch: Batch, snapshots: Sequence[Tensor], times: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Images above their snapshots, (2, N, C, S, S) each: left under their own labels, right under those asked for."""
    labels = torch.cat([batch["label"], asked_labels(batch["label"], len(classes))])
    lines = [torch.cat([batch["image"], batch["image"]]), *(snapshot.flatten(0, 1) / 255 for snapshot in snapshots)]
    tiles = [[to_tile(image) for image in line] for line in lines]
    title = f"{title}, left under the true label, right under another"
    figure = draw_tiles(title, tiles, ["input", *times], [f"as {classes[label]}" for label in labels], tile=0.5)
    middle = len(batch["label"]) * (batch["image"].shape[-1] + GAP) - GAP / 2 - 0.5
    figure.axes[0].axvline(middle, color=GREY, linewidth=1.5)
    return figure


def in_rows(items: Sequence, columns: int) -> list[Sequence]:
    """Items in rows of so many."""
    return [items[start : start + columns] for start in range(0, len(items), columns)]
