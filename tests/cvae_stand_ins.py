"""Stand-ins for the networks of the conditional VAE whose answers are known beforehand."""

import torch
from torch import Tensor, nn

from s18_utils.data import DataSet

SIDE = 28
SMALL = {
    "image_shape": [1, SIDE, SIDE],
    "classifier": "DigitNet",
    "classifier_settings": {"widths": [4, 8, 8], "hidden": 16},
    "latent": 4,
    "encoder_widths": [8, 8],
    "decoder_widths": [16, 16, 16],
}


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
        self.latent = 1
        self.keeps, self.stuck, self.shape = keeps, stuck, (channels, side)

    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mu = images.flatten(1).amax(1, keepdim=True)
        return mu, torch.zeros_like(mu)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        if self.stuck is not None:
            labels = torch.full((len(labels),), self.stuck)
        light = codes[:, 0].clamp(0, 1) if self.keeps else torch.full_like(codes[:, 0], 0.8)
        if labels.is_floating_point():
            every = [bands(torch.full_like(light, label).long(), light, *self.shape) for label in range(10)]
            return torch.einsum("nk,knchw->nchw", labels, torch.stack(every))
        return bands(labels, light, *self.shape)

    def swap(self, images: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        return self.decode(self.encode(images, labels)[0], asked)

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.swap(images, labels, labels)


class BandJudge(nn.Module):
    """Reads the band with the most light; a blind one sees all alike and says 0."""

    def __init__(self, blind: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.blind = blind

    def forward(self, images: Tensor) -> Tensor:
        light = images.float().mean((1, 3))[:, :20].unflatten(1, (10, 2)).sum(2)
        return torch.zeros_like(light) if self.blind else light * self.weight


def band_set(
    train: int = 80, test: int = 40, name: str = "mnist", source: str = "synthetic", channels: int = 1, side: int = SIDE
) -> DataSet:
    """A data set of bands of every label and different brightness."""

    def split(count: int, seed: int) -> dict[str, Tensor]:
        labels = torch.arange(count) % 10
        light = 0.5 + 0.5 * torch.rand(count, generator=torch.Generator().manual_seed(seed))
        images = (bands(labels, light, channels, side) * 255).round().byte()
        return {"image": images, "label": labels.byte()}

    return DataSet(name, source, "0123456789abcdef", split(train, 0), split(test, 1))
