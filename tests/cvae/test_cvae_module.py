"""The conditional VAE's objective: its terms, what is frozen, how drawings are disturbed, and a step of training."""

import json

import pytest
import torch
from conftest import equal, refused, snapshot
from cvae_stand_ins import BandJudge, band_data, new_module

from s18_utils.cvae import module as cvae_module
from s18_utils.cvae.classifiers import build_classifier
from s18_utils.cvae.losses import gaussian_nll, kl_divergence, label_loss
from s18_utils.cvae.module import Disturbance
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.fitting import Hardware, Reseed, build_trainer, quiet_lightning


def examples(count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    batch = band_data().examples(count)
    return batch["image"], batch["label"]


def fit(module, epochs: int = 1, batch_size: int = 24):
    data = band_data(batch_size=batch_size)  # 72 training images
    with quiet_lightning():
        trainer = build_trainer(epochs, [Reseed(0)], Hardware(), progress=False)
        trainer.fit(module, data)
    return trainer


# The objective.


def test_terms_are_the_losses_and_the_loss_is_their_weighted_sum():
    module = new_module(kl_weight=2.0, true_share=0.5, label_weight=10.0).eval()
    images, labels = examples()
    terms = module.terms(images, labels, 0.3)
    drawn, mu, logvar = module(images, labels)
    torch.testing.assert_close(terms["nll"], gaussian_nll(drawn, images, module.vae.log_sigma).mean())
    torch.testing.assert_close(terms["kl"], kl_divergence(mu, logvar).mean())
    torch.testing.assert_close(terms["label_true"], label_loss(module.frozen(drawn), labels).mean())
    labelled = 0.5 * terms["label_true"] + terms["label_swapped"]
    loss = terms["nll"] + 2 * terms["kl"] + 3 * labelled
    torch.testing.assert_close(terms["loss"], loss)


def test_without_a_label_weight_the_loss_is_that_of_a_plain_conditional_vae():
    module = new_module().eval()
    terms = module.terms(*examples(), 0.0)
    torch.testing.assert_close(terms["loss"], terms["nll"] + terms["kl"])


def test_the_swapped_term_asks_for_the_asked_label_not_the_true_one(monkeypatch):
    module = new_module().eval()
    images, labels = examples()
    asked = (labels + 4) % 10
    monkeypatch.setattr(cvae_module, "mismatched_labels", lambda *_: asked)
    expected = label_loss(module.frozen(module.swap(images, labels, asked)), asked).mean()
    torch.testing.assert_close(module.terms(images, labels, 1.0)["label_swapped"], expected)


def test_labels_asked_in_training_are_wrong_ones_and_change_from_step_to_step(monkeypatch):
    module, asked = new_module().train(), []
    decode = module.vae.decoder.forward
    monkeypatch.setattr(
        module.vae.decoder, "forward", lambda codes, labels: asked.append(labels) or decode(codes, labels)
    )
    images, labels = examples()
    for _ in range(2):
        module.terms(images, labels, 1.0)
    assert all(torch.equal(drawn_under[:16], labels) for drawn_under in asked)
    assert all((drawn_under[16:] != labels).all() for drawn_under in asked)
    assert not torch.equal(asked[0], asked[1])


def test_terms_repeat_in_evaluation_mode_and_leave_chance_alone():
    module = new_module(latent_noise=0.5, latent_reach=1.0).eval()
    images, labels = examples()
    before = torch.get_rng_state()
    first, again = (module.terms(images, labels, 3.0) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(before, torch.get_rng_state())


def test_latent_augmentation_is_for_swapped_drawings_alone(monkeypatch):
    module, codes = new_module(latent_noise=0.5, latent_reach=1.0).train(), []
    monkeypatch.setattr(module.vae, "sample", lambda mu, logvar: mu)
    decode = module.vae.decoder.forward
    monkeypatch.setattr(
        module.vae.decoder, "forward", lambda given, labels: codes.append(given) or decode(given, labels)
    )
    images, labels = examples()
    mu, _ = module.vae.encoder(images, labels)
    module.terms(images, labels, 1.0)
    torch.testing.assert_close(codes[0][:16], mu)
    assert (codes[0][16:] != mu).any(1).all()
    codes.clear()
    module.eval().terms(images, labels, 1.0)
    assert torch.equal(codes[0][16:], codes[0][:16])


def test_the_label_weight_waits_then_climbs_then_stays():
    module = new_module(label_weight=10, label_start=0.2, label_full=0.6)
    weights = [module.ramp_at(progress) for progress in (0, 0.2, 0.3, 0.4, 0.6, 1)]
    assert weights == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    at_once = new_module(label_weight=10, label_start=-1, label_full=0)
    assert [at_once.ramp_at(progress) for progress in (0, 0.5, 1)] == [1, 1, 1]


def test_training_goes_through_the_warm_up(monkeypatch):
    module, weights = new_module(label_start=0.0, label_full=0.5), []
    terms = module.terms
    monkeypatch.setattr(module, "terms", lambda *batch: weights.append((*batch, 1.0)[2]) or terms(*batch))
    fit(module, epochs=2, batch_size=12)  # twelve steps, and after every six one look at the validation images
    assert weights == pytest.approx([min(step / 6, 1) for step in range(6)] + [1] * 8)


def test_training_lowers_the_objective():
    module = new_module(label_weight=0.0, learning_rate=5e-3)
    images, labels = examples(40)
    before = module.train().terms(images, labels, 0.0)["loss"].item()
    fit(module, epochs=15)
    assert module.train().terms(images, labels, 0.0)["loss"].item() < before - 100


# What is frozen, what learns.


def test_the_frozen_network_is_untouched_by_training():
    module = new_module()
    frozen, learned = snapshot(module.frozen), snapshot(module.vae)
    trainer = fit(module, epochs=3)
    assert not module.frozen.training
    assert not any(layer.training for layer in module.frozen.modules())
    assert equal(module.frozen.state_dict(), frozen)  # weights and running statistics
    assert any(name.endswith("running_mean") for name in frozen)
    assert not any(parameter.requires_grad for parameter in module.frozen.parameters())
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    held = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in module.vae.parameters()}
    still = [name for name, value in module.vae.state_dict().items() if torch.equal(value, learned[name])]
    assert still == []  # while all else did learn


def test_the_frozen_network_stays_in_evaluation_mode_whatever_is_asked():
    module = new_module()
    for mode in (module.train(), module.train().eval(), module.eval().train()):
        assert not mode.frozen.training
    assert module.vae.training


def test_the_label_loss_reaches_the_decoder_through_the_frozen_network():
    module = new_module(disturb_shift=0, disturb_noise=0, disturb_blur=0).train()
    module.terms(*examples(), 1.0)["label_swapped"].backward()
    assert module.vae.decoder.draw.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in module.frozen.parameters())


def test_every_parameter_is_in_one_group_and_only_kernels_decay():
    module = new_module(weight_decay=0.1)
    groups = fit(module).optimizers[0].param_groups
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held}) == len(list(module.vae.parameters()))
    assert [group["weight_decay"] for group in groups] == [0.1, 0, 0]
    assert all(parameter.ndim > 1 for parameter in groups[0]["params"])
    assert groups[2]["params"] == [module.vae.log_sigma]
    assert groups[2]["max_lr"] == pytest.approx(5 * groups[0]["max_lr"])


# What drawings go through before the frozen network.


def test_disturbance_changes_drawings_in_training_only():
    torch.manual_seed(0)
    images = torch.rand(8, 1, 28, 28)
    layer = Disturbance(2, 0.3, 1.0)
    assert not torch.equal(layer(images), images)
    chance = torch.get_rng_state()
    assert layer.eval()(images) is images
    assert torch.equal(torch.get_rng_state(), chance)
    assert Disturbance(0, 0, 0)(images) is images


def test_a_shift_moves_each_part_of_a_batch_as_a_whole():
    torch.manual_seed(0)
    images = torch.zeros(40, 1, 28, 28)
    images[:, :, 14, 14] = 1
    layer, places = Disturbance(shift=2, noise=0, blur=0, groups=4), set()
    for _ in range(60):
        moved = layer(images)
        assert torch.equal(moved.sum((1, 2, 3)), torch.ones(40))
        where = [tuple(place) for place in moved.nonzero()[:, 2:].tolist()]
        assert all(len(set(where[part : part + 10])) == 1 for part in range(0, 40, 10))
        places |= set(where)
    assert places == {(row, column) for row in range(12, 17) for column in range(12, 17)}


def test_half_of_the_parts_are_blurred():
    torch.manual_seed(0)
    images = torch.zeros(4, 1, 9, 9)
    images[:, :, 4, 4] = 1
    middles = torch.cat([Disturbance(shift=0, noise=0, blur=1.0)(images)[:, 0, 4, 4] for _ in range(200)])
    assert 300 < (middles < 1).sum() < 500
    strongest = gaussian_blur(images, 1.3)[0, 0, 4, 4].item()
    assert middles.min().item() == pytest.approx(strongest, abs=0.02)


def test_noise_is_drawn_for_each_image_up_to_its_size():
    torch.manual_seed(0)
    sizes = Disturbance(shift=0, noise=0.3, blur=0)(torch.zeros(400, 1, 28, 28)).flatten(1).std(1)
    assert 0.28 < sizes.max() < 0.33
    assert sizes.mean().item() == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_disturbance_keeps_every_image_of_any_batch_in_its_place(count):
    images = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)  # flat, so shift and blur do nothing
    torch.testing.assert_close(Disturbance(2, 0, 1.0)(images), images)


# The module as a whole.


def test_its_settings_are_plain_values_for_checkpoints():
    module = new_module(label_weight=7.0)
    assert json.loads(json.dumps(dict(module.hparams)))["label_weight"] == 7.0
    assert module.hparams.learning_rate == 2e-3


def test_drawings_come_without_gradients_and_in_the_unit_range():
    module = new_module().eval()
    images, labels = examples(4)
    for drawn in (
        module.swap(images, labels, labels.flip(0)),
        module.reconstruct(images, labels),
    ):
        assert not drawn.requires_grad
        assert drawn.shape == images.shape
        assert 0 <= drawn.min() <= drawn.max() <= 1


def test_in_training_mode_nothing_is_drawn():
    module, (images, labels) = new_module().train(), examples(4)
    with refused("training mode, which changes what it draws", "call `.eval()`"):
        module.swap(images, labels, labels)


# The networks that read its drawings.


def test_attaching_brings_the_frozen_networks_weights_and_the_judges():
    module = new_module()
    torch.manual_seed(1)
    trained = build_classifier("DigitNet", {"widths": [4, 8, 8], "hidden": 16}, classes=10, channels=1, size=28)
    judges = [BandJudge(), BandJudge()]
    names = set(module.state_dict())
    module.attach(trained, judges)
    assert equal(module.frozen.state_dict(), trained.state_dict())
    assert module.judges == judges
    assert not any(judge.training or judge.weight.requires_grad for judge in judges)
    # Judges are no part of the model: not of its weights, not of its optimiser.
    assert set(module.state_dict()) == names
    assert not {id(judge.weight) for judge in judges} & {id(parameter) for parameter in module.parameters()}
    module.attach(classifier=trained)  # and stay when another frozen CNN comes
    assert module.judges == judges


def test_a_frozen_network_of_another_architecture_is_refused():
    module = new_module()
    before = snapshot(module)
    other = build_classifier("DigitNet", {"widths": [4, 8, 8], "hidden": 8}, classes=10, channels=1, size=28)
    with refused("the classifier given, DigitNet", "another architecture", "train it again"):
        module.attach(other, [BandJudge()])
    assert equal(module.state_dict(), before)
    assert module.judges == []


def test_a_judge_without_a_feature_layer_is_refused():
    module = new_module()
    with refused("Flatten has no feature layer"):
        module.attach(judges=[BandJudge(), torch.nn.Flatten()])
    assert module.judges == []
