"""Precision, recall, density and coverage on clouds with known values; the two controls; bad input."""

import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from cvae_stand_ins import SIDE, Painter, labelled_set, module_of, stored
from torch import Tensor, nn

from s18_utils.cvae.judging import score_swaps
from s18_utils.cvae.variety import (
    PAINTERS,
    SCORES,
    find_nearest,
    find_variety,
    measure_variety,
    paint_template,
    reach,
    sample_pictures,
    sample_sizes,
    score_variety,
)
from s18_utils.data.batches import StoreData

LINE = torch.tensor([0.0, 1, 2, 3, 10]).unsqueeze(1)


def normal(count: int, seed: int, size: float = 1.0, place: float = 0.0) -> Tensor:
    return place + size * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def test_reach_by_hand():
    assert reach(LINE.double(), 1).tolist() == [1, 1, 1, 1, 7]
    assert reach(LINE.double(), 2).tolist() == [2, 1, 1, 2, 8]


def test_all_four_by_hand():
    # Balls round the real ones reach 2, 1, 1, 2, 8; the drawings' second neighbours are 18.5 away.
    scores = measure_variety(LINE, torch.tensor([[1.5], [1.5], [20.0]]), neighbours=2)
    assert scores["precision"] == pytest.approx(2 / 3)  # 20 is 10 away from 10, which reaches 8
    assert scores["recall"] == 1
    assert scores["density"] == pytest.approx((4 + 4 + 0) / (2 * 3))  # 1.5 lies in the balls of 0, 1, 2 and 3
    assert scores["coverage"] == pytest.approx(4 / 5)


def test_the_same_cloud_twice():
    scores = measure_variety(normal(100, 0), normal(100, 0))
    # A ball holds its own point and its five neighbours: six of what the density divides by five.
    assert scores == {"precision": 1, "recall": 1, "density": pytest.approx(1.2), "coverage": 1}


def test_two_clouds_of_one_distribution():
    scores = measure_variety(normal(800, 0), normal(800, 1))
    # Of the five nearest of 800 + 800 one is a drawing, but for one case in 2 ** 5.
    assert scores["coverage"] == pytest.approx(1 - 1 / 32, abs=0.02)
    assert scores["density"] == pytest.approx(1, abs=0.06)
    assert min(scores["precision"], scores["recall"]) > 0.85


def test_clouds_apart_have_nothing_of_each_other():
    assert measure_variety(normal(100, 0), normal(100, 1, place=50.0)) == dict.fromkeys(SCORES, 0)


def test_one_picture_over_and_over_is_precise_and_covers_next_to_nothing():
    scores = measure_variety(normal(800, 0), torch.zeros(800, 6))  # in the very middle of the real ones
    assert scores["precision"] == 1
    assert scores["recall"] == 0
    assert scores["coverage"] < 0.1


def test_half_of_the_modes_is_half_of_recall_and_coverage():
    real = torch.cat([normal(400, 0), normal(400, 1, place=50.0)])
    scores = measure_variety(real, normal(800, 2))
    assert scores["precision"] > 0.85
    assert scores["recall"] == pytest.approx(0.5, abs=0.06)
    assert scores["coverage"] == pytest.approx(0.5, abs=0.03)


def test_drawings_all_over_the_place_have_recall_without_precision():
    scores = measure_variety(normal(400, 0), normal(400, 1, size=4.0))
    assert scores["recall"] > 0.9
    assert scores["precision"] < 0.2


def test_order_and_scale_do_not_matter():
    real, drawn = normal(60, 0), normal(60, 1)
    expected = measure_variety(real, drawn)
    assert measure_variety(1000 * real.flip(0), 1000 * drawn.flip(0)) == pytest.approx(expected)


@pytest.mark.parametrize(("real", "drawn"), [(5, 100), (100, 5), (0, 0), (1, 1)])
def test_fewer_points_than_neighbours_are_refused(real, drawn):
    with refused(f"{drawn} drawings and {real} real images", "no 5 neighbours", "at least 6"):
        measure_variety(normal(real, 0), normal(drawn, 1))


def test_a_template_takes_the_layout_of_its_image_and_keeps_its_shape():
    image, template = torch.rand(2, 3, 32, 32), torch.rand(3, 32, 32) * 0.2 + 0.4
    for pasted in (0.0, 0.5, 1.0):
        painted = paint_template(template, 0.4 + 0.2 * image, pasted)
        assert 0 <= painted.min() <= painted.max() <= 1
        expected = torch.lerp(F.adaptive_avg_pool2d(template, 1), F.adaptive_avg_pool2d(0.4 + 0.2 * image, 1), pasted)
        torch.testing.assert_close(F.adaptive_avg_pool2d(painted, 1), expected, atol=0.01, rtol=0)
    assert torch.equal(paint_template(template, image, 0.0)[1], template)
    edges = painted.diff(dim=3), template.diff(dim=2).expand(2, -1, -1, -1)  # what is fine stays the template's
    assert F.cosine_similarity(*(each.flatten(1) for each in edges)).min() > 0.9


def test_the_nearest_image_by_hand():
    pool = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1).expand(-1, 1, 4, 4)
    images = torch.tensor([0.0, 0.6, 0.72, 0.45]).view(4, 1, 1, 1).expand(-1, 1, 4, 4)
    assert find_nearest(images, pool)[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.5, 0.9, 0.5])


# A little world: a class is a row of light, and every image has a fine grating of its own phase, which a mean has not.


def textured(labels: Tensor, seed: int) -> Tensor:
    phase = 2 * torch.pi * torch.rand(len(labels), 1, generator=torch.Generator().manual_seed(seed))
    grating = 0.4 + 0.2 * torch.sin(1.6 * torch.arange(SIDE) + phase)
    images = grating[:, None, None].expand(-1, 1, SIDE, -1).clone()
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 0.3
    return images


class TextureJudge(nn.Module):
    """Reads the brightest row; its features are what of a picture is finer than its layout."""

    def features_of(self, images: Tensor) -> Tensor:
        return (images.float() - F.avg_pool2d(images.float(), 7, 1, 3, count_include_pad=False)).flatten(1)[:, ::5]

    def forward(self, images: Tensor) -> Tensor:
        light = images.float().mean((1, 3))
        return light[:, :20].unflatten(1, (10, 2)).sum(2)


class Remembers(Painter):
    """Draws an image of the asked class that is none of the data's, another for each input; or always the same."""

    def __init__(self, pictures: int):
        super().__init__()
        labels = torch.arange(10).repeat_interleave(pictures)
        self.memory = textured(labels, 9).unflatten(0, (10, pictures))

    def encoder(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mu = (images.flatten(1) * torch.arange(SIDE**2)).sum(1, keepdim=True)
        return mu, torch.zeros_like(mu)

    def decoder(self, codes: Tensor, labels: Tensor) -> Tensor:
        return self.memory[labels, codes[:, 0].round().long() % self.memory.shape[1]]


@pytest.fixture(scope="module")
def world() -> StoreData:
    train, test = torch.arange(2500) % 10, torch.arange(1000) % 10
    splits = stored(textured(train, 0), train), stored(textured(test, 1), test)
    return StoreData(labelled_set(*splits), 50)


def test_templates_win_agreement_and_lose_variety(world):
    scores = score_swaps(module_of(Remembers(200), [TextureJudge()]), world)
    variety = scores["variety"]
    assert list(variety) == list(PAINTERS)
    assert variety["template"]["agreement"] == 1
    assert variety["template"]["coverage"] < 0.06  # one picture lies in about five of a hundred balls
    assert variety["template"]["recall"] == 0
    for painter in ("real", "swapped"):
        assert variety[painter]["agreement"] > 0.95
        assert variety[painter]["coverage"] > 0.85
    assert 0.1 < variety["nearest"]["coverage"] < variety["real"]["coverage"]
    assert variety["swapped"]["agreement"] == scores["swap_agreement"]
    assert variety["true_label"]["agreement"] == scores["same_label_agreement"]
    assert all(len(variety[painter]["by_class"][score]) == 10 for painter in PAINTERS for score in SCORES)
    by_class = variety["swapped"]["by_class"]["coverage"]
    assert sum(by_class) / 10 == pytest.approx(variety["swapped"]["coverage"], abs=1e-4)
    assert scores["judges"]["judge"]["variety"]["swapped"]["coverage"] == pytest.approx(variety["swapped"]["coverage"])


def test_a_model_that_draws_one_picture_a_class_agrees_and_covers_nothing(world):
    scores = score_swaps(module_of(Remembers(1), [TextureJudge()]), world)
    assert scores["swap_agreement"] == 1
    assert scores["variety"]["swapped"]["coverage"] < 0.08
    assert scores["variety"]["swapped"]["recall"] == 0


def test_scores_are_means_over_judges(world):
    class Blurred(TextureJudge):
        def features_of(self, images: Tensor) -> Tensor:
            return images.float().mean((2, 3))  # in which a template is as good as any

    module = module_of(Remembers(200), [TextureJudge(), Blurred()])
    both, own = score_variety(module, world, {})
    assert own[1]["template"]["coverage"] > own[0]["template"]["coverage"] + 0.1
    mean = (own[0]["template"]["coverage"] + own[1]["template"]["coverage"]) / 2
    assert both["template"]["coverage"] == pytest.approx(mean)


def test_samples_are_the_same_in_every_run_and_share_no_training_image(world):
    module = module_of(Remembers(5))
    first, again = (sample_pictures(module, world, 3, 20) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {len(pictures) for pictures in first.values()} == {20}
    rows = {
        name: set(map(tuple, first[name].flatten(1).tolist())) for name in ("reference", "nearest", "real", "input")
    }
    assert not rows["reference"] & rows["nearest"]
    assert not rows["real"] & rows["input"]
    assert (TextureJudge()(first["reference"]).argmax(1) == 3).all()
    assert (TextureJudge()(first["nearest"]).argmax(1) == 3).all()
    assert (TextureJudge()(first["input"]).argmax(1) != 3).all()


def test_samples_are_bounded_and_leave_half_of_the_training_images(world):
    module = module_of(Remembers(5))
    assert max(sample_sizes(module, world)) == 100  # the test images of a class
    few = StoreData(world.data._replace(train={name: v[:300] for name, v in world.data.train.items()}), 50)
    train = torch.bincount(few.train.tensors["label"][few.train.rows].long())
    assert sample_sizes(module, few) == (train // 2).tolist()


def test_too_few_images_are_said_and_not_scored(world, capsys):
    few = StoreData(world.data._replace(test={name: v[:50] for name, v in world.data.test.items()}), 50)
    scores = score_swaps(module_of(Remembers(5), [TextureJudge()]), few)
    assert "variety" not in scores
    assert "not scored: of class 0 there are fewer than 6 test images" in capsys.readouterr().out
    assert find_variety(scores, "swapped") == {"agreement": scores["swap_agreement"]} | dict.fromkeys(SCORES)


def test_a_record_of_before_has_agreement_and_no_variety():
    old = {"swap_agreement": 0.9, "same_label_agreement": 0.8}
    assert find_variety(old, "swapped") == {"agreement": 0.9} | dict.fromkeys(SCORES)
    assert find_variety(old, "true_label")["agreement"] == 0.8
    assert find_variety(old, "template") == {"agreement": None} | dict.fromkeys(SCORES)
