"""What the assignment printed: its parameter tables out of the networks, its losses beside ours."""

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s18_utils.assignment import (
    RUNS,
    compare_cvae_parameters,
    compare_losses,
    compare_parameters,
    uNetLightning,
)
from s18_utils.experiments import EXPERIMENTS, build_settings
from s18_utils.records import build_module
from s18_utils.report.tables import count_parameters

PARTS = ("inc", "down1", "down2", "down3", "down4", "up1", "up2", "up3", "up4", "outc")
# What the assignment printed for `uNetLightning(bilinear, pool)`: a row for each part, the total, and its MB.
PRINTED = {
    (True, True): ("38.8 K|221 K|885 K|3.5 M|4.7 M|5.9 M|1.5 M|369 K|110 K|195", 17_263_107, "17.3 M", "69.052"),
    (False, True): ("38.8 K|221 K|885 K|3.5 M|14.2 M|9.2 M|2.3 M|574 K|143 K|195", 31_037_763, "31.0 M", "124.151"),
    (False, False): ("38.8 K|369 K|1.5 M|5.9 M|23.6 M|9.2 M|2.3 M|574 K|143 K|195", 43_571_523, "43.6 M", "174.286"),
}


@pytest.mark.parametrize(
    ("bilinear", "pool", "dice"),
    [(True, True, False), (False, True, True), (False, False, False), (False, False, True)],
)
def test_every_row_of_the_assignments_tables(bilinear, pool, dice):
    rows, total, short, megabytes = PRINTED[bilinear, pool]
    with torch.device("meta"):
        module = uNetLightning(bilinear=bilinear, pool=pool, dice=dice)
    table = compare_parameters(module)
    assert [row[0] for row in table.rows] == [*PARTS, "total"]
    assert [row[2] for row in table.rows[:-1]] == rows.split("|")
    count = count_parameters(module)
    assert count == total
    assert table.rows[-1][1:3] == [f"{total:,}", short]
    assert f"{count * 4 / 1e6:.3f}" == megabytes
    assert all(parameter.requires_grad for parameter in module.parameters())
    # The table beside it repeats the assignment's.
    assert [row[3] for row in table.rows] == [*rows.split("|"), short]


def test_a_combination_that_was_not_printed_says_so():
    with torch.device("meta"):
        table = compare_parameters(uNetLightning(bilinear=True, pool=False, dice=True))
    assert {row[3] for row in table.rows} == {"not printed"}


@pytest.mark.parametrize(("bilinear", "pool", "dice"), list(product([True, False], repeat=3)))
def test_the_assignments_switches_mean_what_they_say(bilinear, pool, dice):
    module = uNetLightning(bilinear=bilinear, pool=pool, dice=dice, width=4)
    kinds = {type(part).__name__ for part in module.modules()}
    assert ("Upsample" in kinds, "ConvTranspose2d" in kinds) == (bilinear, not bilinear)
    assert ("MaxPool2d" in kinds) == pool
    strides = [part.stride for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert strides.count((2, 2)) == (0 if pool else 4)
    assert ("DiceLoss" if dice else "CrossEntropyLoss") == type(module.loss).__name__


def build_record(down: str, up: str, loss: str, seeds: int = 1, family: str = "unet") -> SimpleNamespace:
    """A record whose second epoch has the better mean IoU; the losses of the seeds are 1 apart."""
    history = [
        {"seed": seed, "epoch": epoch, "val_loss": 1.25 / epoch + seed, "val_pooled_dice_loss": 0.5 / epoch + seed}
        | {"val_mean_iou": 0.1 * epoch}
        for seed in range(seeds)
        for epoch in (1, 2)
    ]
    settings = SimpleNamespace(down=down, up=up, loss=loss)
    return SimpleNamespace(family=family, preset="tiny", settings=settings, history=history, label=lambda: "it")


def test_the_validation_loss_beside_the_assignments():
    # The second epoch: 1.25 / 2 + seed, and pooled 0.5 / 2 + seed.
    kept = [build_record("maxpool", "transpose", "ce", 3), build_record("maxpool", "transpose", "dice", 3)]
    rows = compare_losses(kept).rows
    assert rows[0] == ["it", "tiny", "1, by heading", "cross-entropy", "1.625 ± 1.000", "0.265"]
    assert rows[1] == ["it", "tiny", "2, by heading and code", "pooled Dice loss", "1.250 ± 1.000", "0.190"]
    kept[0].history[0]["val_mean_iou"] = 0.9  # in seed 0 the first epoch was the better one
    assert compare_losses(kept).rows[0][4].startswith("1.833")  # (1.25 + 1.625 + 2.625) / 3
    assert compare_losses([build_record("strided", "transpose", "ce")]).rows[0][2:] == [
        *("3, by heading and code", "cross-entropy", "0.625", "0.406"),
    ]


def test_headings_and_code_disagree_in_two_runs():
    assert [number for number, run in RUNS.items() if run.heading != run.code] == [1, 4]
    rows = {
        combination: [row[2] for row in compare_losses([build_record(*combination)]).rows]
        for combination in product(("maxpool", "strided"), ("transpose", "bilinear"), ("ce", "dice"))
    }
    assert rows["maxpool", "transpose", "ce"] == ["1, by heading"]
    assert rows["maxpool", "bilinear", "ce"] == ["1, by code"]
    assert rows["strided", "bilinear", "dice"] == ["4, by heading"]
    assert rows["strided", "transpose", "dice"] == ["4, by code"]
    # The other two were neither named nor run, and are left out.
    assert rows["maxpool", "bilinear", "dice"] == rows["strided", "bilinear", "ce"] == []


def test_a_record_of_another_family_is_left_out():
    assert compare_losses([build_record("maxpool", "transpose", "ce", family="cvae")]).rows == []


def test_a_conditional_vae_beside_the_assignments():
    linear = torch.nn.Linear
    module = SimpleNamespace(vae=SimpleNamespace(encoder=linear(9, 10), decoder=linear(99, 10)), frozen=linear(1, 2))
    rows = compare_cvae_parameters(module, "mnist").rows
    assert rows == [["encoder", "100", "154 K"], ["decoder", "1,000", "774 K"], ["frozen CNN", "4", "593 K"]]
    assert [row[2] for row in compare_cvae_parameters(module, "cifar10").rows] == ["4.6 M", "8.5 M", "2.0 M"]
    assert compare_cvae_parameters(module, "a folder").rows == []


@pytest.mark.parametrize(("name", "title"), [("cvae-mnist", "MNIST"), ("cvae-cifar10", "CIFAR-10")])
def test_the_page_on_the_assignment_counts_our_parameters(name, title):
    images = {"channels": 1, "size": 28} if title == "MNIST" else {"channels": 3, "size": 32}
    module = build_module("cvae", build_settings(EXPERIMENTS[name], "full"), {"classes": tuple("0123456789")} | images)
    counts = (count_parameters(part) for part in (module.vae.encoder, module.vae.decoder, module.frozen))
    page = (Path(__file__).parent.parent / "docs" / "assignment.md").read_text()
    assert f"| {title} | {' | '.join(f'{count:,}' for count in counts)} |" in page
