"""The losses on values worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from torch import Tensor

from s18_utils.errors import InputError
from s18_utils.unet.losses import CrossEntropyLoss, DiceLoss, build_loss

SURE = 100.0  # after softmax the other classes are exactly 0 in single precision


def sure(classes: Tensor, of: int = 3) -> Tensor:
    """Logits that predict the given classes without a doubt."""
    return F.one_hot(classes, of).movedim(-1, 1).float() * SURE


def from_probabilities(*probabilities: float, shape: tuple[int, ...] = (1, 1, 1)) -> Tensor:
    """Logits that give the same probabilities in every pixel."""
    return torch.tensor(probabilities).log().view(1, -1, 1, 1).expand(shape[0], -1, *shape[1:])


def random_case(seed: int, count: int = 4, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 3, 9, 7, generator=generator) * scale
    return logits, torch.randint(0, 3, (count, 9, 7), generator=generator)


ALL = pytest.mark.parametrize("loss", [DiceLoss(), DiceLoss(True), CrossEntropyLoss()], ids=["dice", "pooled", "ce"])
BOTH = pytest.mark.parametrize("pooled", [False, True])


@pytest.mark.parametrize(
    ("loss", "value", "parts"),
    [
        (DiceLoss(), 3, ("must lie in 0–2, not 1–3", "subtract 1")),
        (CrossEntropyLoss(), 3, ("must lie in 0–2, not 1–3", "subtract 1")),
        (DiceLoss(), -1, ("must lie in 0–2, not -1–1",)),
        (CrossEntropyLoss(), 255, ("must lie in 0–2, not 1–255",)),
    ],
)
def test_a_mask_value_that_is_no_class_is_refused(loss, value, parts):
    target = torch.ones(2, 16, 16, dtype=torch.long)
    target[1, 3, 4] = value
    with refused(*parts):
        loss(torch.zeros(2, 3, 16, 16), target)


@BOTH
def test_dice_is_0_for_a_perfect_prediction_and_1_for_a_disjoint_one(pooled):
    target = torch.tensor([[[0, 1], [2, 1]]])
    assert DiceLoss(pooled)(sure(target), target).item() == 0
    assert DiceLoss(pooled)(sure((target + 1) % 3), target).item() == pytest.approx(1, abs=1e-6)


def test_dice_of_always_background():
    # 10 pixels, 3 pet, 6 background, 1 border. Background overlaps in 6 of 10 + 6: Dice 12/16; the others 0.
    target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 2]).view(1, 2, 5)
    logits = sure(torch.ones_like(target))
    assert DiceLoss()(logits, target).item() == pytest.approx(1 - (0 + 12 / 16 + 0) / 3, abs=1e-6)
    # All pooled, 6 of 10 pixels overlap: 1 - 2·6 / (10 + 10).
    assert DiceLoss(pooled=True)(logits, target).item() == pytest.approx(0.4, abs=1e-6)


def test_dice_of_an_undecided_prediction():
    # Two images of two pixels each, probability 1/3 everywhere; the target holds 2, 1 and 1 pixels of the classes.
    target = torch.tensor([[[0, 0]], [[1, 2]]])
    # Per class: overlap n/3, sizes 4/3 + n, so Dice = 2n / (4 + 3n): 4/10, 2/7, 2/7.
    expected = 1 - (4 / 10 + 2 / 7 + 2 / 7) / 3
    assert DiceLoss()(torch.zeros(2, 3, 1, 2), target).item() == pytest.approx(expected, abs=1e-6)
    assert DiceLoss(pooled=True)(torch.zeros(2, 3, 1, 2), target).item() == pytest.approx(2 / 3, abs=1e-6)


def test_dice_takes_logits_through_one_softmax():
    # One pixel of class 0 with p = (0.5, 0.3, 0.2): Dice 2·0.5 / (0.5 + 1) = 2/3, the other classes 0.
    target = torch.zeros(1, 1, 1, dtype=torch.long)
    logits = from_probabilities(0.5, 0.3, 0.2)
    assert DiceLoss()(logits, target).item() == pytest.approx(1 - (2 / 3) / 3, abs=1e-5)
    assert DiceLoss()(logits + 7, target).item() == pytest.approx(1 - (2 / 3) / 3, abs=1e-5)  # only differences count


def test_a_class_that_is_nowhere_counts_as_perfect():
    target = torch.tensor([[[0, 1], [1, 1]]])
    assert DiceLoss()(sure(target), target).item() == 0
    # Wrong in one of four pixels, still without class 2: 2·1/(2+1) and 2·2/(2+3), and 1.
    predicted = torch.tensor([[[0, 1], [0, 1]]])
    assert DiceLoss()(sure(predicted), target).item() == pytest.approx(1 - (2 / 3 + 4 / 5 + 1) / 3, abs=1e-6)


def test_dice_sums_over_the_batch_before_it_divides():
    # Class 0 is right in the first image only; the mean over images would be (0 + 1) / 2 for it.
    target = torch.tensor([[[0, 0, 0, 1]], [[0, 1, 1, 1]]])
    predicted = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 1]]])
    dice = (2 * 3 / (3 + 4), 2 * 4 / (5 + 4), 1)
    assert DiceLoss()(sure(predicted), target).item() == pytest.approx(1 - sum(dice) / 3, abs=1e-6)


@BOTH
def test_dice_does_not_depend_on_the_order_or_place_of_pixels(pooled):
    logits, target = random_case(0)
    value = DiceLoss(pooled)(logits, target).item()
    order = torch.tensor([2, 0, 3, 1])
    assert DiceLoss(pooled)(logits[order], target[order]).item() == pytest.approx(value, abs=1e-6)
    # The same pixels in one image instead of four.
    one = logits.permute(1, 0, 2, 3).reshape(1, 3, -1, 7), target.reshape(1, -1, 7)
    assert DiceLoss(pooled)(*one).item() == pytest.approx(value, abs=1e-6)


@BOTH
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
def test_dice_stays_in_0_to_1(pooled, scale):
    for seed in range(50):
        logits, target = random_case(seed, scale=scale)
        assert 0 <= DiceLoss(pooled)(logits, target).item() <= 1
        nearly = sure(target) * min(scale, 0.3) + logits / scale
        assert 0 <= DiceLoss(pooled)(nearly, target).item() <= 1


def test_pooled_dice_is_1_minus_the_mean_probability_of_the_true_class():
    logits, target = random_case(1)
    probability = logits.softmax(dim=1).gather(1, target.unsqueeze(1))
    assert DiceLoss(pooled=True)(logits, target).item() == pytest.approx(1 - probability.mean().item(), abs=1e-6)


@ALL
@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_the_gradient_is_finite_and_points_to_the_truth(loss, scale):
    logits, target = random_case(2, scale=scale)
    logits.requires_grad_()
    before = loss(logits, target)
    before.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0
    moved = logits.detach() - 1e-3 / logits.grad.abs().max() * logits.grad
    assert loss(moved, target) < before


@ALL
def test_half_precision_logits_are_computed_with_in_single_precision(loss):
    logits, target = random_case(4)
    value = loss(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.bfloat16().float(), target))


def test_cross_entropy_by_hand():
    # p of the true class: 0.5 in one pixel, 0.2 in the other.
    logits = from_probabilities(0.5, 0.3, 0.2, shape=(1, 1, 2))
    target = torch.tensor([[[0, 2]]])
    expected = -(math.log(0.5) + math.log(0.2)) / 2
    assert CrossEntropyLoss()(logits, target).item() == pytest.approx(expected, abs=1e-6)
    assert CrossEntropyLoss()(sure(target), target).item() == 0
    undecided = CrossEntropyLoss()(torch.zeros(1, 3, 1, 2), target)
    assert undecided.item() == pytest.approx(math.log(3), abs=1e-6)


def test_the_losses_by_name():
    assert isinstance(build_loss("ce"), CrossEntropyLoss)
    dice = build_loss("dice")
    assert isinstance(dice, DiceLoss)
    assert not dice.pooled
    with pytest.raises(InputError, match="unknown loss 'focal': choose one of ce, dice"):
        build_loss("focal")


@pytest.mark.parametrize("loss", [DiceLoss(), CrossEntropyLoss()], ids=["dice", "ce"])
@pytest.mark.parametrize("shape", [(4, 7, 9), (3, 9, 7), (4, 1, 9, 7), (4, 9)])
def test_a_target_of_another_shape_is_refused(loss, shape):
    with pytest.raises(InputError, match="resize image and mask alike"):
        loss(random_case(0)[0], torch.zeros(shape, dtype=torch.long))
