"""Scoring of the label swap: painters and judges whose answers are known, measures worked out by hand."""

import math

import pytest
import torch
from conftest import assert_one_sentence, refused
from cvae_stand_ins import SIDE, BandJudge, Painter, band_split, bands, labelled_set, module_of, stored
from torch import Tensor, nn

from s18_utils.cvae import judging
from s18_utils.cvae.checks import check_judge
from s18_utils.cvae.judging import BLUR_SIGMA, score_swaps
from s18_utils.cvae.losses import mismatched_labels
from s18_utils.cvae.survival import centred, colour_layout, correlation, ink, measures_of, slant, survival
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.data.batches import StoreData
from s18_utils.errors import InputError

UNDECIDED = -math.log(0.1) - 9 * math.log(0.9)  # the label loss of a classifier that gives all labels one logit


@pytest.fixture(autouse=True)
def without_variety(monkeypatch) -> None:
    """Variety has tests of its own."""
    monkeypatch.setattr(judging, "score_variety", lambda module, data, agreement: ({}, [{} for _ in module.judges]))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor]:
    """200 images, 20 of each label, of different brightness."""
    labels = torch.arange(200) % 10
    return bands(labels, 0.5 + 0.5 * torch.rand(200, generator=torch.Generator().manual_seed(0))), labels


def scores(painter: nn.Module, images: Tensor, labels: Tensor, judges=None, frozen=None) -> dict:
    channels, side = images.shape[1:3]
    module = module_of(painter, judges, frozen, channels=channels, size=side)
    train = band_split(40, channels=channels, side=side)
    return score_swaps(module, StoreData(labelled_set(train, stored(images, labels)), 64))


def test_a_perfect_painter_gets_full_marks_and_keeps_the_ink(inputs):
    result = scores(Painter(), *inputs)
    assert result["swap_agreement"] == result["same_label_agreement"] == 1
    assert result["swap_agreement_blurred"] == result["same_label_agreement_blurred"] == 1
    assert result["swap_matrix"] == [[1.0] * 10] * 10
    assert result["mse"] == 0
    assert result["psnr"] == pytest.approx(100)  # of an error below what is counted, 1e-10
    assert result["judge_accuracy"] == result["judge_accuracy_blurred"] == 1
    assert result["survives"].keys() == {"slant", "ink"}
    assert result["survives"]["ink"]["correlation"] > 0.99
    assert result["survives"]["ink"]["within_class"] > 0.95  # groups of 20
    assert abs(result["survives"]["ink"]["shuffled"]) < 0.1


def test_the_record_gets_plain_numbers_and_all_of_them(inputs):
    result = scores(Painter(), *inputs)
    assert {
        "bits_per_dim",
        "mse",
        "psnr",
        "kl",
        "label_loss",
        "swap_agreement",
        "swap_matrix",
        "same_label_agreement",
        "survives",
        "classifier_accuracy",
        "judge_accuracy",
    } <= result.keys()
    numbers = [value for name, value in result.items() if name not in ("swap_matrix", "survives", "judges")]
    numbers += result["judges"]["judge"].values()
    numbers += [value for row in result["swap_matrix"] for value in row]
    numbers += [value for feature in result["survives"].values() for value in feature.values()]
    assert {type(value) for value in numbers} == {float}
    assert [len(row) for row in result["swap_matrix"]] == [10] * 10


def test_reconstruction_is_scored_under_the_own_label_by_hand():
    labels = torch.arange(20) % 10
    images = bands(labels, torch.ones(20))
    result = scores(Painter(keeps=False), images, labels)
    # Drawn at 0.8 where the input has 1.0, on 56 of 784 pixels.
    mse = 0.04 * 56 / 784
    assert result["mse"] == pytest.approx(mse, rel=1e-5)
    assert result["psnr"] == pytest.approx(-10 * math.log10(mse), rel=1e-5)
    # Code 1 with variance 1: 1/2 nat. Likelihood at sigma e⁻¹: per pixel e²/2 · error² − 1 + ln √(2π).
    assert result["kl"] == pytest.approx(0.5)
    nll = 784 * (math.exp(2) / 2 * mse - 1 + 0.918938533)
    assert result["bits_per_dim"] == pytest.approx((nll + 0.5) / (784 * math.log(2)) + math.log2(255), rel=1e-5)


def test_the_cost_of_an_image_is_that_of_scattered_codes():
    labels = torch.arange(20) % 10
    images = bands(labels, torch.ones(20))
    result = scores(Painter(), images, labels)
    assert result["mse"] == 0  # the mean code is the brightness itself; one drawn around it is not
    least = (784 * (0.918938533 - 1) + 0.5) / (784 * math.log(2)) + math.log2(255)
    assert result["bits_per_dim"] > least + 0.05


def test_psnr_is_averaged_over_images():
    labels = torch.tensor([0, 1] * 10)
    images = bands(labels, torch.tensor([209, 179] * 10) / 255)  # 5 and 25 of 255 away from 0.8
    errors = [(5 / 255) ** 2 * 56 / 784, (25 / 255) ** 2 * 56 / 784]
    result = scores(Painter(keeps=False), images, labels)
    assert result["mse"] == pytest.approx(sum(errors) / 2, rel=1e-4)
    assert result["psnr"] == pytest.approx(sum(-10 * math.log10(error) for error in errors) / 2, rel=1e-4)


def test_a_painter_that_ignores_its_input_keeps_no_ink(inputs):
    result = scores(Painter(keeps=False), *inputs)
    assert result["swap_agreement"] == 1
    assert abs(result["survives"]["ink"]["correlation"]) < 0.05


def test_a_painter_that_draws_one_label_agrees_one_time_in_ten(inputs):
    result = scores(Painter(stuck=3), *inputs)
    # Class 3 never asks for 3 when swapped; each of the other nine asks for it once in nine.
    assert result["swap_agreement"] == pytest.approx(0.9 / 9, abs=1e-9)
    assert result["same_label_agreement"] == pytest.approx(0.1)
    assert result["swap_matrix"] == [[0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0]] * 10


class Reconstructs(Painter):
    """Draws the input's own label whatever is asked, as a model does whose code carries the class."""

    def encoder(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([images.flatten(1).amax(1), labels.float()], 1)
        return mu, torch.zeros_like(mu)

    def decoder(self, codes: Tensor, labels: Tensor) -> Tensor:
        return bands(codes[:, 1].long(), codes[:, 0])


def test_a_painter_that_only_reconstructs_never_agrees(inputs):
    result = scores(Reconstructs(), *inputs)
    assert result["swap_agreement"] == 0
    assert result["same_label_agreement"] == 1
    assert result["swap_matrix"] == torch.eye(10).tolist()
    assert result["survives"]["ink"]["correlation"] > 0.99  # which is why survival alone says nothing


class Mishears(Painter):
    """Draws a 1 when a 7 was asked for, of dark inputs only."""

    def decoder(self, codes: Tensor, labels: Tensor) -> Tensor:
        return super().decoder(codes, torch.where((labels == 7) & (codes[:, 0] < 0.7), 1, labels))


def test_rows_of_the_matrix_are_true_labels_and_columns_asked_ones():
    # Three 2s, one of them dark, and two 7s, one of them dark.
    labels = torch.tensor([2, 2, 2, 7, 7])
    result = scores(Mishears(), bands(labels, torch.tensor([0.9, 0.6, 0.9, 0.6, 0.9])), labels)
    expected = [[0.0] * 10 for _ in range(10)]  # classes without an image have nothing to show
    expected[2], expected[7] = [1.0] * 10, [1.0] * 10
    expected[2][7], expected[7][7] = 0.6667, 0.5
    assert result["swap_matrix"] == expected
    # Nine swaps an image, 45 in all, of which one fails; one of five fails under its own label.
    assert result["swap_agreement"] == pytest.approx(44 / 45)
    assert result["same_label_agreement"] == pytest.approx(4 / 5)


def test_the_judge_reads_every_image_once_and_every_drawing_sharp_and_blurred(inputs):
    read = []

    class Counts(BandJudge):
        def forward(self, images: Tensor) -> Tensor:
            read.append(len(images))
            return super().forward(images)

    scores(Painter(), *inputs, judges=[Counts()])
    assert sum(read) == 2 * 200 + 2 * 2000


def test_batches_add_up(inputs, monkeypatch):
    results = []
    for drawn in (2000, 370):
        monkeypatch.setattr(judging, "DRAWN", drawn)
        results.append(scores(Painter(keeps=False), *inputs))
    whole, parts = results
    assert parts.pop("swap_matrix") == whole.pop("swap_matrix")
    assert parts.pop("survives")["ink"] == pytest.approx(whole.pop("survives")["ink"], abs=1e-6)
    assert parts.pop("judges")["judge"] == pytest.approx(whole.pop("judges")["judge"])
    assert parts == pytest.approx(whole)


class Textured(Painter):
    """Draws the input's own label, and what is asked as a chequerboard too fine for a blur to leave."""

    def decoder(self, codes: Tensor, labels: Tensor) -> Tensor:
        drawn = super().decoder(codes, torch.zeros_like(labels))
        board = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2
        return drawn + bands(labels, torch.full((len(labels),), 3.0)) * (2 * board - 1)


class TextureJudge(BandJudge):
    """Falls for anything that varies along a row."""

    def forward(self, images: Tensor) -> Tensor:
        varies = images.float().diff(dim=3).abs().mean((1, 3))[:, :20].unflatten(1, (10, 2)).sum(2)
        return super().forward(images) + varies


def test_a_blur_tells_texture_from_strokes(inputs):
    result = scores(Textured(), *inputs, judges=[TextureJudge()])
    assert result["swap_agreement"] == 1
    assert result["swap_agreement_blurred"] == pytest.approx(0.1)  # what is left is always a 0
    strokes = scores(Painter(), *inputs, judges=[TextureJudge()])
    assert strokes["swap_agreement_blurred"] == 1
    assert gaussian_blur(inputs[0], BLUR_SIGMA).amax() > 0.6  # a stroke outlives it


def test_the_frozen_network_gives_its_accuracy_and_the_label_loss(inputs):
    blind = scores(Painter(), *inputs, frozen=BandJudge(blind=True))
    assert blind["label_loss"] == pytest.approx(UNDECIDED, rel=1e-5)
    assert blind["classifier_accuracy"] == pytest.approx(0.1)
    sharp = scores(Painter(), *inputs, frozen=BandJudge())
    assert sharp["label_loss"] < blind["label_loss"]
    assert sharp["classifier_accuracy"] == 1
    # The label loss is that of the labels asked for: a painter that reconstructs is worse than one that obeys.
    assert scores(Reconstructs(), *inputs, frozen=BandJudge())["label_loss"] > sharp["label_loss"]


def test_scoring_keeps_no_gradients(inputs):
    painter, judge = Painter(), BandJudge()
    scores(painter, *inputs, judges=[judge])
    assert painter.log_sigma.grad is None
    assert judge.weight.grad is None


@pytest.mark.parametrize(
    ("classes", "count", "better", "chance"),
    [
        (10, 10_000, 0.25, (0.1, 0.15, 0.2, math.nan)),
        (10, 100, 0.9, (0.0,)),
        (10, 64, 0.5, (0.2,)),  # with few images luck reads more of them
        (10, 10, 1.0, (0.35,)),
        (2, 10_000, 0.8, (0.7,)),
        (3, 10_000, 0.7, (0.6,)),
        (100, 10_000, 0.03, (0.02,)),
    ],
)
def test_a_judge_must_read_better_than_chance(classes, count, better, chance):
    check_judge(better, count, classes)
    for accuracy in chance:
        with pytest.raises(InputError) as caught:
            check_judge(accuracy, count, classes)
        told = f"no better than chance ({1 / classes:.0%})"
        assert_one_sentence(str(caught.value), f"of {count} test images", told, "train it longer")
    with pytest.raises(InputError, match="of 0 test images"):
        check_judge(1.0, 0, 10)


def test_images_too_few_to_tell_a_judge_from_chance_are_said_to_be_so():
    with pytest.raises(InputError) as caught:
        check_judge(1.0, 12, 2)
    assert_one_sentence(str(caught.value), "12 test images of 2 classes are too few", "bring more")


# More than one judge, and judges that can't score.

PLAIN = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 10))


def test_a_swap_counts_when_all_judges_read_what_was_asked(inputs):
    confused = BandJudge(confused={3: 4, 4: 3})  # takes a 3 for a 4 and the other way round
    result = scores(Painter(), *inputs, judges=[BandJudge(), confused])
    own = result["judges"]
    assert list(own) == ["judge", "second_judge"]
    assert own["judge"]["swap_agreement"] == own["judge"]["same_label_agreement"] == own["judge"]["accuracy"] == 1
    # Two labels of ten, each asked for by the nine other classes.
    assert own["second_judge"]["swap_agreement"] == result["swap_agreement"] == pytest.approx(0.8)
    assert own["second_judge"]["same_label_agreement"] == result["same_label_agreement"] == pytest.approx(0.8)
    assert result["real_agreement"] == own["second_judge"]["accuracy"] == pytest.approx(0.8)
    expected = [[0.0 if asked in (3, 4) else 1.0 for asked in range(10)]] * 10
    assert result["swap_matrix"] == expected
    assert result["judge_accuracy"] == 1  # the first one's


def test_two_judges_that_fail_on_different_labels_agree_on_the_rest(inputs):
    judges = [BandJudge(confused={3: 4, 4: 3}), BandJudge(confused={7: 8, 8: 7})]
    result = scores(Painter(), *inputs, judges=judges)
    assert result["swap_agreement"] == pytest.approx(0.6)
    assert [own["swap_agreement"] for own in result["judges"].values()] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    ("judges", "parts"),
    [
        ([BandJudge(blind=True)], ("the judge reads 10.0% of 200 test images", "no better than chance (10%)")),
        ([BandJudge(), BandJudge(blind=True)], ("the second judge reads 10.0% of 200 test images",)),
        ([BandJudge(), PLAIN], ("Sequential has no feature layer", "features_of(images)")),
        ([], ("there is no judge", "attach()")),
    ],
    ids=["blind", "second one blind", "no feature layer", "none"],
)
def test_judges_that_cannot_score_are_refused(inputs, judges, parts):
    with refused(*parts):
        scores(Painter(), *inputs, judges=judges)


def test_scoring_leaves_the_module_as_it_was(inputs):
    module = module_of(Painter()).train()
    score_swaps(module, StoreData(labelled_set(band_split(40), stored(*inputs)), 64))
    assert module.training


# What survives.


def line(lean: float, ends: tuple[int, int] = (8, 20)) -> Tensor:
    image = torch.zeros(1, 1, SIDE, SIDE)
    for row in range(*ends):
        image[0, 0, row, round(14 + lean * (row - 14))] = 1
    return image


@pytest.mark.parametrize("lean", [-1, 0, 1])
def test_slant_of_a_straight_line_is_its_lean(lean):
    image = line(lean)
    assert slant(image).item() == pytest.approx(lean, abs=1e-4)
    assert slant(0.3 * image).item() == pytest.approx(lean, abs=1e-4)  # a fainter pen leans as much
    assert slant(image.roll((3, -5), (2, 3))).item() == pytest.approx(lean, abs=1e-4)  # and so it does elsewhere


def test_slant_by_hand():
    # Rows 0, 1, 2 with light at columns 0, 0, 3: covariance 1, variance 2/3.
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = image[0, 0, 1, 0] = image[0, 0, 2, 3] = 1
    assert slant(image).item() == pytest.approx(1.5, abs=1e-5)


def test_measures_are_measured_in_full_precision_even_under_bf16():
    images = torch.cat([line(lean) for lean in (-0.5, 0.0, 0.25, 1.0)])
    with torch.autocast("cpu", torch.bfloat16):
        half = slant(images), ink(images), colour_layout(images)
    for value, expected in zip(half, (slant(images), ink(images), colour_layout(images)), strict=True):
        torch.testing.assert_close(value, expected)


def test_ink_and_slant_of_an_empty_page_are_zero():
    empty = torch.zeros(1, 1, SIDE, SIDE)
    assert ink(empty).item() == slant(empty).item() == 0
    assert ink(torch.full((1, 1, SIDE, SIDE), 0.25)).item() == pytest.approx(0.25)


def test_colour_layout_averages_tiles():
    image = torch.zeros(1, 3, 32, 32)
    image[0, 1, :8, 8:16] = 1
    image[0, 2, 24:, 24:28] = 1  # half a tile
    layout = colour_layout(image)
    assert layout.shape == (1, 48)
    assert layout.view(3, 4, 4)[1, 0, 1] == 1
    assert layout.view(3, 4, 4)[2, 3, 3] == 0.5
    assert layout.sum() == 1.5


def test_grey_images_have_slant_and_ink_others_a_colour_layout():
    assert measures_of(torch.zeros(1, 1, 4, 4)) == {"slant": slant, "ink": ink}
    assert measures_of(torch.zeros(1, 3, 4, 4)) == {"colour_layout": colour_layout}


def test_colour_images_are_scored_as_well():
    labels = torch.arange(60) % 10
    images = bands(labels, torch.linspace(0.5, 1, 60), channels=3, side=32)
    result = scores(Painter(channels=3, side=32), images, labels)
    assert result["swap_agreement"] == 1
    assert result["survives"].keys() == {"colour_layout"}
    assert set(result["survives"]["colour_layout"]) == {
        "correlation",
        "shuffled",
        "within_class",
        "shuffled_within_class",
    }


def test_correlation_by_hand():
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])
    assert correlation(a, 5 - 2 * a) == pytest.approx(-1)
    assert correlation(a, b) == pytest.approx(0.5)
    assert correlation(a, torch.ones(3)) == 0
    assert correlation(torch.stack([a, b], 1), torch.stack([a, a], 1)) == pytest.approx(0.75)  # the mean of 1 and 0.5
    assert correlation(1e4 + 1e-2 * a.double(), b) == pytest.approx(0.5)  # small changes of large numbers


def test_values_less_the_mean_of_their_group_by_hand():
    out = centred(torch.tensor([1.0, 3.0, 10.0]), torch.tensor([4, 4, 7]), 10)
    torch.testing.assert_close(out, torch.tensor([-1.0, 1.0, 0.0]).double())
    two = centred(torch.tensor([[1.0, 0.0], [3.0, 8.0]]), torch.tensor([0, 0]), 10)
    torch.testing.assert_close(two, torch.tensor([[-1.0, -4.0], [1.0, 4.0]]).double())


def test_survival_tells_the_hand_from_the_class():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (20_000,), generator=generator)
    asked = mismatched_labels(labels, 10, generator)
    hand, other = torch.randn(2, 20_000, generator=generator)
    kept = survival(hand + 3.0 * labels, hand + 3.0 * asked, labels, asked, 10)
    assert kept["within_class"] > 0.99  # the hand is kept wholly
    assert kept["correlation"] < 0.1  # but the classes' own difference covers it
    assert abs(kept["shuffled"]) < 0.03
    assert abs(kept["shuffled_within_class"]) < 0.03
    lost = survival(hand, other, labels, asked, 10)
    assert all(abs(value) < 0.03 for value in lost.values())
    assert survival(hand, other, labels, asked, 10) == lost
