"""Networks that read images: the frozen CNN of the label loss, and judges that share nothing with it.

| network     | kind                                                                                            |
| ----------- | ----------------------------------------------------------------------------------------------- |
| DigitNet    | 3×3 convolutions, ReLU, average pooling                                                         |
| DigitJudge  | 5×5 convolutions, ELU, max pooling, dropout                                                     |
| ObjectNet   | fixed whitening convolution, 3×3 convolutions, GELU, max pooling (Jordan 2024)                  |
| ObjectJudge | pre-activation residual network, ReLU, strides, global average (He et al. 2016)                 |
| DenseJudge  | layers joined by concatenation, SiLU, average pooling (Huang et al. 2017, Lee et al. 2019)      |

A judge takes no part in a loss; a drawing that fools the frozen CNN by an invisible texture has no reason to fool it.
Every network takes images, float (N, channels, size, size) in [0, 1], and returns logits (N, classes).
`features_of(images)` is its *feature layer*: what its last layer reads, float (N, F), in which images of one class lie
close together.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.errors import InputError, check_choice

# Mean and standard deviation of CIFAR-10's pixels by colour; for other numbers of channels their averages.
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Classifier(nn.Module):
    """Images (N, channels, size, size) in [0, 1] to logits (N, classes), by way of a feature layer."""

    head: nn.Module

    def features_of(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features_of(images))

    def maps_of(self, images: Tensor) -> Iterator[Tensor]:
        """Maps (N, C, H, W) of one depth after another, the images as they are read first; none by default."""
        return iter(())


def stages_of(layers: nn.Sequential, length: int, x: Tensor) -> Iterator[Tensor]:
    """`x`, then what comes out after each `length` layers."""
    yield x
    for start in range(0, len(layers), length):
        x = layers[start : start + length](x)
        yield x


class DigitNet(Classifier):
    """3×3 convolutions, batch norm, ReLU, average pooling. Shapes for a 1×28×28 image at widths (48, 96, 160).

    Average pooling, because a maximum sends gradients to single pixels, and a drawing that follows such gradients
    turns into dots.
    """

    def __init__(self, widths: Sequence[int], hidden: int, *, classes: int, channels: int, size: int) -> None:
        super().__init__()
        layers = []
        for inside, width in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(inside, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        flat = widths[-1] * (size // 2 ** len(widths)) ** 2
        self.head = nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def features_of(self, images: Tensor) -> Tensor:
        x = self.features(4 * images - 0.5)  # 48×14×14, 96×7×7, 160×3×3
        return self.head[:-1](x.flatten(1))  # 1440, then 128

    def forward(self, images: Tensor) -> Tensor:
        return self.head[-1](self.features_of(images))

    def maps_of(self, images: Tensor) -> Iterator[Tensor]:
        return stages_of(self.features, 4, 4 * images - 0.5)


class DigitJudge(Classifier):
    """5×5 convolutions, max pooling, ELU, dropout. Shapes for a 1×28×28 image at widths (32, 96)."""

    def __init__(self, widths: Sequence[int], hidden: int, *, classes: int, channels: int, size: int) -> None:
        super().__init__()
        one, two = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, one, 5, 1, 2),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(one),
            nn.ELU(),
            nn.Conv2d(one, two, 5),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(two),
            nn.ELU(),
        )
        flat = two * ((size // 2 - 4) // 2) ** 2
        dense = (nn.Linear(flat, hidden), nn.BatchNorm1d(hidden), nn.ELU(), nn.Dropout(0.2))
        self.head = nn.Sequential(*dense, nn.Linear(hidden, classes))

    def features_of(self, images: Tensor) -> Tensor:
        x = self.features((images - 0.13) / 0.31)  # 32×14×14, 96×5×5
        return self.head[:-1](x.flatten(1))  # 2400, then 160

    def forward(self, images: Tensor) -> Tensor:
        return self.head[-1](self.features_of(images))


class Normalise(nn.Module):
    """Images less their mean, divided by their standard deviation, as natural images have them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, values in {"mean": MEAN, "deviation": DEVIATION}.items():
            values = values if channels == 3 else (sum(values) / 3,) * channels
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


class ObjectNet(Classifier):
    """A fixed whitening convolution over 2×2 patches, three groups of two 3×3 convolutions, GELU, scaled logits.

    After airbench94 (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498). Call `whiten`
    with training images before training. Shapes for a 3×32×32 image at widths (64, 128, 256); any size will do.
    """

    PATCH = 2

    def __init__(self, widths: Sequence[int], *, classes: int, channels: int, size: int) -> None:
        super().__init__()
        self.normalise = Normalise(channels)
        directions = channels * self.PATCH**2
        self.whitening = nn.Conv2d(channels, 2 * directions, self.PATCH)
        self.whitening.weight.requires_grad_(False)
        layers = []
        for inside, width in zip((2 * directions, *widths), widths, strict=False):
            first = nn.Conv2d(inside, width, 3, 1, 1, bias=False)
            second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            for conv in (first, second):  # starts by passing its input on
                nn.init.dirac_(conv.weight[: conv.in_channels])
            layers += [first, nn.MaxPool2d(2), shift_norm(width), nn.GELU(), second, shift_norm(width), nn.GELU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes, bias=False)
        self.scale = 1 / 9

    @torch.no_grad()
    def whiten(self, images: Tensor, epsilon: float = 5e-4) -> None:
        """Sets the first convolution to the principal directions of 2×2 patches of `images` (N, C, S, S) in [0, 1],
        each divided by its standard deviation and present with both signs."""
        patches = F.unfold(self.normalise(images.float()), self.PATCH).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh((patches.T @ patches / len(patches)).cpu().double())
        directions = (vectors / torch.sqrt(values + epsilon)).T.flip(0).float()
        directions = directions.view(-1, images.shape[1], self.PATCH, self.PATCH)
        self.whitening.weight.copy_(torch.cat((directions, -directions)))
        self.whitening.bias.zero_()

    def features_of(self, images: Tensor) -> Tensor:
        x = F.gelu(self.whitening(self.normalise(images)))  # 24×31×31
        return self.features(x).amax((2, 3))  # 64×15×15, 128×7×7, 256×3×3, then 256

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features_of(images)) * self.scale

    def maps_of(self, images: Tensor) -> Iterator[Tensor]:
        return stages_of(self.features, 7, F.gelu(self.whitening(self.normalise(images))))


class PreActivation(nn.Module):
    """(Batch norm, ReLU, 3×3 convolution) twice, around a shortcut."""

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


class ObjectJudge(Classifier):
    """A pre-activation residual network (He et al. 2016, arXiv:1603.05027), ReLU, strided.

    `depth` blocks at each resolution; `halve` starts at half the resolution, which is cheaper. Shapes for a 3×32×32
    image at widths (32, 64, 128, 256); any size will do.
    """

    def __init__(
        self, widths: Sequence[int], depth: int, halve: bool, *, classes: int, channels: int, size: int
    ) -> None:
        super().__init__()
        self.normalise = Normalise(channels)
        stem = (4, 2, 1) if halve else (3, 1, 1)  # kernel, stride, padding
        self.stem = nn.Conv2d(channels, widths[0], *stem, bias=False)
        blocks, inside = [], widths[0]
        for stage, width in enumerate(widths):
            for i in range(depth):
                blocks.append(PreActivation(inside, width, 2 if stage and not i else 1))
                inside = width
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm2d(inside), nn.ReLU())
        self.head = nn.Linear(inside, classes)

    def features_of(self, images: Tensor) -> Tensor:
        x = self.stem(self.normalise(images))  # 32×32×32
        return self.blocks(x).mean((2, 3))  # 32×32×32, 64×16×16, 128×8×8, 256×4×4, then 256


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, SiLU; keeps the size."""

    def __init__(self, inside: int, outside: int, kernel: int) -> None:
        conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outside), nn.SiLU())


class DenseBlock(nn.Module):
    """3×3 convolutions in a row; the input and every layer's output are concatenated once and mixed by a 1×1."""

    def __init__(self, inside: int, growth: int, outside: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvNorm(growth if layer else inside, growth, 3) for layer in range(depth))
        self.join = ConvNorm(inside + depth * growth, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(layer(parts[-1]))
        return self.join(torch.cat(parts, 1))


class DenseJudge(Classifier):
    """Layers joined by concatenation, SiLU, average pooling.

    A DenseNet (Huang et al. 2017, arXiv:1608.06993) that concatenates once a block (Lee et al. 2019, "An Energy and
    GPU-Computation Efficient Backbone Network", arXiv:1904.09730), since many narrow layers are slow on a CPU. Shapes
    for a 3×32×32 image at stem (32, 64), growth (64, 96, 128) and widths (128, 256, 384); any size will do.
    """

    def __init__(
        self,
        stem: Sequence[int],
        growth: Sequence[int],
        widths: Sequence[int],
        depth: int,
        *,
        classes: int,
        channels: int,
        size: int,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(channels)
        layers = [ConvNorm(inside, width, 3) for inside, width in zip((channels, *stem), stem, strict=False)]
        for inside, more, width in zip((stem[-1], *widths), growth, widths, strict=False):
            layers += [nn.AvgPool2d(2), DenseBlock(inside, more, width, depth)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def features_of(self, images: Tensor) -> Tensor:
        x = self.layers(self.normalise(images))  # 32×32×32, 64×32×32, 128×16×16, 256×8×8, 384×4×4
        return x.mean((2, 3))  # 384


def shift_norm(width: int) -> nn.BatchNorm2d:
    """Batch norm that learns a shift but no scale, with fast running statistics for short training."""
    norm = nn.BatchNorm2d(width, eps=1e-5, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


CLASSIFIERS: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (DigitNet, DigitJudge, ObjectNet, ObjectJudge, DenseJudge)
}


def build_classifier(name: str, settings: dict, *, classes: int, channels: int, size: int) -> nn.Module:
    """A new classifier by its class name.

    Raises:
        InputError: an unknown name, or settings of which this network can't be built for such images.
    """
    check_choice("classifier", name, CLASSIFIERS)
    try:
        net = CLASSIFIERS[name](**settings, classes=classes, channels=channels, size=size)
        with torch.no_grad():
            net.eval()(torch.zeros(1, channels, size, size))  # images may be too small for it
    except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0].rstrip(".").replace(". ", "; ")
        raise InputError(
            f"{name} can't be built from {settings} for {channels}×{size}×{size} images ({reason}): change net_settings"
        ) from error
    return net.train().to(memory_format=torch.channels_last)


def freeze(net: nn.Module) -> nn.Module:
    """The network in evaluation mode with no parameter that can learn; gradients still flow to its input."""
    return net.eval().requires_grad_(False)
