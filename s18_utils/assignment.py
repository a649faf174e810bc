"""What the assignment printed, and our numbers beside it: for the appendix page and the tests.

Its headings and its code disagree: under "Max Pooling + Transpose Convolution" it ran `bilinear=True`, and under
"Strided Convolution + Upsampling" `bilinear=False`. In this project the heading is what runs; a network of either kind
is compared with the run that it belongs to, and the tables say which of the two it is. "Binary Cross Entropy" was
`nn.CrossEntropyLoss`, as its tables say.
"""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning.pytorch.utilities.model_summary import get_human_readable_count
from torch import nn

from s18_utils.records import Record
from s18_utils.report.table import Table
from s18_utils.report.tables import count_parameters
from s18_utils.unet.module import UNetModule


class Run(NamedTuple):
    """One of the assignment's four UNets; a combination is (down, up, loss)."""

    heading: tuple[str, str, str]  # what its heading names
    code: tuple[str, str, str]  # what its code built
    loss: float  # the validation loss of the last epoch that was printed: the 20th, 8th, 12th and 8th


RUNS = {
    1: Run(("maxpool", "transpose", "ce"), ("maxpool", "bilinear", "ce"), 0.265),
    2: Run(("maxpool", "transpose", "dice"), ("maxpool", "transpose", "dice"), 0.190),
    3: Run(("strided", "transpose", "ce"), ("strided", "transpose", "ce"), 0.406),
    4: Run(("strided", "bilinear", "dice"), ("strided", "transpose", "dice"), 0.173),
}
# What kind of loss it printed, and the column of a record's history that holds the same.
PRINTED = {"ce": ("cross-entropy", "val_loss"), "dice": ("pooled Dice loss", "val_pooled_dice_loss")}
# Parameters of inc, down1 … down4, up1 … up4, outc and all together at width 64, by (down, up); one was never printed.
PARAMETERS = {
    ("maxpool", "bilinear"): "38.8 K|221 K|885 K|3.5 M|4.7 M|5.9 M|1.5 M|369 K|110 K|195|17.3 M",
    ("maxpool", "transpose"): "38.8 K|221 K|885 K|3.5 M|14.2 M|9.2 M|2.3 M|574 K|143 K|195|31.0 M",
    ("strided", "transpose"): "38.8 K|369 K|1.5 M|5.9 M|23.6 M|9.2 M|2.3 M|574 K|143 K|195|43.6 M",
}
# Parameters of a conditional VAE's encoder, decoder and pretrained CNN.
CVAE_PARAMETERS = {
    "mnist": {"encoder": 154_000, "decoder": 774_000, "frozen CNN": 593_000},
    "cifar10": {"encoder": 4_600_000, "decoder": 8_500_000, "frozen CNN": 2_000_000},
}


def uNetLightning(bilinear: bool, pool: bool, dice: bool, **settings: Any) -> UNetModule:  # noqa: N802
    """The module under the name and switches of the assignment's code, at its width of 64; all eight combinations work.

    Args:
        bilinear: interpolate on the way up, else transposed convolutions.
        pool: take maxima on the way down, else strided convolutions.
        dice: train on the Dice loss, else on cross-entropy.
        settings: other arguments of `UNetModule`, such as `width`.
    """
    choices = {
        "down": "maxpool" if pool else "strided",
        "up": "bilinear" if bilinear else "transpose",
        "skip": True,
        "encoder": "scratch",
    }
    choices |= {"loss": "dice" if dice else "ce", "width": 64, "learning_rate": 1e-3, "weight_decay": 1e-2}
    choices |= {"classes": ("pet", "background", "border"), "channels": 3}
    return UNetModule(**choices | settings)


def compare_parameters(module: UNetModule) -> Table:
    """Parameters of each part of a UNet beside the assignment's table, where it printed one for its down and up."""
    parts = {**dict(module.unet.named_children()), "total": module.unet}
    printed = PARAMETERS.get((module.hparams.down, module.hparams.up))
    theirs = printed.split("|") if printed else ["not printed"] * len(parts)
    counts = [count_parameters(part) for part in parts.values()]
    rows = [
        [name, f"{count:,}", get_human_readable_count(count).strip(), text]
        for name, count, text in zip(parts, counts, theirs, strict=True)
    ]
    return Table(["part", "parameters", "short", "the assignment"], rows)


def compare_cvae_parameters(module: nn.Module, data: str) -> Table:
    """Parameters of a conditional VAE's parts beside the assignment's; no rows for data that it did not have."""
    parts = {"encoder": module.vae.encoder, "decoder": module.vae.decoder, "frozen CNN": module.frozen}
    rows = [
        [name, f"{count_parameters(parts[name]):,}", get_human_readable_count(theirs).strip()]
        for name, theirs in CVAE_PARAMETERS.get(data, {}).items()
    ]
    return Table(["part", "parameters", "the assignment"], rows)


def compare_losses(records: Sequence[Record]) -> Table:
    """Validation losses of UNets at their chosen epochs beside those that the assignment printed, in the same form.

    A record of a combination that the assignment neither named nor ran is left out.
    """
    rows = []
    for record in records:
        settings = record.settings
        combination = (settings.down, settings.up, settings.loss) if record.family == "unet" else None
        for number, run in RUNS.items():
            said = [name for name in ("heading", "code") if getattr(run, name) == combination]
            if said:
                form, column = PRINTED[settings.loss]
                ours = [row[column] for row in choose_epochs(record)]
                value = f"{statistics.fmean(ours):.3f}" + (f" ± {statistics.stdev(ours):.3f}" if ours[1:] else "")
                row = [record.label(), record.preset, f"{number}, by {' and '.join(said)}", form, value]
                rows.append([*row, f"{run.loss:.3f}"])
    return Table(["network", "preset", "the assignment's run", "loss", "ours", "theirs"], rows)


def choose_epochs(record: Record) -> list[dict]:
    """For every seed of a UNet's record, the row of its history whose weights were kept."""
    seeds = dict.fromkeys(row["seed"] for row in record.history)
    return [
        max((row for row in record.history if row["seed"] == seed), key=lambda row: row["val_mean_iou"])
        for seed in seeds
    ]
