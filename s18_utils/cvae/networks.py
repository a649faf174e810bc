"""The two halves of the conditional VAE, and the whole.

An image is coded together with its label; a code is drawn under *any* label. The encoder adds the embedded label
to its feature maps. In the decoder the label acts twice: it sets the scale and the shift of a conditional batch
normalisation of the latent code (de Vries et al. 2017, arXiv:1707.00683), and it is projected to a small spatial
map that is concatenated to the features at every resolution.

Kingma & Welling 2014, arXiv:1312.6114; Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep
Conditional Generative Models".
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.cvae.checks import CLASSES, check_batch, check_images, check_labels, check_shares, is_shares
from s18_utils.errors import InputError

LOGVAR_RANGE = (-12.0, 6.0)  # keeps exp() finite; a posterior narrower than e^-6 would tell the decoder nothing more


class LabelEmbedding(nn.Module):
    """Labels (N,) int64 to vectors (N, dim): one-hot, then a learned matrix without bias.

    Shares of labels (N, classes) stand in for the one-hots they mix.
    """

    def __init__(self, dim: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.classes = classes
        self.matrix = nn.Linear(classes, dim, bias=False)
        nn.init.normal_(self.matrix.weight)

    def forward(self, labels: Tensor) -> Tensor:
        shares = labels if is_shares(labels) else F.one_hot(labels, self.classes)
        return self.matrix(shares.to(self.matrix.weight.dtype))


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation of codes (N, features) whose scale and shift belong to the label.

    The statistics are shared by all labels, so a code keeps its place in the whole batch and only its reading
    changes with the label. Shares of labels (N, classes) mix the labels' scales and shifts. Starts as plain
    normalisation (gamma 1, beta 0 for every label).
    """

    def __init__(self, features: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.gamma = nn.Embedding(classes, features)
        self.beta = nn.Embedding(classes, features)
        nn.init.ones_(self.gamma.weight)
        nn.init.zeros_(self.beta.weight)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        if is_shares(labels):
            gamma, beta = labels @ self.gamma.weight, labels @ self.beta.weight
        else:
            gamma, beta = self.gamma(labels), self.beta(labels)
        return gamma * self.norm(codes) + beta


class LabelMap(nn.Module):
    """The embedded label (N, dim) as a spatial map (N, channels, size, size) to concatenate to features."""

    def __init__(self, dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.shape = (size, size, channels)
        self.project = nn.Linear(dim, channels * size * size)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.project(embedded).unflatten(1, self.shape).permute(0, 3, 1, 2)  # channels last in memory


class ConvBlock(nn.Module):
    """3x3 convolution, batch norm, leaky ReLU; `stride` 2 halves the size."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> Tensor:
        x = self.norm(self.conv(x))
        if shift is not None:
            x = x + shift[:, :, None, None].to(x.dtype)
        return F.leaky_relu(x, 0.1)


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, arXiv:1603.05027); starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.norm(self.conv(self.first(x))), 0.1)


class Encoder(nn.Module):
    """Images (N, C, S, S) in [0, 1] and labels (N,) to `mu, logvar`, each (N, latent), float32.

    Every entry of `widths` is a resolution: a stride-2 block that the embedded label shifts, then `depth` residual
    blocks. S must be divisible by 2 ** len(widths).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        widths: Sequence[int],
        latent: int,
        depth: int = 0,
        embed: int = 16,
        squeeze: int = 16,
    ) -> None:
        super().__init__()
        grid = coarsest(size, len(widths))
        self.embedding = LabelEmbedding(embed)
        self.blocks, self.shifts, self.residuals = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inside = channels
        for width in widths:
            self.blocks.append(ConvBlock(inside, width, stride=2))
            self.shifts.append(nn.Linear(embed, width))
            self.residuals.append(nn.Sequential(*(Residual(width) for _ in range(depth))))
            inside = width
        self.squeeze = nn.Conv2d(inside, squeeze, 1)
        self.head = nn.Linear(squeeze * grid * grid, 2 * latent)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embedding(labels)
        x = 2 * images - 1
        for block, shift, residual in zip(self.blocks, self.shifts, self.residuals, strict=True):
            x = residual(block(x, shift(embedded)))
        mu, logvar = self.head(F.leaky_relu(self.squeeze(x), 0.1).flatten(1)).float().chunk(2, 1)
        return mu, logvar.clamp(*LOGVAR_RANGE)


class Decoder(nn.Module):
    """Codes (N, latent) and labels (N,) to images (N, C, S, S) in (0, 1), float32.

    `widths` runs from the coarsest resolution, S / 2 ** (len(widths) - 1), to the finest, S. At each one, `maps` of the
    channels are the label's map and the rest come from the resolution below: a convolution sees `width` in all.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        widths: Sequence[int],
        latent: int,
        depth: int = 0,
        embed: int = 16,
        maps: int = 8,
    ) -> None:
        super().__init__()
        if min(widths) <= maps:
            raise InputError(
                f"decoder widths {tuple(widths)} leave no room beside {maps} label maps: widen the decoder"
            )
        grid = coarsest(size, len(widths) - 1)
        self.embedding = LabelEmbedding(embed)
        self.norm = ConditionalBatchNorm(latent)
        self.shape = (grid, grid, widths[0] - maps)
        self.spread = nn.Linear(latent, grid * grid * (widths[0] - maps))
        self.maps, self.blocks, self.residuals, self.narrow = (nn.ModuleList() for _ in range(4))
        for stage, width in enumerate(widths):
            self.maps.append(LabelMap(embed, maps, grid * 2**stage))
            self.blocks.append(ConvBlock(width, width))
            self.residuals.append(nn.Sequential(*(Residual(width) for _ in range(depth))))
            if stage + 1 < len(widths):
                self.narrow.append(nn.Conv2d(width, widths[stage + 1] - maps, 1))
        self.draw = nn.Conv2d(widths[-1], channels, 3, 1, 1)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        embedded = self.embedding(labels)
        x = F.leaky_relu(self.spread(self.norm(codes, labels)), 0.1).unflatten(1, self.shape).permute(0, 3, 1, 2)
        for stage, (to_map, block, residual) in enumerate(zip(self.maps, self.blocks, self.residuals, strict=True)):
            if stage:  # narrowing first gives the same numbers as narrowing after, at a quarter of the work
                x = F.interpolate(self.narrow[stage - 1](x), scale_factor=2, mode="nearest")
            x = residual(block(torch.cat((x, to_map(embedded).to(x.dtype)), 1)))
        return torch.sigmoid(self.draw(x).float())


class LatentAugmentation(nn.Module):
    """New codes near old ones: a step towards another code of the same class, then noise.

    `z' = z + u * (partner - z) + noise * std(z) * eps`, u uniform in [0, reach] per code. DeVries & Taylor 2017,
    "Dataset Augmentation in Feature Space", arXiv:1702.05538. Codes (N, latent) and labels (N,) in, codes out; in
    evaluation mode the codes come back as they went in. A code alone in its class is its own partner.
    """

    def __init__(self, noise: float = 0.1, reach: float = 0.5) -> None:
        super().__init__()
        if noise < 0 or not 0 <= reach <= 1:
            raise InputError(f"noise {noise} or reach {reach} is out of range: use noise ≥ 0 and reach in [0, 1]")
        self.noise, self.reach = noise, reach

    @staticmethod
    def partners(labels: Tensor) -> Tensor:
        """For each position, a random position (N,) with the same label: a shuffle inside every class."""

        def order() -> Tensor:  # float64: a float32 key would lose the random part beside a large label
            return (labels + torch.rand(len(labels), device=labels.device, dtype=torch.float64)).argsort()

        here, there = order(), order()
        return torch.empty_like(here).scatter_(0, here, there)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        if not self.training:
            return codes
        step = self.reach * torch.rand(len(codes), 1, device=codes.device, dtype=codes.dtype)
        codes = codes + step * (codes[self.partners(labels)] - codes)
        return codes + self.noise * codes.detach().std(0, correction=0) * torch.randn_like(codes)


class ConditionalVAE(nn.Module):
    """q(z | x, y) and p(x | z, y) for images (N, C, S, S) in [0, 1] with labels 0-9.

    `image_shape` is (C, S, S). `decoder_widths` has one entry more than `encoder_widths`: the full resolution.
    Images must be float in [0, 1] and of that shape, labels integer 0-9 of shape (N,); a batch that is not raises
    an InputError. In training mode a batch needs two images, because
    batch normalisation has no statistics of one.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        latent: int = 16,
        encoder_widths: Sequence[int] = (32, 64),
        decoder_widths: Sequence[int] = (64, 64, 32),
        encoder_depth: int = 0,
        decoder_depth: int = 0,
        embed: int = 16,
        squeeze: int = 16,
        maps: int = 8,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height != width:
            raise InputError(f"images of shape {tuple(image_shape)} are not square: use (C, S, S)")
        if len(decoder_widths) != len(encoder_widths) + 1:
            raise InputError(
                f"{len(decoder_widths)} decoder widths do not fit {len(encoder_widths)} encoder widths: "
                "give the decoder one more, for the full resolution"
            )
        self.image_shape, self.latent = (channels, height, width), latent
        self.encoder = Encoder(channels, height, encoder_widths, latent, encoder_depth, embed, squeeze)
        self.decoder = Decoder(channels, height, decoder_widths, latent, decoder_depth, embed, maps)
        self.log_sigma = nn.Parameter(torch.tensor(-1.5))  # the Gaussian's scale, shared by all pixels
        self.to(memory_format=torch.channels_last)

    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`mu, logvar` (N, latent) of the posterior."""
        check_images(images, self.image_shape)
        check_labels(labels, len(images))
        check_batch(images, self.training)
        return self.encoder(images.contiguous(memory_format=torch.channels_last), labels.long())

    def sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """A code from the posterior in training mode, its mean in evaluation mode."""
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Codes (N, latent) drawn under labels (N,), or under mixtures of labels: images in (0, 1).

        A mixture is a row of float (N, 10), how much of each label is asked for, that adds up to 1.
        """
        if codes.ndim != 2 or codes.shape[1] != self.latent or not codes.is_floating_point():
            raise InputError(
                f"codes must be float (N, {self.latent}), not {codes.dtype} {tuple(codes.shape)}: encode images first"
            )
        check_batch(codes, self.training)
        if is_shares(labels):
            check_shares(labels, len(codes))
            return self.decoder(codes, labels.to(codes))
        check_labels(labels, len(codes))
        return self.decoder(codes, labels.long())

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`outputs, mu, logvar`: each image coded and drawn under its own label."""
        mu, logvar = self.encode(images, labels)
        return self.decode(self.sample(mu, logvar), labels), mu, logvar

    def imagine(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A drawing (N, C, S, S) of each label from a code of the prior, N(0, 1); `generator` is a CPU one."""
        codes = torch.randn(len(labels), self.latent, generator=generator)
        return self.decode(codes.to(self.log_sigma.device), labels)

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images drawn again under their own labels, in (0, 1)."""
        return self.swap(images, labels, labels)

    def swap(self, images: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """Images coded under `labels` and drawn under `asked`, labels or mixtures: in (0, 1), (N, C, S, S)."""
        mu, logvar = self.encode(images, labels)
        return self.decode(self.sample(mu, logvar), asked)


def coarsest(size: int, halvings: int) -> int:
    """`size` halved `halvings` times; an InputError if that is not whole."""
    if size % 2**halvings:
        raise InputError(f"size {size} can't be halved {halvings} times: use a multiple of {2**halvings}")
    return size // 2**halvings
