"""Stand-ins for the networks of the conditional VAE whose answers are known beforehand."""

import torch
from torch import Tensor, nn

from s18_utils.cvae.module import CVAEModule
from s18_utils.data.batches import StoreData
from s18_utils.data.store import DataSet
from s18_utils.settings import NetworkSettings

SIDE = 28
DIGITS = tuple("0123456789")
NETWORK = {"net": "DigitNet", "net_settings": {"widths": [4, 8, 8], "hidden": 16}, "seed": 0, "epochs": 1}
NETWORK |= {"batch_size": 8, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "shift_rate": 1.0}
NETWORK |= {"smoothing": 0.1, "attack_radius": 0.0, "translate": 0, "flip": False, "rotate": 0.0}
NETWORK |= {"scale": 0.0, "shear": 0.0, "noise": 0.0, "blur": 0.0}
SMALL = {"latent": 4, "encoder_widths": [8, 8], "decoder_widths": [16, 16, 16]}
SMALL |= {"embedding": 16, "squeeze": 16, "label_maps": 8}
OBJECTIVE = {"kl_weight": 1.0, "label_weight": 100.0, "true_share": 0.2, "label_start": 0.05, "label_full": 0.4}
OBJECTIVE |= {
    "label_cap": False,
    "adversarial_weight": 0.0,
    "discriminator_width": 8,
    "discriminator_rate": 1e-3,
}
OBJECTIVE |= {"disturb_shift": 2, "disturb_noise": 0.3, "disturb_blur": 1.0, "latent_noise": 0.0}
OBJECTIVE |= {"latent_reach": 0.0, "learning_rate": 2e-3, "weight_decay": 1e-4}


def new_module(classes: tuple[str, ...] = DIGITS, channels: int = 1, size: int = SIDE, **settings) -> CVAEModule:
    """A small conditional VAE, untrained, with the weights of seed 0."""
    torch.manual_seed(0)
    values = SMALL | OBJECTIVE | {"classifier": NetworkSettings(**NETWORK)} | settings
    return CVAEModule(**values, classes=classes, channels=channels, size=size)


def bands(labels: Tensor, brightness: Tensor, channels: int = 1, side: int = SIDE) -> Tensor:
    """Images of one bright band, two pixels high, whose row is the label: float (N, channels, side, side)."""
    images = torch.zeros(len(labels), channels, side, side)
    for image, label, light in zip(images, labels, brightness, strict=True):
        image[:, 2 * label : 2 * label + 2] = light
    return images


class Painter(nn.Module):
    """In place of a conditional VAE: a band for the asked label, as bright as the input; for a mixture, its bands.

    Args:
        keeps: use the input's brightness, else always 0.8.
        stuck: draw this label whatever was asked.
    """

    def __init__(self, keeps: bool = True, stuck: int | None = None, channels: int = 1, side: int = SIDE):
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))
        self.keeps, self.stuck, self.shape = keeps, stuck, (channels, side)

    def encoder(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mu = images.flatten(1).amax(1, keepdim=True)
        return mu, torch.zeros_like(mu)

    def sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return mu

    def decoder(self, codes: Tensor, labels: Tensor) -> Tensor:
        if self.stuck is not None:
            labels = torch.full((len(labels),), self.stuck)
        light = codes[:, 0].clamp(0, 1) if self.keeps else torch.full_like(codes[:, 0], 0.8)
        if labels.is_floating_point():
            every = [bands(torch.full_like(light, label).long(), light, *self.shape) for label in range(10)]
            return torch.einsum("nk,knchw->nchw", labels, torch.stack(every))
        return bands(labels, light, *self.shape)


class BandJudge(nn.Module):
    """Reads the band with the most light; one that is `blind` sees all alike and says 0; `confused` maps what it reads.

    Its features are the light in each band.
    """

    def __init__(self, blind: bool = False, confused: dict[int, int] | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.blind, self.confused = blind, confused or {}

    def features_of(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 3))[:, :20].unflatten(1, (10, 2)).sum(2)

    def forward(self, images: Tensor) -> Tensor:
        light = self.features_of(images)
        if self.confused:
            light = light[:, [self.confused.get(label, label) for label in range(10)]]
        return torch.zeros_like(light) if self.blind else light * self.weight


def module_of(painter: nn.Module, judges: list | None = None, frozen: nn.Module | None = None, **shape) -> CVAEModule:
    """A module whose network is a stand-in that codes an image by one number, or by as many as its `latent` says."""
    module = new_module(**shape).eval()
    module.vae, module.latent = painter, getattr(painter, "latent", 1)
    module.frozen = frozen or BandJudge(blind=True)
    module.judges = [BandJudge()] if judges is None else judges
    return module


def labelled_set(
    train: dict[str, Tensor], test: dict[str, Tensor], source: str = "synthetic", classes=DIGITS
) -> DataSet:
    return DataSet("mnist", "MNIST", source, "0123456789abcdef", classes, None, train, test)


def band_split(count: int, seed: int = 0, channels: int = 1, side: int = SIDE) -> dict[str, Tensor]:
    """Bands of every label and different brightness, as a store has them."""
    labels = torch.arange(count) % 10
    light = 0.5 + 0.5 * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    return stored(bands(labels, light, channels, side), labels)


def stored(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return {"image": (images * 255).round().byte(), "label": labels.byte()}


def band_set(
    train: int = 80, test: int = 40, source: str = "synthetic", channels: int = 1, side: int = SIDE
) -> DataSet:
    """A data set of bands."""
    return labelled_set(band_split(train, 0, channels, side), band_split(test, 1, channels, side), source)


def band_data(train: int = 80, test: int = 40, batch_size: int = 8, **settings) -> StoreData:
    return StoreData(band_set(train, test, **settings), batch_size)
