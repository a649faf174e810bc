"""The networks of the conditional VAE: budgets, what a label changes and what it does not, evaluation, bad input."""

import math

import pytest
import torch
from conftest import refused
from cvae_stand_ins import DIGITS, SMALL, new_module
from torch import nn

from s18_utils.assignment import CVAE_PARAMETERS
from s18_utils.cvae.module import CVAEModule
from s18_utils.cvae.networks import (
    ConditionalBatchNorm,
    ConditionalVAE,
    Encoder,
    LabelEmbedding,
    LabelMap,
    LatentAugmentation,
)
from s18_utils.errors import InputError
from s18_utils.experiments import EXPERIMENTS, PRESETS, build_settings
from s18_utils.records import build_module

OF_DIGITS = {"classes": 10, "channels": 1, "size": 28}
IMAGES_OF = {"cvae-mnist": {"channels": 1, "size": 28}, "cvae-cifar10": {"channels": 3, "size": 32}}


@pytest.fixture
def module() -> CVAEModule:
    """In evaluation mode, with running statistics that are not the initial ones and labels that have been learned."""
    module = new_module()
    for table in (module.vae.decoder.norm.gamma, module.vae.decoder.norm.beta):
        nn.init.normal_(table.weight, 1.0, 0.5)
    for _ in range(3):
        module(torch.rand(16, 1, 28, 28), torch.randint(0, 10, (16,)))
    return module.eval()


@pytest.fixture
def vae(module) -> ConditionalVAE:
    return module.vae


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 4, 9])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", IMAGES_OF)
def test_parameters_are_within_the_budget(name, preset):
    settings = build_settings(EXPERIMENTS[name], preset)
    module = build_module("cvae", settings, {"classes": DIGITS, **IMAGES_OF[name]})
    parts, budgets = (module.vae.encoder, module.vae.decoder, module.frozen), CVAE_PARAMETERS[settings.data]
    assert all(count(part) <= budget for part, budget in zip(parts, budgets.values(), strict=True))
    beside = count(module.discriminator) if module.discriminator else 0
    assert count(module) == sum(count(part) for part in parts) + beside + 1  # and the learned scale


def test_labels_are_embedded_through_one_hot():
    embedding = LabelEmbedding(10, 3)
    columns = embedding.matrix.weight.T  # one-hot times a matrix picks its columns
    torch.testing.assert_close(embedding(torch.tensor([7, 0, 7])), columns[[7, 0, 7]])


def test_label_map_is_a_linear_map_of_the_embedding_laid_out_channels_last():
    torch.manual_seed(0)
    to_map, embedded = LabelMap(3, channels=2, size=4), torch.randn(5, 3)
    maps = to_map(embedded)
    assert maps.shape == (5, 2, 4, 4)
    expected = to_map.project(embedded).reshape(5, 4, 4, 2)
    torch.testing.assert_close(maps[:, 1, 2, 3], expected[:, 2, 3, 1])
    assert maps.is_contiguous(memory_format=torch.channels_last)


def test_conditional_batch_norm_by_hand():
    layer = ConditionalBatchNorm(10, 1)
    layer.gamma.weight.data[3], layer.beta.weight.data[3] = 2.0, 5.0
    # Codes −1 and 1: mean 0, variance 1. Label 0 leaves them, label 3 doubles and adds 5.
    codes, labels = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]]), torch.tensor([0, 0, 3, 3])
    torch.testing.assert_close(layer(codes, labels).flatten(), torch.tensor([-1.0, 1, 3, 7]), atol=1e-4, rtol=0)
    # Statistics are shared by all labels, not taken label by label.
    out = layer(torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), torch.tensor([0, 0, 3, 3])).flatten()
    torch.testing.assert_close(out, torch.tensor([-1.0, -1, 7, 7]), atol=1e-4, rtol=0)
    layer.eval()
    layer.norm.running_mean.fill_(10)
    layer.norm.running_var.fill_(4)
    out = layer(torch.tensor([[14.0]]), torch.tensor([3]))  # (14 − 10) / 2 · 2 + 5
    assert out.item() == pytest.approx(9, abs=1e-4)


def test_conditional_batch_norm_of_maps_scales_whole_channels():
    layer = ConditionalBatchNorm(3, 2, nn.BatchNorm2d)
    layer.gamma.weight.data[1], layer.beta.weight.data[1] = torch.tensor([0.0, 2.0]), torch.tensor([5.0, 1.0])
    maps = torch.randn(4, 2, 8, 8)
    plain = layer(maps, torch.zeros(4, dtype=torch.long))
    out = layer(maps, torch.ones(4, dtype=torch.long))
    torch.testing.assert_close(out[:, 0], torch.full((4, 8, 8), 5.0))
    torch.testing.assert_close(out[:, 1], 2 * plain[:, 1] + 1)
    half = layer(maps, torch.tensor([[0.5, 0.5, 0.0]]).expand(4, 3))
    torch.testing.assert_close(half, (plain + out) / 2)


def test_encoder_sees_the_label(module, batch):
    images, labels = batch
    mu, logvar = module.encode(images, labels)
    other_mu, other_logvar = module.encode(images, (labels + 1) % 10)
    assert (mu - other_mu).abs().amax(1).min() > 1e-4
    assert (logvar - other_logvar).abs().amax(1).min() > 1e-4


def test_swap_follows_the_asked_label_and_nothing_else(module, batch):
    images, labels = batch
    copies = images.clone(), labels.clone()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    chance = torch.get_rng_state()
    asked = (labels + 3) % 10
    plain, changed = module.reconstruct(images, labels), module.swap(images, labels, asked)
    assert torch.equal(module.swap(images, labels, labels), plain)
    assert (changed - plain).abs().amax((1, 2, 3)).min() > 1e-4
    # The code comes from the input under its own label, whatever is asked.
    torch.testing.assert_close(changed, module.decode(module.encode(images, labels)[0], asked))
    # Each drawing is its own: one image's label leaves the other five as they were.
    one = labels.clone()
    one[2] = asked[2]
    drawn = module.swap(images, labels, one)
    others = torch.arange(6) != 2
    torch.testing.assert_close(drawn[others], plain[others], atol=1e-6, rtol=0)
    torch.testing.assert_close(drawn[2], changed[2], atol=1e-6, rtol=0)
    # Nothing that went in, and nothing inside, has changed.
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)


def test_the_order_of_the_batch_does_not_matter(module, batch):
    images, labels = batch
    asked, order = (labels + 4) % 10, torch.tensor([3, 0, 5, 1, 4, 2])
    there = module.swap(images[order], labels[order], asked[order])
    torch.testing.assert_close(there, module.swap(images, labels, asked)[order], atol=1e-6, rtol=0)
    alone = torch.cat([module.swap(images[i : i + 1], labels[i : i + 1], asked[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, module.swap(images, labels, asked), atol=1e-5, rtol=1e-5)


def test_the_label_reaches_the_decoder_by_the_norm_and_by_every_map(module):
    torch.manual_seed(0)
    codes, labels = torch.randn(4, 4), torch.tensor([1, 2, 3, 4])
    reference = module.decode(codes, labels)
    for part in (
        module.vae.decoder.norm.gamma,
        module.vae.decoder.norm.beta,
        *(to_map.project for to_map in module.vae.decoder.maps),
    ):
        before = part.weight.data.clone()
        part.weight.data.add_(torch.randn_like(before))
        assert not torch.allclose(module.decode(codes, labels), reference)
        part.weight.data.copy_(before)
    torch.testing.assert_close(module.decode(codes, labels), reference)
    assert [to_map.shape[0] for to_map in module.vae.decoder.maps] == [7, 14, 28]  # every resolution


def test_evaluation_repeats_and_training_does_not(module, batch):
    images, labels = batch
    asked = labels.flip(0)
    assert torch.equal(module.swap(images, labels, asked), module.swap(images, labels, asked))
    mu, logvar = module.encode(images, labels)
    assert torch.equal(module.vae.sample(mu, logvar), mu)
    torch.testing.assert_close(module(images, labels)[0], module.decode(mu, labels))
    module.train()
    assert not torch.equal(module(images, labels)[0], module(images, labels)[0])


def test_samples_of_the_posterior_have_its_mean_and_variance():
    torch.manual_seed(0)
    vae = ConditionalVAE(**OF_DIGITS, **SMALL)
    mu, logvar = torch.tensor([[2.0, -1.0]]).expand(40_000, 2), torch.tensor([[0.0, 2 * math.log(3)]]).expand(40_000, 2)
    codes = vae.sample(mu, logvar)
    torch.testing.assert_close(codes.mean(0), torch.tensor([2.0, -1.0]), atol=0.06, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.tensor([1.0, 3.0]), atol=0.06, rtol=0)


def test_outputs_are_float32_in_the_unit_range_even_under_bf16(module, batch):
    images, labels = batch
    with torch.autocast("cpu", torch.bfloat16):
        drawn, mu, logvar = module(images, labels)
    assert drawn.dtype == mu.dtype == logvar.dtype == torch.float32
    assert drawn.shape == images.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    torch.testing.assert_close(drawn, module(images, labels)[0], atol=0.05, rtol=0)


def test_the_posterior_never_becomes_infinitely_narrow_or_wide():
    torch.manual_seed(0)
    encoder = Encoder(**OF_DIGITS, widths=(8, 8), latent=4, embedding=16, squeeze=16)
    with torch.no_grad():
        encoder.head.weight.mul_(1e6)
    _, logvar = encoder(torch.rand(8, 1, 28, 28), torch.arange(8))
    assert logvar.min() == -12
    assert logvar.max() == 6


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"encoder_widths": (8, 8, 8), "decoder_widths": (16,) * 4}, ("size 28", "3 times", "multiple of 8")),
        ({"decoder_widths": (8, 16, 16)}, ("8 label maps", "widen the decoder")),
        ({"encoder_widths": (8,), "decoder_widths": (16,)}, ("1 decoder widths", "1 encoder widths", "one more")),
        ({"classes": ("one",)}, ("among 1 classes", "at least 2")),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, parts):
    with refused(*parts):
        new_module(**change)


GOOD = torch.tensor([0, 1])
IMAGES = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (torch.tensor([0, 10]), ("0–9", "0–10")),
        (torch.tensor([-1, 0]), ("0–9", "-1–0")),
        (torch.tensor([0]), ("(2,)", "(1,)")),
        (torch.tensor([[0], [1]]), ("(2,)", "(2, 1)")),
        (torch.tensor(3), ("(2,)", "()")),
        (torch.tensor([0.0, 1.0]), ("torch.float32", "int64")),
        (torch.tensor([True, False]), ("torch.bool", "int64")),
        (torch.tensor([1j, 0]), ("torch.complex64", "int64")),
        ([0, 1], ("list", "int64")),
    ],
    ids=["10", "-1", "too few", "column", "scalar", "float", "bool", "complex", "list"],
)
def test_bad_labels_are_refused_in_one_sentence(module, labels, parts):
    for call in (
        lambda: module.reconstruct(IMAGES, labels),
        lambda: module.swap(IMAGES, GOOD, labels),
        lambda: module.decode(torch.zeros(2, 4), labels),
        lambda: module.train()(IMAGES, labels),
        lambda: module.train().terms(IMAGES, labels, 1.0),
    ):
        with refused("labels must", *parts):
            call()


def test_one_hot_rows_draw_what_their_labels_do(module):
    codes, labels = torch.randn(10, 4), torch.arange(10)
    rows = nn.functional.one_hot(labels, 10).float()
    torch.testing.assert_close(module.decode(codes, rows), module.decode(codes, labels))
    torch.testing.assert_close(module.swap(IMAGES, GOOD, rows[[7, 2]]), module.swap(IMAGES, GOOD, torch.tensor([7, 2])))


def test_a_mixture_of_labels_mixes_embeddings_scales_and_shifts(vae):
    decoder, shares = vae.decoder, torch.zeros(1, 10)
    shares[0, 3], shares[0, 8] = 0.75, 0.25
    three, eight = decoder.embedding(torch.tensor([3])), decoder.embedding(torch.tensor([8]))
    torch.testing.assert_close(decoder.embedding(shares), 0.75 * three + 0.25 * eight)
    code = torch.randn(1, 4)
    three, eight = decoder.norm(code, torch.tensor([3])), decoder.norm(code, torch.tensor([8]))
    torch.testing.assert_close(decoder.norm(code, shares), 0.75 * three + 0.25 * eight)


@pytest.mark.parametrize(
    ("shares", "parts"),
    [
        (torch.full((2, 10), 0.2), ("add up to 1", "divide each row")),
        (torch.eye(10)[:2] * 2 - torch.eye(10)[2:4], ("at least 0",)),
        (torch.full((2, 10), float("nan")), ("add up to 1",)),
        (torch.eye(10)[:1], ("(2, 10)", "(1, 10)")),
        (torch.full((2, 5), 0.2), ("(2, 10)", "(2, 5)")),
    ],
    ids=["sum 2", "negative", "nan", "too few", "five classes"],
)
def test_bad_mixtures_are_refused_in_one_sentence(module, shares, parts):
    with refused("mixtures of labels must", *parts):
        module.swap(IMAGES, GOOD, shares)


def test_the_encoder_takes_no_mixtures(module):
    with pytest.raises(InputError, match="labels must be an integer tensor"):
        module.encode(IMAGES, torch.eye(10)[:2])


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        (IMAGES * 255, ("[0, 1]", "rescale")),
        (IMAGES - 0.5, ("[0, 1]", "rescale")),
        (IMAGES.where(IMAGES < 0.99, float("nan")), ("[0, 1]", "nan")),
        (torch.full_like(IMAGES, float("inf")), ("[0, 1]", "inf")),
        ((IMAGES * 255).byte(), ("torch.uint8", "divide uint8 images by 255")),
        (IMAGES.long(), ("torch.int64", "[0, 1]")),
        (IMAGES.numpy(), ("ndarray", "float tensor")),
        (torch.rand(2, 1, 32, 32), ("(N, 1, 28, 28)", "(2, 1, 32, 32)")),
        (torch.rand(2, 3, 28, 28), ("(N, 1, 28, 28)", "(2, 3, 28, 28)")),
        (torch.rand(2, 28, 28), ("(N, 1, 28, 28)", "(2, 28, 28)")),
        (torch.rand(1, 28, 28), ("(N, 1, 28, 28)", "(1, 28, 28)")),
        (torch.rand(0, 1, 28, 28), ("(N, 1, 28, 28)", "(0, 1, 28, 28)")),
    ],
)
def test_bad_images_are_refused_in_one_sentence(module, images, parts):
    for call in (module.reconstruct, module.train(), lambda *batch: module.train().terms(*batch, 1.0)):
        with refused("images must", *parts):
            call(images, GOOD)


@pytest.mark.parametrize("codes", [torch.zeros(2, 5), torch.zeros(4), torch.zeros(2, 4).long()])
def test_bad_codes_are_refused_in_one_sentence(module, codes):
    with refused("codes must be float (N, 4)", "encode images first"):
        module.decode(codes, GOOD)


def test_a_training_batch_of_one_is_refused_and_changes_nothing(module):
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    for call in (module, lambda *batch: module.terms(*batch, 1.0)):
        with refused("at least 2 images", "eval()"):
            call(IMAGES[:1], GOOD[:1])
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert module.eval()(IMAGES[:1], GOOD[:1])[0].shape == (1, 1, 28, 28)


@pytest.mark.parametrize(("classes", "channels", "size"), [(3, 1, 16), (26, 2, 32), (2, 3, 28)])
def test_other_numbers_of_classes_channels_and_sizes(classes, channels, size):
    module = new_module(tuple("abcdefghijklmnopqrstuvwxyz"[:classes]), channels, size).eval()
    images, labels = torch.rand(4, channels, size, size), torch.tensor([0, 1, classes - 1, 0])
    assert module.swap(images, labels, labels.flip(0)).shape == images.shape
    mixtures = torch.full((4, classes), 1 / classes)
    assert module.swap(images, labels, mixtures).shape == images.shape
    terms = module.train().terms(images, labels, 1.0)
    assert all(term.isfinite() for term in terms.values())
    with pytest.raises(InputError, match=f"labels must lie in 0–{classes - 1}"):
        module.reconstruct(images, labels + 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_integer_type_will_do(module, dtype):
    torch.testing.assert_close(module.reconstruct(IMAGES, GOOD.to(dtype)), module.reconstruct(IMAGES, GOOD))


def test_partners_share_the_label_and_cover_everyone():
    torch.manual_seed(0)
    labels = torch.randint(0, 10, (200,))
    partners = LatentAugmentation.partners(labels)
    assert torch.equal(labels[partners], labels)
    assert torch.equal(partners.sort().values, torch.arange(200))  # a shuffle: everyone is a partner once
    assert (partners != torch.arange(200)).float().mean() > 0.7


def test_partners_are_uniform_within_the_class():
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 0, 0])
    counts = torch.zeros(4, 4)
    for _ in range(3000):
        counts[torch.arange(4), LatentAugmentation.partners(labels)] += 1
    assert counts[1].tolist() == [0, 3000, 0, 0]
    assert (counts[[0, 2, 3]][:, [0, 2, 3]] - 1000).abs().max() < 5 * math.sqrt(3000 * 2 / 9)


def test_interpolation_mixes_within_a_class_only():
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1])
    codes = torch.tensor([[0.0], [1.0], [7.0]])
    augmented = torch.stack([LatentAugmentation(noise=0, reach=1)(codes, labels) for _ in range(200)]).squeeze(-1)
    assert augmented[:, :2].min() >= 0
    assert augmented[:, :2].max() <= 1
    assert (augmented[:, 2] == 7).all()  # alone in its class
    assert augmented[:, 0].max() > 0.8
    near = torch.stack([LatentAugmentation(noise=0, reach=0.3)(codes, labels) for _ in range(200)]).squeeze(-1)
    assert 0.2 < near[:, 0].max() <= 0.3


def test_every_dimension_of_a_code_takes_the_same_step():
    torch.manual_seed(0)
    codes = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    augmented = torch.stack([LatentAugmentation(noise=0, reach=1)(codes, torch.tensor([4, 4])) for _ in range(50)])
    torch.testing.assert_close(augmented[..., 1], 2 * augmented[..., 0])


def test_latent_noise_has_the_size_asked_for_and_none_in_evaluation():
    torch.manual_seed(0)
    codes, labels = 3 * torch.randn(20_000, 1), torch.zeros(20_000, dtype=torch.long)
    layer = LatentAugmentation(noise=0.1, reach=0)
    assert (layer(codes, labels) - codes).std().item() == pytest.approx(0.3, rel=0.05)
    assert torch.equal(layer.eval()(codes, labels), codes)
    assert torch.equal(LatentAugmentation(noise=0.5, reach=1).eval()(codes, labels), codes)
