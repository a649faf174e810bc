"""Augmentation of labelled images: each change by itself, worked out by hand, and repeatable."""

import math

import pytest
import torch
from torch import Tensor

from s18_utils.data.augmentation import augment_labelled, gaussian_blur

NOTHING = {"translate": 0, "flip": False, "rotate": 0.0, "scale": 0.0, "shear": 0.0, "noise": 0.0, "blur": 0.0}
EVERYTHING = {"translate": 2, "flip": True, "rotate": 10.0, "scale": 0.1, "shear": 0.15, "noise": 0.3, "blur": 0.5}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def change(images: Tensor, seed: int = 0, **settings) -> Tensor:
    labels = torch.zeros(len(images), dtype=torch.long)
    return augment_labelled(images, labels, generator(seed), images.shape[-1], **(NOTHING | settings))[0]


def dots(count: int, channels: int = 1, size: int = 9) -> Tensor:
    """One bright pixel, in the middle."""
    images = torch.zeros(count, channels, size, size)
    images[:, :, size // 2, size // 2] = 1
    return images


def bars(count: int, size: int = 33) -> Tensor:
    """An upright bar, three pixels wide."""
    images = torch.zeros(count, 1, size, size)
    images[:, :, 4:-4, size // 2 - 1 : size // 2 + 2] = 1
    return images


def slant(images: Tensor) -> Tensor:
    """How far the light leans to the right for each pixel further up: its covariance over its variance down, (N,)."""
    light, at = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True), torch.arange(images.shape[-1], dtype=torch.float)
    down, across = light.sum(2), light.sum(1)
    down, across = at - (down * at).sum(1, keepdim=True), at - (across * at).sum(1, keepdim=True)
    covariance = (light * down[:, :, None] * across[:, None]).sum((1, 2))
    return -covariance / (light.sum(2) * down**2).sum(1)


def widths(images: Tensor) -> tuple[Tensor, Tensor]:
    """The spread of the light down and across: two (N,)."""
    light, at = images[:, 0] / images[:, 0].sum((1, 2), keepdim=True), torch.arange(images.shape[-1], dtype=torch.float)
    spreads = []
    for axis in (2, 1):
        share = light.sum(axis)
        spreads.append(((share * at**2).sum(1) - (share * at).sum(1) ** 2).sqrt())
    return spreads[0], spreads[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_of_nothing_nothing_changes(channels):
    images = torch.rand(4, channels, 16, 16, generator=generator())
    assert torch.equal(change(images), images)


def test_labels_are_returned_as_they_are_and_inputs_stay():
    images, labels = torch.rand(20, 1, 28, 28, generator=generator()), torch.arange(20) % 10
    copies = images.clone(), labels.clone()
    _, after = augment_labelled(images, labels, generator(), 28, **EVERYTHING)
    assert torch.equal(after, copies[1])
    assert torch.equal(labels, copies[1])
    assert torch.equal(images, copies[0])


def test_the_generator_decides_everything():
    images = torch.rand(20, 3, 32, 32, generator=generator())
    before = torch.get_rng_state()
    first, again, other = (change(images, seed, **EVERYTHING) for seed in (3, 3, 4))
    assert first.isfinite().all()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_each_image_of_a_batch_is_changed_in_its_own_way():
    images = bars(1).expand(8, -1, -1, -1)
    for name in ("rotate", "scale", "shear", "noise"):
        assert len(change(images, **{name: EVERYTHING[name]}).flatten(1).unique(dim=0)) == 8


def test_a_shift_moves_each_image_by_its_own_whole_step():
    moved = change(dots(500), translate=2)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(500))
    assert torch.equal(moved.unique(), torch.tensor([0.0, 1.0]))
    places = moved.nonzero()[:, 2:]
    assert torch.equal(places.unique(dim=0), torch.cartesian_prod(torch.arange(2, 7), torch.arange(2, 7)))
    counts = torch.unique(places, dim=0, return_counts=True)[1]
    assert (counts - 20).abs().max() < 5 * math.sqrt(20)  # all 25 steps alike


def test_what_comes_in_is_black_for_grey_images_and_the_mirror_image_for_others():
    assert (change(torch.ones(50, 1, 8, 8), translate=2) == 0).any()
    assert (change(torch.ones(50, 3, 8, 8), translate=2) == 1).all()
    ramp = torch.arange(8.0).expand(50, 3, 8, 8)
    rows = {tuple(row.tolist()) for row in change(ramp, translate=1)[:, 0, 0]}
    assert rows == {(1.0, 0, 1, 2, 3, 4, 5, 6), (0.0, 1, 2, 3, 4, 5, 6, 7), (1.0, 2, 3, 4, 5, 6, 7, 6)}


def test_every_second_image_is_mirrored():
    images = torch.rand(400, 3, 4, 4, generator=generator())
    moved = change(images, flip=True)
    mirrored = (moved == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (moved == images).flatten(1).all(1)).all()
    assert 150 < mirrored.sum() < 250


def test_rotation_goes_both_ways_up_to_its_angle():
    lean = slant(change(bars(300), rotate=20.0))
    assert math.tan(math.radians(17)) < lean.max() < math.tan(math.radians(20.5))
    assert -math.tan(math.radians(20.5)) < lean.min() < -math.tan(math.radians(17))
    high, wide = widths(change(dots(1).repeat(300, 1, 1, 1), rotate=20.0))
    assert (high - wide).abs().max() < 0.05  # a dot stays round


def test_shear_slants_upright_bars_and_leaves_their_height():
    moved = change(bars(300), shear=0.3)
    lean = slant(moved)
    assert 0.25 < lean.max() < 0.31
    assert -0.31 < lean.min() < -0.25
    torch.testing.assert_close(widths(moved)[0], widths(bars(300))[0], atol=0.05, rtol=0)


def test_scale_stretches_height_and_width_each_by_itself():
    squares = torch.zeros(300, 1, 41, 41)
    squares[:, :, 12:29, 12:29] = 1
    scaled, plain = widths(change(squares, scale=0.2)), widths(squares)
    high, wide = scaled[0] / plain[0], scaled[1] / plain[1]
    for stretch in (high, wide):
        assert 0.78 < stretch.min() < 0.87
        assert 1.17 < stretch.max() < 1.27
    assert abs(torch.corrcoef(torch.stack([high, wide]))[0, 1]) < 0.2


def test_noise_is_up_to_its_size_and_differs_from_image_to_image():
    images = torch.full((400, 1, 28, 28), 0.5)
    added = change(images, noise=0.3) - 0.5
    sizes = added.flatten(1).std(1)
    assert added.mean().abs() < 0.01
    assert 0.28 < sizes.max() < 0.33
    assert sizes.min() < 0.02
    assert sizes.mean().item() == pytest.approx(0.15, abs=0.02)


def test_blur_changes_its_share_of_batches_and_all_images_of_one():
    images = dots(5)
    blurred = [change(images, seed, blur=0.3) for seed in range(300)]
    changed = [not torch.equal(batch, images) for batch in blurred]
    assert 60 < sum(changed) < 120
    middles = torch.stack([batch[:, 0, 4, 4] for batch, did in zip(blurred, changed, strict=True) if did])
    assert (middles == middles[:, :1]).all()
    assert len(middles[:, 0].unique()) > 50  # not always the same blur
    assert all(torch.equal(change(images, seed), images) for seed in range(5))


def test_flat_images_stay_flat_and_a_dot_becomes_a_gaussian():
    flat = torch.full((1, 3, 8, 8), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, 1.0), flat)  # edges too
    out = gaussian_blur(dots(1), 1.0)[0, 0]
    taps = torch.exp(-0.5 * torch.arange(-2.0, 3) ** 2)
    taps /= taps.sum()
    torch.testing.assert_close(out[2:7, 2:7], taps[:, None] * taps)
    assert out.sum().item() == pytest.approx(1, abs=1e-6)


def test_blur_is_a_convolution_with_edges_repeated():
    images = torch.rand(2, 3, 10, 7, generator=generator())  # not square
    taps = torch.exp(-0.5 * (torch.arange(-2.0, 3) / 0.8) ** 2)
    kernel = (taps[:, None] * taps / taps.sum() ** 2).expand(3, 1, 5, 5)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    torch.testing.assert_close(gaussian_blur(images, 0.8), torch.nn.functional.conv2d(padded, kernel, groups=3))


def test_blur_passes_gradients_and_keeps_the_type():
    images = torch.rand(1, 1, 8, 8, requires_grad=True)
    gaussian_blur(images, 1.0).sum().backward()
    assert images.grad.sum().item() == pytest.approx(64, rel=1e-4)  # all light goes somewhere
    assert gaussian_blur(images.double(), 1.0).dtype == torch.float64


def test_another_size_is_an_average():
    images = torch.rand(4, 3, 32, 32, generator=generator())
    labels = torch.arange(4)
    smaller, after = augment_labelled(images, labels, generator(), 16, **NOTHING)
    torch.testing.assert_close(smaller, torch.nn.functional.avg_pool2d(images, 2))
    assert torch.equal(after, labels)
