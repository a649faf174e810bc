"""Two classifiers per data set that share nothing: the frozen CNN of the label loss, and the judge.

| role   | MNIST                                  | CIFAR-10                                                      |
| ------ | -------------------------------------- | ------------------------------------------------------------- |
| frozen | 3x3 convolutions, average pooling      | whitening 2x2 convolution, GELU, max pooling (Jordan 2024)     |
| judge  | 5x5 convolutions, max pooling, dropout | pre-activation residual network, strides, global average       |

The judge never takes part in a loss of the VAE; a drawing that fools the frozen CNN by an invisible texture has no
reason to fool it. Every network takes images (N, C, S, S) in [0, 1] and returns logits (N, 10).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.errors import check_choice


class DigitNet(nn.Module):
    """Frozen CNN for one-channel 28x28 images: 3x3 convolutions, batch norm, ReLU, average pooling.

    Average pooling, because a maximum sends gradients to single pixels, and a drawing that follows such gradients
    turns into dots. 241 K parameters at the widths given here.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), hidden: int = 128) -> None:
        super().__init__()
        layers, inside = [], 1
        for width in widths:
            layers += [nn.Conv2d(inside, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(2)]
            inside = width
        self.features = nn.Sequential(*layers)
        grid = 28 // 2 ** len(widths)
        self.head = nn.Sequential(nn.Linear(inside * grid**2, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(4 * images - 0.5).flatten(1))


class DigitJudge(nn.Module):
    """Judge for one-channel 28x28 images: 5x5 convolutions, max pooling, ELU, dropout."""

    def __init__(self, widths: Sequence[int] = (24, 64), hidden: int = 160) -> None:
        super().__init__()
        one, two = widths
        self.features = nn.Sequential(
            nn.Conv2d(1, one, 5, 1, 2),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(one),
            nn.ELU(),
            nn.Conv2d(one, two, 5),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(two),
            nn.ELU(),
        )
        self.head = nn.Sequential(
            nn.Linear(two * 25, hidden), nn.BatchNorm1d(hidden), nn.ELU(), nn.Dropout(0.2), nn.Linear(hidden, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features((images - 0.13) / 0.31).flatten(1))


class ObjectNet(nn.Module):
    """Frozen CNN for 3x32x32 images: a fixed whitening convolution over 2x2 patches, three groups of two convolutions,
    GELU, scaled logits. After airbench94 (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
    arXiv:2404.00498).

    Call `whiten` with training images before training. 1.97 M parameters at widths (64, 256, 256).
    """

    PATCH = 2

    def __init__(self, widths: Sequence[int] = (64, 256, 256)) -> None:
        super().__init__()
        directions = 3 * self.PATCH**2
        self.whitening = nn.Conv2d(3, 2 * directions, self.PATCH)
        self.whitening.weight.requires_grad_(False)
        layers, inside = [], 2 * directions
        for width in widths:
            first = nn.Conv2d(inside, width, 3, 1, 1, bias=False)
            second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            for conv in (first, second):  # starts by passing its input on
                nn.init.dirac_(conv.weight[: conv.in_channels])
            layers += [first, nn.MaxPool2d(2), _shift_norm(width), nn.GELU(), second, _shift_norm(width), nn.GELU()]
            inside = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inside, 10, bias=False)
        self.scale = 1 / 9

    @torch.no_grad()
    def whiten(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Set the first convolution to the principal directions of 2x2 patches of `images` (N, 3, S, S) in [0, 1],
        each divided by its standard deviation and present with both signs."""
        x = (images.float() - _CIFAR_MEAN.to(images.device)) / _CIFAR_STD.to(images.device)
        patches = F.unfold(x, self.PATCH).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).double().cpu())
        directions = (vectors / torch.sqrt(values + epsilon)).T.flip(0).float().view(-1, 3, self.PATCH, self.PATCH)
        self.whitening.weight.copy_(torch.cat((directions, -directions)))
        self.whitening.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        x = (images - _CIFAR_MEAN.to(images.device)) / _CIFAR_STD.to(images.device)
        x = self.features(F.gelu(self.whitening(x)))
        return self.head(x.amax((2, 3))) * self.scale


class ObjectJudge(nn.Module):
    """Judge for 3x32x32 images: a pre-activation residual network (He et al. 2016, arXiv:1603.05027), ReLU, strided.

    `halve` starts at half the resolution, which a CPU can afford.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 256), depth: int = 2, halve: bool = False) -> None:
        super().__init__()
        stem = (4, 2, 1) if halve else (3, 1, 1)  # kernel, stride, padding
        self.stem = nn.Conv2d(3, widths[0], *stem, bias=False)
        blocks, inside = [], widths[0]
        for stage, width in enumerate(widths):
            for i in range(depth):
                blocks.append(_PreActivation(inside, width, 2 if stage and not i else 1))
                inside = width
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm2d(inside), nn.ReLU())
        self.head = nn.Linear(inside, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = (images - _CIFAR_MEAN.to(images.device)) / _CIFAR_STD.to(images.device)
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class _PreActivation(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        plain = inside == outside and stride == 1
        self.shortcut = None if plain else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        x = x if self.shortcut is None else self.shortcut(h)
        return x + self.conv2(F.relu(self.norm2(self.conv1(h))))


def _shift_norm(width: int) -> nn.BatchNorm2d:
    """Batch norm that learns a shift but no scale, with fast running statistics for short training."""
    norm = nn.BatchNorm2d(width, eps=1e-5, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


_CIFAR_MEAN = torch.tensor((0.4914, 0.4822, 0.4465)).view(3, 1, 1)
_CIFAR_STD = torch.tensor((0.2470, 0.2435, 0.2616)).view(3, 1, 1)

CLASSIFIERS: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (DigitNet, DigitJudge, ObjectNet, ObjectJudge)}


def build_classifier(name: str, **settings: object) -> nn.Module:
    """A new classifier by its class name, with settings that JSON can hold."""
    check_choice("classifier", name, CLASSIFIERS)
    return CLASSIFIERS[name](**settings).to(memory_format=torch.channels_last)


def freeze(net: nn.Module) -> nn.Module:
    """The network in evaluation mode with no parameter that can learn; gradients still flow to its input."""
    return net.eval().requires_grad_(False)
