"""The discriminator: its losses by hand, what it learns, and that it and the model learn apart from each other."""

import pytest
import torch
from cvae_stand_ins import NETWORK, band_data, bands, new_module
from torch import nn

from s18_utils.cvae.classifiers import build_classifier
from s18_utils.cvae.discriminator import Discriminator, discriminator_loss, generator_loss
from s18_utils.cvae.losses import label_loss
from s18_utils.errors import InputError
from s18_utils.settings import NetworkSettings


def adversarial_module(**settings):
    quiet = {"disturb_shift": 0, "disturb_noise": 0.0, "disturb_blur": 0.0}
    return new_module(**quiet | {"adversarial_weight": 10.0, "label_weight": 0.0} | settings)


def examples():
    batch = band_data().examples(16)
    return batch["image"], batch["label"]


def gradients_of(net: nn.Module) -> list[float]:
    return [float(each.grad.abs().sum()) for each in net.parameters() if each.grad is not None]


def test_hinges_by_hand():
    real, drawn = torch.tensor([[2.0, 0.5]]), torch.tensor([[-2.0, 0.5], [0.0, -1.0]])
    assert discriminator_loss(real, drawn).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1.5 + 1 + 0) / 4)
    assert generator_loss(drawn).tolist() == pytest.approx([0.75, 0.5])


@pytest.mark.parametrize(("net", "settings", "channels", "size"), [
    ("DigitNet", {"widths": [4, 8, 8], "hidden": 16}, 1, 28),
    ("ObjectNet", {"widths": [8, 16, 16]}, 3, 32),
])  # fmt: skip
def test_a_frozen_network_shows_its_maps_one_depth_after_another(net, settings, channels, size):
    frozen = build_classifier(net, settings, classes=10, channels=channels, size=size).eval()
    images = torch.rand(4, channels, size, size)
    maps = list(frozen.maps_of(images))
    assert len(maps) == 4
    last = maps[-1].amax((2, 3)) if net == "ObjectNet" else frozen.head[:-1](maps[-1].flatten(1))
    torch.testing.assert_close(last, frozen.features_of(images))
    discriminator = Discriminator([(each.shape[1], each.shape[2]) for each in maps], 8, 10)
    assert discriminator(maps, torch.arange(4)).shape == (4, 4)


def test_it_learns_what_is_real_and_of_which_label():
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(4)
    images = bands(labels, 0.5 + 0.5 * torch.rand(40))
    flat = images.flatten(2).mean(2)[..., None, None].expand_as(images)  # as bright, without the band
    discriminator = Discriminator([(1, 28)], 8, 10)
    optimiser = torch.optim.Adam(discriminator.parameters(), 5e-3, betas=(0.5, 0.99))
    for _ in range(150):
        wrong = (labels + torch.randint(1, 10, labels.shape)) % 10
        drawn = torch.cat((discriminator([flat], labels), discriminator([images], wrong)))
        loss = discriminator_loss(discriminator([images], labels), drawn)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        right, wrong, blank = (
            discriminator([pictures], of).mean().item()
            for pictures, of in ((images, labels), (images, (labels + 5) % 10), (flat, labels))
        )
    assert right > wrong + 0.2
    assert right > blank + 0.2


def test_model_and_discriminator_learn_apart_from_each_other():
    module = adversarial_module().train()
    module.terms(*examples())["adversarial"].backward()
    assert gradients_of(module.discriminator) == []
    assert sum(gradients_of(module.vae.decoder)) > 0
    module.zero_grad(set_to_none=True)
    module.terms(*examples())["discriminator"].backward()
    assert gradients_of(module.vae) == []
    assert sum(gradients_of(module.discriminator)) > 0
    assert gradients_of(module.frozen) == []
    assert all(parameter.requires_grad for parameter in module.discriminator.parameters())


def test_the_loss_that_chooses_an_epoch_holds_the_models_side_alone():
    module = adversarial_module(kl_weight=2.0).eval()
    terms = module.terms(*examples(), 0.5)
    assert not {"discriminator", "adversarial"} & set(terms)
    torch.testing.assert_close(terms["loss"], terms["nll"] + 2 * terms["kl"])


def test_a_capped_label_loss_asks_for_no_more_than_half_of_the_real_images_have(monkeypatch):
    module = adversarial_module(adversarial_weight=0.0, label_weight=1.0, true_share=1.0, label_cap=True).eval()
    images, labels = examples()
    real = label_loss(module.frozen(images), labels).median()
    plain = module.terms(images, labels)
    drawn_under = []
    decode = module.vae.decoder.forward
    monkeypatch.setattr(module.vae.decoder, "forward", lambda z, y: drawn_under.append(y) or decode(z, y))
    terms = module.terms(images, labels)
    drawings = decode(module.encode(images, labels)[0].repeat(2, 1), drawn_under[0])
    capped = label_loss(module.frozen(drawings), drawn_under[0]).clamp_min(real)
    expected = terms["nll"] + terms["kl"] + capped[:16].mean() + capped[16:].mean()
    torch.testing.assert_close(terms["loss"], expected)
    assert terms["loss"] >= plain["nll"] + plain["kl"] + plain["label_true"] + plain["label_swapped"]


def test_there_is_none_unless_it_weighs_something():
    assert new_module().discriminator is None
    assert not any(name.startswith("discriminator") for name in new_module().state_dict())


def test_a_frozen_network_without_maps_is_refused():
    judge = NETWORK | {"net": "DigitJudge", "net_settings": {"widths": [4, 8], "hidden": 8}}
    with pytest.raises(InputError, match="DigitJudge shows a discriminator nothing to read: use DigitNet or ObjectNet"):
        adversarial_module(classifier=NetworkSettings(**judge))
