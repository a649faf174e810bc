"""Augmentation: image and mask move together, every image by itself, the same again for the same seed."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from s18_utils.data.augmentation import augment_pets


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(count: int = 16, side: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Masks of large blocks, and images whose colours are the classes: red, green, blue."""
    blocks = torch.randint(0, 3, (count, 1, 6, 6), generator=generator(seed)).float()
    masks = F.interpolate(blocks, (side, side))[:, 0].long()
    return F.one_hot(masks, 3).movedim(-1, 1).float() * 0.6 + 0.2, masks


NONE = {"rotate": 0.0, "zoom": 0.0, "shift": 0.0, "colour": 0.0}
ALL = {"rotate": 15.0, "zoom": 0.25, "shift": 0.1, "colour": 0.3}


def change(images: Tensor, masks: Tensor, seed: int = 0, size: int | None = None, **settings) -> tuple[Tensor, Tensor]:
    """Everything at a usual strength, or what is given alone."""
    settings = NONE | settings if settings else ALL
    return augment_pets(images, masks, generator(seed), size or images.shape[-1], **settings)


@pytest.mark.parametrize("colour", [True, False])
def test_image_and_mask_move_together(colour):
    images, masks = scene()
    moved, truth = change(images, masks, **(ALL if colour else ALL | {"colour": 0.0}))
    # Which class the colour shows, against the mask: they differ only along edges, where colours blend.
    assert (moved.argmax(dim=1) == truth).float().mean() > 0.97
    assert (truth != masks).float().mean() > 0.2  # and they did move
    # Away from the edges of the moved mask, every pixel agrees.
    highest, lowest = F.max_pool2d(truth.float(), 5, 1, 2), -F.max_pool2d(-truth.float(), 5, 1, 2)
    edges = highest != lowest
    assert (moved.argmax(dim=1) == truth)[~edges].all()


def test_masks_keep_their_classes_and_types():
    images, masks = scene()
    moved, truth = change(images, masks)
    assert (truth.dtype, truth.shape) == (torch.int64, masks.shape)
    assert (moved.dtype, moved.shape) == (images.dtype, images.shape)
    # Pet beside border without background between: a blend of 0 and 2 would be 1.
    without = masks.masked_fill(masks == 1, 2)
    _, truth = change(images, without, 1)
    assert truth.unique().tolist() == [0, 2]


def test_values_stay_in_range():
    images = torch.rand(64, 3, 24, 24, generator=generator()).round()  # black and white are the hardest
    moved, _ = change(images, torch.zeros(64, 24, 24, dtype=torch.long))
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert moved.isfinite().all()


def test_the_generator_decides_everything():
    images, masks = scene()
    before = torch.get_rng_state()
    first, again, other = (change(images, masks, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(before, torch.get_rng_state())


def test_what_it_was_given_stays_as_it_was():
    images, masks = scene()
    copies = images.clone(), masks.clone()
    change(images, masks)
    assert torch.equal(images, copies[0])
    assert torch.equal(masks, copies[1])


def test_each_image_of_a_batch_is_changed_in_its_own_way():
    images, masks = (part[:1].expand(8, *part.shape[1:]) for part in scene())
    moved, truth = change(images, masks)
    assert len(moved.flatten(1).unique(dim=0)) == 8
    assert len(truth.flatten(1).unique(dim=0)) == 8


def test_nothing_drawn_means_nothing_changed_but_the_flip():
    images, masks = scene(count=64)
    moved, truth = change(images, masks, rotate=0.0)
    flipped = (truth != masks).flatten(1).any(dim=1)
    assert 20 <= flipped.sum() <= 44  # about half of 64
    torch.testing.assert_close(moved[~flipped], images[~flipped], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[flipped], images[flipped].flip(3), atol=1e-4, rtol=0)
    assert torch.equal(truth[flipped], masks[flipped].flip(2))


def test_a_shift_moves_by_at_most_its_share():
    images, masks = torch.zeros(200, 3, 32, 32), torch.ones(200, 32, 32, dtype=torch.long)
    images[:, :, 16, 16] = 1
    masks[:, 14:18, 14:18] = 0
    _, truth = change(images, masks, shift=0.25)
    at = torch.arange(32.0) - 15.5
    pet = (truth == 0).float()
    for axis in (1, 2):
        centre = (pet.sum(dim=3 - axis) * at).sum(dim=1) / pet.sum(dim=(1, 2))
        assert 3.2 < centre.abs().max() <= 0.25 * 16 + 0.5  # a quarter of half the side


def area(masks: Tensor) -> Tensor:
    return (masks == 0).float().sum(dim=(1, 2))


def test_zoom_goes_both_ways():
    masks = torch.ones(200, 64, 64, dtype=torch.long)
    masks[:, 22:42, 22:42] = 0
    _, truth = change(torch.zeros(200, 3, 64, 64), masks, zoom=0.25)
    side = area(truth).sqrt() / 20
    assert side.max().item() == pytest.approx(1.28, abs=0.06)
    assert side.min().item() == pytest.approx(1 / 1.28, abs=0.06)


def test_rotation_keeps_areas_and_shapes():
    masks = torch.ones(100, 64, 64, dtype=torch.long)
    masks[:, 31:33, 12:52] = 0  # a level bar
    _, truth = change(torch.zeros(100, 3, 64, 64), masks, rotate=15.0)
    assert (area(truth) - 80).abs().max() < 14
    at = torch.arange(64.0) - 31.5
    pet = (truth == 0).float()
    total = pet.sum(dim=(1, 2))
    slope = (pet * at.view(-1, 1) * at).sum(dim=(1, 2)) / (pet * at**2).sum(dim=(1, 2))
    assert total.min() > 0
    assert 0.2 < slope.atan().abs().max() < 0.29
    assert slope.min() < -0.1 < 0.1 < slope.max()  # both ways


def test_beyond_the_frame_is_the_mirror_image():
    # A scene without border inside shows none from outside either, as filling with a class would.
    images, masks = scene()
    masks[masks == 1] = 2
    _, truth = change(images, masks)
    assert 1 not in truth
    moved, _ = change(torch.full_like(images, 0.5), masks)
    assert moved.std(dim=(2, 3)).max() < 1e-4  # no black corners


def test_colour_changes_leave_masks_alone():
    images, masks = scene()
    moved, truth = change(images, masks, colour=0.3)
    flipped = (truth != masks).flatten(1).any(dim=1)
    assert torch.equal(truth[flipped], masks[flipped].flip(2))
    back = torch.where(flipped.view(-1, 1, 1, 1), moved.flip(3), moved)
    assert (back - images).abs().mean(dim=(1, 2, 3)).min() > 0.005
    assert (back.mean(dim=(2, 3)).std(dim=0) > 0.02).all()


def test_on_average_brightness_stays():
    images = torch.rand(400, 3, 16, 16, generator=generator()) * 0.2 + 0.4
    moved, _ = change(images, torch.zeros(400, 16, 16, dtype=torch.long))
    assert moved.mean().item() == pytest.approx(0.5, abs=0.02)


def test_at_half_the_size_a_pixel_is_the_average_of_four():
    images = torch.rand(32, 3, 32, 32, generator=generator())
    masks = torch.randint(0, 3, (32, 32, 32), generator=generator())
    moved, truth = change(images, masks, size=16, rotate=0.0)
    assert (moved.shape, truth.shape) == ((32, 3, 16, 16), (32, 16, 16))
    expected, blocks = F.avg_pool2d(images, 2), masks.view(32, 16, 2, 16, 2).movedim(2, 3).flatten(3)
    kept = (moved - expected).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (moved - expected.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (kept ^ mirrored).all()
    assert 8 <= kept.sum() <= 24
    # A mask's pixel is one of the four, and no mixture.
    blocks = torch.where(mirrored.view(-1, 1, 1, 1), blocks.flip(2), blocks)
    assert (truth.unsqueeze(3) == blocks).any(dim=3).all()


def test_half_the_size_shows_the_same_view():
    # The same draw at either size: the smaller picture is the larger one, averaged.
    images = F.interpolate(torch.rand(8, 3, 6, 6, generator=generator()), (64, 64), mode="bilinear")
    masks = torch.zeros(8, 64, 64, dtype=torch.long)
    whole, half = (change(images, masks, seed=5, size=size)[0] for size in (64, 32))
    assert (F.avg_pool2d(whole, 2) - half).abs().mean() < 0.005
