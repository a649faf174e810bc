"""The networks that read images: what they compute, their feature layers, that they learn, repeat and stay frozen."""

import math
import shutil
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from conftest import equal, interrupt_in, on_cpu, refused, weights, without_seconds
from cvae_stand_ins import DIGITS
from torch import Tensor, nn

from s18_utils import training
from s18_utils.cvae.classifier_module import ClassifierModule, Lookahead, attack, triangle
from s18_utils.cvae.classifiers import CLASSIFIERS, build_classifier, freeze
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.data.batches import StoreData
from s18_utils.data.store import DataSet
from s18_utils.device import precision
from s18_utils.experiments import EXPERIMENTS, NETWORKS, PRESETS, build_settings
from s18_utils.fitting import Hardware, Reseed, build_trainer, quiet_lightning, score_module
from s18_utils.training import train_or_load

SMALL = {
    "DigitNet": {"widths": [8, 8, 8], "hidden": 32},
    "DigitJudge": {"widths": [8, 8], "hidden": 32},
    "ObjectNet": {"widths": [8, 16, 16]},
    "ObjectJudge": {"widths": [8, 16], "depth": 1, "halve": True},
    "DenseJudge": {"stem": [8], "growth": [8, 16], "widths": [16, 32], "depth": 2},
}
FEATURES = {"DigitNet": 32, "DigitJudge": 32, "ObjectNet": 16, "ObjectJudge": 16, "DenseJudge": 32}
RECIPE = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "shift_rate": 1.0, "smoothing": 0.1}
RECIPE |= {"attack_radius": 0.0}
CVAES = ("cvae-mnist", "cvae-cifar10")


def shape_of(name: str) -> tuple[int, int, int]:
    return (1, 28, 28) if name.startswith("Digit") else (3, 32, 32)


def build(name: str, classes: int = 10, **settings) -> nn.Module:
    channels, size, _ = shape_of(name)
    return build_classifier(name, settings or SMALL[name], classes=classes, channels=channels, size=size)


def gratings(count: int, channels: int, size: int, seed: int = 0) -> dict[str, Tensor]:
    """Class k: a grating that leans 18 k degrees, at any phase, under noise; what is where tells nothing."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    place = torch.arange(size, dtype=torch.float32)
    angle = labels[:, None, None] * math.pi / 10
    phase = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    wave = torch.sin(1.2 * (angle.cos() * place[:, None] + angle.sin() * place) + phase)
    images = (wave[:, None] + 1 + 0.3 * torch.rand(count, channels, size, size, generator=generator)) * 110
    return {"image": images.clamp(0, 255).byte(), "label": labels.byte()}


def grating_data(name: str, train: int = 450, test: int = 100, batch_size: int = 50) -> StoreData:
    shape = shape_of(name)
    splits = gratings(train, *shape[:2]), gratings(test, *shape[:2], seed=1)
    return StoreData(
        DataSet("gratings", "gratings", "synthetic", "0123456789abcdef", DIGITS, None, *splits), batch_size
    )


def fit(module: ClassifierModule, data: StoreData, epochs: int) -> ClassifierModule:
    with quiet_lightning():
        trainer = build_trainer(epochs, [Reseed(0)], Hardware(), progress=False)
        trainer.fit(module, data)
    return module


def new_module(name: str, seed: int = 0, **settings) -> ClassifierModule:
    torch.manual_seed(seed)
    channels, size, _ = shape_of(name)
    return ClassifierModule(name, SMALL[name], **RECIPE | settings, classes=DIGITS, channels=channels, size=size)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits_of_each_image_are_its_own(name):
    torch.manual_seed(0)
    net = build(name)
    images = torch.rand(6, *shape_of(name))
    net.train()(images)
    net.eval()
    logits = net(images)
    assert logits.shape == (6, 10)
    assert torch.equal(net(images), logits)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(net(images[order]), logits[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net(images[:1]), logits[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_learns(name):
    module = fit(new_module(name), grating_data(name), epochs=14)
    scores = score_module(module, grating_data(name))
    assert scores.keys() == {"loss", "accuracy"}
    assert scores["accuracy"] > 0.9
    assert 0 < scores["loss"] < 1.5  # of smoothed labels and, in one, small logits


def test_scores_are_those_of_the_whole_split():
    data = grating_data("DigitNet", test=101, batch_size=33)  # a last batch of two
    module = new_module("DigitNet")
    scores = score_module(module, data)
    split = data.examples(101)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision() == "bf16-mixed"):
        logits = module.eval().cpu()(split["image"]).float()
    assert scores["accuracy"] == pytest.approx((logits.argmax(1) == split["label"]).float().mean().item(), abs=0.011)
    assert scores["loss"] == pytest.approx(F.cross_entropy(logits, split["label"]).item(), rel=1e-2)


def test_the_loss_is_smoothed_cross_entropy():
    module = new_module("DigitNet", smoothing=0.2).eval()
    module.log = lambda *args, **kwargs: None
    batch = {"image": torch.rand(8, 1, 28, 28), "label": torch.arange(8)}
    targets = F.one_hot(batch["label"], 10) * 0.8 + 0.02
    expected = -(targets * module(batch["image"]).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def test_an_attack_stays_in_its_ball_and_misleads_more_than_chance():
    torch.manual_seed(0)
    data = grating_data("DigitNet", train=300)
    net = fit(new_module("DigitNet"), data, epochs=4).net.eval()
    batch = data.examples(100)
    images, labels = batch["image"], batch["label"]
    attacked = attack(net, images, labels, 2.0)
    change = attacked - images
    assert change.flatten(1).norm(dim=1).max() <= 2.0001
    by_chance = images + 2.0 * F.normalize(torch.randn_like(images).flatten(1)).view_as(images)
    losses = [F.cross_entropy(net(each), labels) for each in (images, by_chance, attacked)]
    assert losses[2] > 1.5 * max(losses[:2])
    assert not attacked.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


@on_cpu
def test_training_on_attacked_images_withstands_attacks():
    data = grating_data("DigitNet", train=450)
    batch = data.examples(100)
    read = {}
    for radius in (0.0, 2.0):
        net = fit(new_module("DigitNet", attack_radius=radius), data, epochs=3).net.eval()
        torch.manual_seed(0)
        attacked = attack(net, batch["image"], batch["label"], 2.0)
        read[radius] = (net(attacked).argmax(1) == batch["label"]).float().mean().item()
    assert read[2.0] > read[0.0] + 0.1


def test_shifts_of_batch_norm_learn_at_their_own_rate():
    module = new_module("ObjectNet", shift_rate=64.0, weight_decay=1e-3, learning_rate=0.5)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 10})()
    optimiser = module.configure_optimizers()["optimizer"]
    others, shifts = optimiser.param_groups
    assert others["initial_lr"] == 0.5
    assert shifts["initial_lr"] == 32
    assert shifts["weight_decay"] * shifts["initial_lr"] == pytest.approx(others["weight_decay"] * 0.5)
    assert all(parameter.ndim == 1 for parameter in shifts["params"])
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    # All but the directions of the whitening and the scales of batch norm, which are fixed.
    fixed = {name for name, parameter in module.net.named_parameters() if id(parameter) not in held}
    norms = {f"features.{i}.weight" for i, layer in enumerate(module.net.features) if isinstance(layer, nn.BatchNorm2d)}
    assert fixed == norms | {"whitening.weight"}


def test_triangle_by_hand():
    assert triangle(0) == pytest.approx(0.2)
    assert triangle(0.1) == pytest.approx(0.6)
    assert triangle(0.2) == pytest.approx(1)
    assert triangle(0.6) == pytest.approx(0.51)
    assert triangle(1) == pytest.approx(0.02)


def test_lookahead_by_hand():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = Lookahead(net, every=1)
    net.weight.data.fill_(1.0)
    average.step(1, 2)  # 0.95 / 8 of the slow 0 stay: 1 − 0.11875
    assert net.weight.item() == pytest.approx(0.88125)
    net.weight.data.fill_(2.0)
    average.step(2, 2)  # the end is where the weights are
    assert net.weight.item() == 2
    assert average.slow[0].item() == 2


def test_lookahead_waits_for_its_turn_and_leaves_fixed_weights_alone():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    net[0].weight.requires_grad_(False)
    average = Lookahead(net, every=5)
    before = [layer.weight.item() for layer in net]
    for done in (1, 2, 3, 4):
        net[1].weight.data.fill_(before[1] + done)
        average.step(done, 20)
        assert net[1].weight.item() == pytest.approx(before[1] + done)
    average.step(5, 20)
    decay = 0.95**5 / 64
    assert net[1].weight.item() == pytest.approx(before[1] + 4 * (1 - decay))
    assert net[0].weight.item() == before[0]
    average.step(18, 20)
    net[1].weight.data.fill_(7.0)
    average.step(19, 19)  # the last step counts, whatever its number
    assert net[1].weight.item() == 7


def test_whitening_makes_patches_uncorrelated_and_of_unit_variance():
    torch.manual_seed(0)
    smooth = gaussian_blur(torch.rand(200, 3, 32, 32), 1.0)
    smooth = (smooth - smooth.mean()) + torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    net = build("ObjectNet", widths=[8, 8, 8])
    net.whiten(smooth, epsilon=1e-8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
    out = net.whitening((smooth - mean) / std)
    covariance = torch.cov(out[:, :12].transpose(0, 1).flatten(1))
    torch.testing.assert_close(covariance, torch.eye(12), atol=0.05, rtol=0)
    torch.testing.assert_close(out[:, 12:], -out[:, :12])  # every direction with both signs


def test_training_whitens_with_training_images_and_keeps_it():
    module, data = new_module("ObjectNet"), grating_data("ObjectNet", train=120)
    expected = build("ObjectNet")
    expected.whiten(data.train.tensors["image"][data.train.rows].float() / 255)
    fit(module, data, epochs=1)
    torch.testing.assert_close(module.net.whitening.weight, expected.whitening.weight)
    assert not module.net.whitening.weight.requires_grad


def test_object_net_convolutions_start_by_passing_their_input_on():
    net = build("ObjectNet", widths=[30, 30, 30])
    second = net.features[4]
    assert isinstance(second, nn.Conv2d)
    x = torch.rand(1, 30, 5, 5)
    torch.testing.assert_close(second(x), x)


def test_a_frozen_network_passes_gradients_to_its_input_only():
    net = freeze(build("DigitNet"))
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    net(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.training


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_feature_layer_is_what_the_logits_are_made_of(name):
    torch.manual_seed(0)
    net = build(name).eval()
    images = torch.rand(6, *shape_of(name))
    features = net.features_of(images)
    assert features.shape == (6, FEATURES[name])
    # Logits are linear in them: an image half-way between two would have the mean of their logits.
    last = net.head[-1] if isinstance(net.head, nn.Sequential) else net.head
    torch.testing.assert_close(net(images), last(features) * getattr(net, "scale", 1.0))
    torch.testing.assert_close(net.features_of(images[2:3]), features[2:3], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(("classes", "channels", "size"), [(3, 1, 32), (26, 3, 28), (2, 2, 40)])
def test_any_number_of_classes_channels_and_pixels(name, classes, channels, size):
    net = build_classifier(name, SMALL[name], classes=classes, channels=channels, size=size)
    images = torch.rand(4, channels, size, size)
    if hasattr(net, "whiten"):
        net.whiten(images)
    assert net.train()(images).shape == (4, classes)


def test_an_unknown_classifier_is_refused():
    with refused("unknown classifier 'Nobody'", *CLASSIFIERS):
        build("Nobody", widths=[8])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DigitNet", {"widths": [8, 8]}),
        ("DigitNet", {"widths": [8] * 6, "hidden": 8}),
        ("DigitJudge", {"widths": [8, 8, 8], "hidden": 8}),
        ("ObjectJudge", {"widths": [], "depth": 1, "halve": True}),
        ("DenseJudge", {"stem": [8], "growth": [8], "widths": "wide", "depth": 1}),
        ("ObjectNet", {"widths": [-1, 4]}),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_settings_of_which_no_network_can_be_built_are_refused(name, settings):
    with refused(f"{name} can't be built", "change net_settings"):
        build(name, **settings)


def layers(net: nn.Module) -> list[tuple]:
    """What a network is made of, whatever its widths: kinds of layers, kernels and strides."""
    kinds = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.ELU, nn.GELU, nn.Dropout)
    return [
        (type(layer).__name__, getattr(layer, "kernel_size", None), getattr(layer, "stride", None))
        for layer in net.modules()
        if isinstance(layer, kinds)
    ]


def networks_of(name: str, preset: str) -> dict[str, nn.Module]:
    """The frozen CNN and the judges of an experiment, as its block says."""
    settings, (channels, size) = build_settings(EXPERIMENTS[name], preset), {"cvae-mnist": (1, 28)}.get(name, (3, 32))
    roles = {role: getattr(settings, role) for role in NETWORKS}
    assert len({each.seed for each in roles.values()}) == len(roles)
    return {
        role: build_classifier(each.net, each.net_settings, classes=10, channels=channels, size=size)
        for role, each in roles.items()
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", CVAES)
def test_frozen_network_and_judges_are_of_different_kinds_and_seeds(name, preset):
    for one, other in combinations(networks_of(name, preset).values(), 2):
        assert type(one) is not type(other)
        kernels = [[parameter.shape for parameter in net.parameters() if parameter.ndim == 4] for net in (one, other)]
        assert kernels[0] != kernels[1]
        assert layers(one) != layers(other)


@pytest.fixture
def small_classifiers(monkeypatch, undrawn):
    """Makes `tiny` smaller still: 54 training images in batches of 8, which 5 does not divide."""
    for name in CVAES:
        block = EXPERIMENTS[name].block
        monkeypatch.setitem(block, "limit", 60)
        for role in NETWORKS:
            smaller = {"net_settings": SMALL[block[role]["net"]], "epochs": 4, "batch_size": 8, "learning_rate": 0.05}
            monkeypatch.setitem(block, role, block[role] | smaller | {"translate": 2, "noise": 0.1})


@on_cpu
@pytest.mark.parametrize("name", ["classifier-mnist", "classifier-cifar10"])
def test_interrupted_and_resumed_equals_uninterrupted(small_classifiers, tmp_path, monkeypatch, name):
    # Six steps an epoch, so that an epoch ends while the slow weights differ from the fast ones.
    whole = train_or_load(name, "tiny", out=tmp_path / "whole")
    for epoch in (1, 2):
        interrupt_in(monkeypatch, ClassifierModule, epoch, batch=3)
        stopped = train_or_load(name, "tiny", out=tmp_path / "cut")
        assert stopped.metrics["interrupted"]
        assert stopped.metrics["epochs"] == epoch
    resumed = train_or_load(name, "tiny", out=tmp_path / "cut")
    assert not resumed.metrics["interrupted"]
    assert resumed.test == whole.test
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert equal(weights(resumed), weights(whole))


def test_a_classifiers_record_gives_its_network_back(small_classifiers, tmp_path):
    record = train_or_load("classifier-mnist", "tiny", out=tmp_path)
    assert record.test.keys() == {"loss", "accuracy"}
    assert record.metrics["seeds"] == [0]
    module = record.model()
    assert not module.training
    data = training.build_data("classifier-mnist", "tiny")
    assert score_module(module, data)["accuracy"] == record.test["accuracy"]
    judge = train_or_load("judge-mnist", "tiny", out=tmp_path)
    assert judge.metrics["seeds"] == [101]
    # The weights of one are no use to the other.
    shutil.copy(judge.folder / "weights.safetensors", record.folder)
    with refused("do not fit its config.json", "train again"):
        record.model()
