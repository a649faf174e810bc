"""The drawn data sets: repeatable, balanced like the real ones, and hard and easy in the right places."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.data.synthetic import DIGIT_CLASSES, OBJECT_CLASSES, digits, objects, pets

SIZE = 64


@pytest.fixture(scope="module")
def animals() -> tuple[Tensor, Tensor]:
    return pets(512, SIZE, seed=0)


def small_pets(count: int, seed: int) -> tuple[Tensor, Tensor]:
    return pets(count, 32, seed)


DRAWINGS = pytest.mark.parametrize("draw", [small_pets, digits, objects])


@DRAWINGS
def test_the_seed_decides_every_byte_and_the_global_state_is_left_alone(draw):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again, other = draw(20, 3), draw(20, 3), draw(20, 4)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert (first[0] != other[0]).flatten(1).any(dim=1).all()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@DRAWINGS
def test_an_image_does_not_depend_on_how_many_follow(draw):
    few, many = draw(10, 1), draw(300, 1)
    assert torch.equal(few[0], many[0][:10])
    assert torch.equal(few[1], many[1][:10])


@DRAWINGS
def test_no_two_images_are_equal(draw):
    # 600 images take several chunks; a chunk that repeated another's seed, or another set's, would show here.
    both = torch.cat([draw(600, 0)[0], draw(600, 1)[0]])
    assert len(both.flatten(1).unique(dim=0)) == 1200


def test_types_and_shapes():
    images, masks = pets(3, 40, 0)
    assert (images.dtype, images.shape) == (torch.uint8, (3, 3, 40, 40))
    assert (masks.dtype, masks.shape) == (torch.uint8, (3, 40, 40))
    for draw, shape in ((digits, (3, 1, 28, 28)), (objects, (3, 3, 32, 32))):
        images, labels = draw(3, 0)
        assert (images.dtype, images.shape) == (torch.uint8, shape)
        assert (labels.dtype, labels.shape) == (torch.int64, (3,))


def class_shares(masks: Tensor) -> Tensor:
    """Of each image, (3, N)."""
    return torch.stack([(masks == label).float().mean(dim=(1, 2)) for label in range(3)])


def test_class_shares_are_those_of_the_photographs(animals):
    # 30 % pet, 58 % background and 12 % border in Oxford-IIIT Pet; the share of pet deviates by 17 %.
    shares = class_shares(animals[1])
    assert animals[1].max() == 2
    assert shares.mean(dim=1).tolist() == pytest.approx([0.30, 0.58, 0.12], abs=0.02)
    assert 0.12 < shares[0].std() < 0.22


def test_a_scene_is_the_same_at_every_size():
    small, large = (pets(16, size, seed=5) for size in (48, 96))
    shrunk = F.avg_pool2d(large[0].float(), 2)
    assert (shrunk - small[0].float()).abs().mean() < 8  # of 255; the noise differs
    assert (large[1][:, ::2, ::2] == small[1]).float().mean() > 0.93
    assert (class_shares(large[1]) - class_shares(small[1])).abs().max() < 0.02


def test_the_border_runs_along_the_outline(animals):
    def share_near(mask: Tensor, other: Tensor, reach: int) -> float:
        """The share of a mask's pixels that are at most `reach` rows and columns away from the other."""
        near = F.max_pool2d(other.float(), 2 * reach + 1, stride=1, padding=reach) > 0
        return ((mask & near).sum() / mask.sum()).item()

    pet, background, border = (animals[1].unsqueeze(1) == label for label in range(3))
    assert share_near(border, pet, 5) > 0.98  # the band is about 3 of 64 pixels wide; the rest are tips of tails
    assert share_near(border, background, 5) > 0.95  # the rest are hollows
    # Pet and background are kept apart; only around the smallest animals they meet at corners of pixels.
    assert share_near(pet, background, 1) < 0.001


def mean_iou(guesses: Tensor, truth: Tensor) -> float:
    pairs = [(guesses == label, truth == label) for label in range(3)]
    return torch.stack([(guess & true).sum() / (guess | true).sum() for guess, true in pairs]).mean().item()


def test_colour_alone_does_not_tell_pet_from_place(animals):
    images, masks = animals
    # The best that any classifier of single pixels could do on these very images, each channel in 16 steps.
    steps = (images // 16).long()
    colours = (steps[:, 0] * 16 + steps[:, 1]) * 16 + steps[:, 2]
    table = (colours * 3 + masks).flatten().bincount(minlength=3 * 16**3).view(-1, 3).float()
    # First as if the classes were equally frequent, which is what favours the mean over classes.
    assert mean_iou((table / table.sum(dim=0)).argmax(dim=1)[colours], masks) < 0.45
    assert mean_iou(table.argmax(dim=1)[colours], masks) < 0.45


@pytest.mark.parametrize(("draw", "classes"), [(digits, DIGIT_CLASSES), (objects, OBJECT_CLASSES)])
def test_classes_are_balanced_from_the_start(draw, classes):
    assert len(set(classes)) == 10
    _, labels = draw(510, 2)
    assert labels.bincount(minlength=10).tolist() == [51] * 10
    assert labels[:30].bincount(minlength=10).tolist() == [3] * 10
    assert labels[:10].tolist() != labels[10:20].tolist()


@pytest.mark.parametrize(("draw", "epochs", "least"), [(digits, 2, 0.85), (objects, 6, 0.4)])
def test_a_small_network_learns_to_read_them(draw, epochs, least):
    torch.manual_seed(0)
    (images, labels), (new_images, new_labels) = draw(1500, 0), draw(500, 1)
    layers = []
    for before, after in ((images.shape[1], 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    network(images[:2] / 255)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows] / 255), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        guesses = network.eval()(new_images / 255).argmax(dim=1)
    assert (guesses == new_labels).float().mean() > least


def test_the_mean_of_an_object_tells_little():
    # Classes differ in shape, not in colour or brightness: a colour layout can survive a change of label.
    images, labels = objects(2000, 0)
    mean = images.float().mean(dim=(2, 3))
    per_class = torch.stack([mean[labels == label].mean(dim=0) for label in range(10)])
    assert per_class.std(dim=0).max() < 0.35 * mean.std(dim=0).min()


def test_the_hand_does_not_depend_on_the_digit():
    # Slant from moments: how far x moves to the left for each step down. The pen's width goes with the ink.
    images, labels = digits(2000, 0)
    amount = images[:, 0].double().sum(dim=(1, 2))
    ink = images[:, 0].double() / amount.view(-1, 1, 1)
    at = torch.arange(28.0, dtype=torch.double)
    x, y = (ink.sum(dim=1) * at).sum(dim=1), (ink.sum(dim=2) * at).sum(dim=1)
    offsets_x, offsets_y = at - x.view(-1, 1, 1), at.view(1, -1, 1) - y.view(-1, 1, 1)
    slant = -(ink * offsets_x * offsets_y).sum(dim=(1, 2)) / (ink * offsets_y**2).sum(dim=(1, 2))
    for label in range(10):
        assert slant[labels == label].std() > 0.15
        assert amount[labels == label].std() > 0.2 * amount[labels == label].mean()


def test_the_smallest_size_and_odd_seeds_work():
    images, masks = pets(2, 16, -1)
    assert images.shape == (2, 3, 16, 16)
    assert masks.unique().tolist() == [0, 1, 2]
    assert not torch.equal(digits(1, -1)[0], digits(1, 2**40)[0])
