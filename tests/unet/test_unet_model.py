"""The network: every combination learns, its shapes, its skip connections, and the names of its weights."""

from itertools import product

import pytest
import torch
from unet_stand_ins import build_unet

from s18_utils.unet.losses import LOSSES, build_loss
from s18_utils.unet.model import DOWN, UP

EVERYTHING = list(product(DOWN, UP, LOSSES))
EVERY_COMBINATION = pytest.mark.parametrize(("down", "up"), list(product(DOWN, UP)))


@pytest.mark.parametrize(("down", "up", "loss"), EVERYTHING)
def test_gradients_reach_every_parameter(down, up, loss):
    torch.manual_seed(0)
    unet = build_unet(down, up, width=8)
    target = torch.randint(0, 3, (4, 32, 32))
    build_loss(loss)(unet(torch.rand(4, 3, 32, 32)), target).backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("down", "up", "loss"), EVERYTHING)
def test_one_batch_can_be_learned_by_heart(down, up, loss):
    torch.manual_seed(0)
    unet, loss = build_unet(down, up, width=8), build_loss(loss)
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
def test_the_deepest_level_is_a_sixteenth(down, up):
    unet, seen = build_unet(down, up).eval(), {}
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
    unet = build_unet(in_channels=channels, classes=5).eval()
    images = torch.rand(1, channels, 16, 16, requires_grad=True)
    logits = unet(images)
    assert logits.shape == (1, 5, 16, 16)
    logits.square().sum().backward()
    assert (images.grad.abs().sum(dim=(0, 2, 3)) > 0).all()  # it looks at each of them


@pytest.mark.parametrize(("level", "skip"), [("up4", "inc"), ("up3", "down1"), ("up2", "down2"), ("up1", "down3")])
def test_every_level_has_its_skip_connection(level, skip):
    torch.manual_seed(0)
    unet, seen = build_unet().eval(), {}
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
    unet = build_unet().eval()
    unet.down1.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    first, second = (unet(torch.rand(1, 3, 32, 32)) for _ in range(2))
    assert (first - second).abs().max() > 1e-3


def test_an_image_does_not_depend_on_its_batch_when_evaluating():
    torch.manual_seed(0)
    unet = build_unet().eval()
    images = torch.rand(3, 3, 16, 32)
    torch.testing.assert_close(unet(images)[1:2], unet(images[1:2]))


@EVERY_COMBINATION
def test_without_skip_connections_the_decoder_gets_zeros_and_has_as_many_parameters(down, up):
    torch.manual_seed(0)
    whole = build_unet(down, up).eval()
    bare = build_unet(down, up, skip=False).eval()
    assert bare.state_dict().keys() == whole.state_dict().keys()
    bare.load_state_dict(whole.state_dict())
    images = torch.rand(2, 3, 32, 32)
    for level in range(1, 5):
        getattr(whole, f"up{level}").register_forward_pre_hook(
            lambda _, inputs: (inputs[0], torch.zeros_like(inputs[1]))
        )
    torch.testing.assert_close(bare(images), whole(images))


def test_without_skip_connections_gradients_go_through_the_bottom():
    torch.manual_seed(0)
    unet = build_unet(skip=False)
    unet(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert unet.inc[0].weight.grad.abs().max() > 0
    # What reads the skip connections reads zeros, and so learns nothing: the first half of the channels.
    first = unet.up4.conv[0].weight
    assert first.grad[:, : first.shape[1] // 2].abs().max() == 0


@EVERY_COMBINATION
def test_the_names_of_the_weights_are_those_of_published_records(down, up):
    names = build_unet(down, up).state_dict().keys()
    assert {name.split(".")[0] for name in names} == {
        "inc",
        *(f"{way}{i}" for way in ("down", "up") for i in (1, 2, 3, 4)),
        "outc",
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in build_unet(down, up).state_dict().items()}
    assert shapes["inc.0.weight"] == (4, 3, 3, 3)
    assert shapes["down4.1.3.weight"][2:] == (3, 3)
    assert ("down1.0.weight" in names) == (down == "strided")
    assert ("up1.enlarge.weight" in names) == (up == "transpose")
    assert shapes["up1.conv.0.weight"] == (32, 64, 3, 3)
    assert shapes["outc.weight"] == (3, 4, 1, 1)
