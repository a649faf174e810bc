"""A discriminator: a network that learns to tell drawings from real images of the label they were drawn under.

A likelihood asks for the mean of what an image could be and a label loss for what is easiest to read; neither asks for
drawings as real and as varied as images are. A discriminator does (Goodfellow et al. 2014, arXiv:1406.2661), and here
it reads what the frozen CNN makes of an image at every depth, not the image itself: with features that know what
counts, it has something to say after a few hundred steps (Sauer et al. 2021, "Projected GANs Converge Faster",
arXiv:2111.01007). The label comes in as a projection (Miyato & Koyama 2018, arXiv:1802.05637), spectral normalisation
keeps the gradient of every layer in bounds (Miyato et al. 2018, arXiv:1802.05957), and the losses are hinges.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

COARSEST = 4  # maps larger than twice this are halved before they are judged


class Head(nn.Module):
    """Reads maps of one depth (N, channels, H, W) with labels (N,): a score for every place, (N, H'·W')."""

    def __init__(self, channels: int, size: int, width: int, classes: int) -> None:
        super().__init__()
        layers, inside = [], channels
        while True:
            halve = size > 2 * COARSEST
            layers += [spectral_norm(nn.Conv2d(inside, width, 3, 2 if halve else 1, 1)), nn.LeakyReLU(0.2)]
            inside, size = width, (size + 1) // 2 if halve else size
            if not halve:
                break
        self.layers = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Conv2d(width, 1, 1))
        self.label = spectral_norm(nn.Embedding(classes, width))

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        x = self.layers(maps)
        fits = (x * self.label(labels)[:, :, None, None]).sum(1, keepdim=True)  # how well each place fits the label
        return (self.score(x) + fits).flatten(1).float()


class Discriminator(nn.Module):
    """A `Head` for each of the frozen CNN's depths, (channels, size) in `depths`; scores (N, places), high for real."""

    def __init__(self, depths: Sequence[tuple[int, int]], width: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(channels, size, width, classes) for channels, size in depths)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Sequence[Tensor], labels: Tensor) -> Tensor:
        return torch.cat([head(each, labels) for head, each in zip(self.heads, maps, strict=True)], 1)


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """The discriminator's hinge: real images (N, places) should score above 1, drawings (M, places) below −1."""
    return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()


def generator_loss(drawn: Tensor) -> Tensor:
    """What the drawings are to lower: less their mean score, (M, places) to (M,)."""
    return -drawn.mean(1)
