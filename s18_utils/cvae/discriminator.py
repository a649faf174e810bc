"""A discriminator: a network that learns to tell drawings from real images of the label they were drawn under.

A likelihood asks for the mean of what an image could be and a label loss for what is easiest to read; neither asks for
drawings as real and as varied as images are. A discriminator does (Goodfellow et al. 2014, arXiv:1406.2661), and here
it reads, beside the image as the frozen CNN takes it in, what that makes of it: with features that know what counts, it
has something to say after a few hundred steps (Sauer et al. 2021, "Projected GANs Converge Faster", arXiv:2111.01007).
Of the frozen CNN's maps it reads the first alone, since the later ones have dropped how images of a class differ. The
label comes in as a projection (Miyato & Koyama 2018, arXiv:1802.05637), spectral normalisation keeps the gradient of
every layer in bounds (Miyato et al. 2018, arXiv:1802.05957), and the losses are hinges.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

DEPTHS = 2  # the image as the frozen CNN reads it, and the first maps that it makes of it
COARSEST = 4  # maps are halved down to about this size


class Head(nn.Module):
    """Reads maps of one depth (N, channels, size, size) with labels (N,): how real they are, (N, 1)."""

    def __init__(self, channels: int, size: int, width: int, classes: int) -> None:
        super().__init__()
        layers = [spectral_norm(nn.Conv2d(channels, width, 3, 1, 1)), nn.LeakyReLU(0.2)]
        while size > COARSEST:  # half the size, twice the channels
            layers += [spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            width, size = 2 * width, size // 2
        self.layers = nn.Sequential(*layers)
        self.score = spectral_norm(nn.Linear(width, 1))
        self.label = spectral_norm(nn.Embedding(classes, width))

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        x = self.layers(maps).sum((2, 3))  # the whole image at once: what is real in places need not be as a whole
        return (self.score(x) + (x * self.label(labels)).sum(1, keepdim=True)).float()


class Discriminator(nn.Module):
    """A `Head` for each map, (channels, size) in `depths`; scores (N, depths), high for real images."""

    def __init__(self, depths: Sequence[tuple[int, int]], width: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(channels, size, width, classes) for channels, size in depths)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: Sequence[Tensor], labels: Tensor) -> Tensor:
        return torch.cat([head(each, labels) for head, each in zip(self.heads, maps, strict=True)], 1)


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """The discriminator's hinge: real images (N, depths) should score above 1, drawings (M, depths) below −1."""
    return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()


def generator_loss(drawn: Tensor) -> Tensor:
    """What the drawings are to lower: less their mean score, (M, depths) to (M,)."""
    return -drawn.mean(1)
