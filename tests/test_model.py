"""The UNet against the assignment's tables, and its behaviour on any size, channel count and combination."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from s18_utils.errors import InputError
from s18_utils.tables import SEED_PARAMETERS, count_parameters, parameters
from s18_utils.unet import DiceLoss, UNet, uNetLightning
from s18_utils.unet.losses import LOSSES, build_loss
from s18_utils.unet.model import DOWN, UP

PARTS = ("inc", "down1", "down2", "down3", "down4", "up1", "up2", "up3", "up4", "outc")
# What the assignment printed for `uNetLightning(bilinear, pool, dice)`: a row for each part, the total and its MB.
PRINTED = [
    (
        (True, True, False),
        "38.8 K|221 K|885 K|3.5 M|4.7 M|5.9 M|1.5 M|369 K|110 K|195",
        (17_263_107, "17.3 M", "69.052"),
    ),
    (
        (False, True, True),
        "38.8 K|221 K|885 K|3.5 M|14.2 M|9.2 M|2.3 M|574 K|143 K|195",
        (31_037_763, "31.0 M", "124.151"),
    ),
    (
        (False, False, False),
        "38.8 K|369 K|1.5 M|5.9 M|23.6 M|9.2 M|2.3 M|574 K|143 K|195",
        (43_571_523, "43.6 M", "174.286"),
    ),
    (
        (False, False, True),
        "38.8 K|369 K|1.5 M|5.9 M|23.6 M|9.2 M|2.3 M|574 K|143 K|195",
        (43_571_523, "43.6 M", "174.286"),
    ),
]
EVERYTHING = list(product(DOWN, UP, LOSSES))
EVERY_COMBINATION = pytest.mark.parametrize(("down", "up"), list(product(DOWN, UP)))


@pytest.mark.parametrize(("switches", "rows", "total"), PRINTED)
def test_every_row_of_the_assignments_tables(switches, rows, total):
    bilinear, pool, dice = switches
    with torch.device("meta"):
        module = uNetLightning(bilinear=bilinear, pool=pool, dice=dice)
    table = parameters(module.unet, bilinear, pool)
    assert [row[0] for row in table.rows] == [*PARTS, "total"]
    assert [row[2] for row in table.rows[:-1]] == rows.split("|")
    count = count_parameters(module)
    assert count == total[0]
    assert table.rows[-1][1:3] == [f"{total[0]:,}", total[1]]
    assert f"{count * 4 / 1e6:.3f}" == total[2]
    assert isinstance(module.loss, DiceLoss) == dice
    # Nothing is frozen, and the table beside it repeats the assignment's.
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert [row[3] for row in table.rows] == [*rows.split("|"), total[1]]
    assert SEED_PARAMETERS[bilinear, pool].split("|") == [*rows.split("|"), total[1]]


def test_a_combination_that_was_not_printed_says_so():
    with torch.device("meta"):
        table = parameters(UNet("strided", "bilinear"), bilinear=True, pool=False)
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


@pytest.mark.parametrize(("down", "up", "loss"), EVERYTHING)
def test_gradients_reach_every_parameter(down, up, loss):
    torch.manual_seed(0)
    unet = UNet(down, up, width=8)
    target = torch.randint(0, 3, (4, 32, 32))
    build_loss(loss)(unet(torch.rand(4, 3, 32, 32)), target).backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("down", "up", "loss"), EVERYTHING)
def test_one_batch_can_be_learned_by_heart(down, up, loss):
    torch.manual_seed(0)
    unet, loss = UNet(down, up, width=8), build_loss(loss)
    images, target = torch.rand(2, 3, 16, 16), torch.ones(2, 16, 16, dtype=torch.long)
    target[0, 3:9, 2:10], target[1, 8:14, 5:12] = 0, 2
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-2)
    for _ in range(200):
        value = loss(unet(images), target)
        if value < 0.05:
            break
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    assert value < 0.05
    assert (unet(images).argmax(dim=1) == target).float().mean() > 0.97


@EVERY_COMBINATION
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (50, 65), (16, 47), (33, 16)])
def test_any_size_comes_back_as_it_was(down, up, size):
    unet = UNet(down, up, width=4).eval()
    assert unet(torch.rand(2, 3, *size)).shape == (2, 3, *size)


@EVERY_COMBINATION
def test_padding_repeats_the_edge_and_is_cropped_away(down, up):
    torch.manual_seed(0)
    unet = UNet(down, up, width=4).eval()
    image = torch.rand(1, 3, 30, 45)
    by_hand = torch.cat([image, image[:, :, -1:].expand(-1, -1, 2, -1)], dim=2)
    by_hand = torch.cat([by_hand, by_hand[..., -1:].expand(-1, -1, -1, 3)], dim=3)
    assert by_hand.shape[-2:] == (32, 48)
    torch.testing.assert_close(unet(image), unet(by_hand)[..., :30, :45])


@pytest.mark.parametrize(("size", "padded"), [((16, 16), False), ((32, 48), False), ((32, 40), True)])
def test_only_sizes_that_need_it_are_padded(monkeypatch, size, padded):
    calls, pad = [], F.pad
    monkeypatch.setattr(F, "pad", lambda *arguments, **named: calls.append(arguments[1]) or pad(*arguments, **named))
    UNet(width=2).eval()(torch.rand(1, 3, *size))
    assert calls == ([(0, 8, 0, 0)] if padded else [])


@EVERY_COMBINATION
def test_the_deepest_level_is_a_sixteenth(down, up):
    unet, seen = UNet(down, up, width=4).eval(), {}
    for name, part in unet.named_children():
        part.register_forward_hook(lambda _, __, output, name=name: seen.update({name: tuple(output.shape[1:])}))
    unet(torch.rand(1, 3, 32, 64))
    half = 2 if up == "bilinear" else 1
    assert seen["inc"] == seen["up4"] == (4, 32, 64)
    assert seen["down2"] == (16, 8, 16)
    assert seen["down4"] == (64 // half, 2, 4)
    assert seen["up3"] == (8 // half, 16, 32)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_any_number_of_channels_and_classes(channels):
    torch.manual_seed(0)
    unet = UNet(in_channels=channels, classes=5, width=4).eval()
    images = torch.rand(1, channels, 16, 16, requires_grad=True)
    logits = unet(images)
    assert logits.shape == (1, 5, 16, 16)
    logits.square().sum().backward()
    assert (images.grad.abs().sum(dim=(0, 2, 3)) > 0).all()  # it looks at each of them


@pytest.mark.parametrize(("level", "skip"), [("up4", "inc"), ("up3", "down1"), ("up2", "down2"), ("up1", "down3")])
def test_every_level_has_its_skip_connection(level, skip):
    torch.manual_seed(0)
    unet, seen = UNet(width=4).eval(), {}
    getattr(unet, skip).register_forward_hook(lambda _, __, output: seen.update(encoder=output))
    part = getattr(unet, level)
    part.register_forward_hook(lambda _, inputs, __: seen.update(below=inputs[0], skip=inputs[1]))
    part.conv.register_forward_hook(lambda _, inputs, __: seen.update(joined=inputs[0]))
    unet(torch.rand(1, 3, 32, 32))
    assert torch.equal(seen["encoder"], seen["skip"])
    assert torch.equal(seen["joined"][:, : seen["skip"].shape[1]], seen["skip"])  # first, as saved weights expect it
    assert seen["skip"].shape[-1] == 2 * seen["below"].shape[-1]


def test_without_the_deep_levels_detail_still_comes_through():
    # Silence the way through the bottom; the skip connections alone must still tell two images apart.
    torch.manual_seed(0)
    unet = UNet(width=4).eval()
    unet.down1.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    first, second = (unet(torch.rand(1, 3, 32, 32)) for _ in range(2))
    assert (first - second).abs().max() > 1e-3


def test_an_image_does_not_depend_on_its_batch_when_evaluating():
    torch.manual_seed(0)
    unet = UNet(width=4).eval()
    images = torch.rand(3, 3, 20, 20)
    torch.testing.assert_close(unet(images)[1:2], unet(images[1:2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"down": "avgpool"}, "unknown down-sampling 'avgpool': choose one of maxpool, strided"),
        ({"up": "nearest"}, "unknown up-sampling 'nearest': choose one of transpose, bilinear"),
        ({"width": 3}, "width even, not 3, 3, 3"),
        ({"width": 0}, "must be positive"),
        ({"in_channels": 0}, "must be positive"),
        ({"classes": 0}, "must be positive"),
    ],
)
def test_settings_that_make_no_model(settings, message):
    with pytest.raises(InputError, match=message):
        UNet(**settings)
