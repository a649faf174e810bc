"""The two halves of the conditional VAE, and the whole.

An image is coded together with its label; a code is drawn under *any* label. The encoder adds the embedded label to its
feature maps. In the decoder the label acts twice. It sets scale and shift of batch normalisations, of the code and
after each convolution (conditional batch normalisation, de Vries et al. 2017, arXiv:1707.00683), and it is projected to
a small map that is concatenated to the features at every resolution. What is concatenated can only add to what the code
draws; a scale can silence it.

Kingma & Welling 2014, arXiv:1312.6114; Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep
Conditional Generative Models". The shapes beside the lines are those of a 1×28×28 image at encoder widths (32, 64),
decoder widths (96, 80, 40), 20 numbers of code, 16 of embedding and 8 label maps, as channels × height × width.

Labels that are drawn under are numbers, int64 (N,), or mixtures, float (N, classes) with rows that add up to 1.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOGVAR_RANGE = (-12.0, 6.0)  # keeps exp() finite; a posterior narrower than e^-6 would tell the decoder nothing more


class LabelEmbedding(nn.Module):
    """Labels or mixtures to vectors (N, dim): one-hot, then a learned matrix without bias."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.classes = classes
        self.matrix = nn.Linear(classes, dim, bias=False)
        nn.init.normal_(self.matrix.weight)

    def forward(self, labels: Tensor) -> Tensor:
        mixtures = F.one_hot(labels, self.classes) if labels.ndim == 1 else labels
        return self.matrix(mixtures.to(self.matrix.weight.dtype))


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation of codes (N, features) or maps (N, features, H, W) whose scale γ and shift β are the label's.

    The statistics are shared by all labels, so a code keeps its place in the whole batch and only its reading changes
    with the label. A mixture mixes the labels' γ and β. Starts as plain normalisation: γ 1 and β 0 for every label.

    Args:
        classes: how many labels there are.
        features: of a code, or channels of a map.
        norm: batch normalisation for codes; `nn.BatchNorm2d` for maps.
    """

    def __init__(self, classes: int, features: int, norm: type[nn.Module] = nn.BatchNorm1d) -> None:
        super().__init__()
        self.norm = norm(features, affine=False)
        self.gamma = nn.Embedding(classes, features)
        self.beta = nn.Embedding(classes, features)
        nn.init.ones_(self.gamma.weight)
        nn.init.zeros_(self.beta.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = self.norm(x)
        if labels.ndim == 1:
            gamma, beta = self.gamma(labels), self.beta(labels)
        else:
            gamma, beta = labels @ self.gamma.weight, labels @ self.beta.weight
        gamma, beta = (each.to(x.dtype)[(..., *[None] * (x.ndim - 2))] for each in (gamma, beta))
        return gamma * x + beta


class LabelMap(nn.Module):
    """The embedded label (N, dim) as a map (N, channels, size, size) to concatenate to features."""

    def __init__(self, dim: int, channels: int, size: int) -> None:
        super().__init__()
        self.shape = (size, size, channels)
        self.project = nn.Linear(dim, channels * size * size)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.project(embedded).unflatten(1, self.shape).permute(0, 3, 1, 2)  # channels last in memory


class EncoderBlock(nn.Module):
    """3×3 convolution to half the size, batch norm, leaky ReLU; `shift` (N, outside) is added after the norm."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.leaky_relu(x + shift[:, :, None, None].to(x.dtype), 0.1)


class DecoderBlock(nn.Module):
    """3×3 convolution, conditional batch norm, leaky ReLU, at one size."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = ConditionalBatchNorm(classes, width, nn.BatchNorm2d)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x), labels), 0.1)


class Encoder(nn.Module):
    """Images (N, channels, size, size) in [0, 1] and labels (N,) to `mu, logvar`, each (N, latent), float32.

    Every entry of `widths` is a resolution: a block that halves the size, shifted by the embedded label. `size` must be
    divisible by 2 ** len(widths).
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: int,
        widths: Sequence[int],
        latent: int,
        embedding: int,
        squeeze: int,
    ) -> None:
        super().__init__()
        self.embedding = LabelEmbedding(classes, embedding)
        self.blocks, self.shifts = nn.ModuleList(), nn.ModuleList()
        for inside, width in zip((channels, *widths), widths, strict=False):
            self.blocks.append(EncoderBlock(inside, width))
            self.shifts.append(nn.Linear(embedding, width))
        grid = size // 2 ** len(widths)
        self.squeeze = nn.Conv2d(widths[-1], squeeze, 1)
        self.head = nn.Linear(squeeze * grid * grid, 2 * latent)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embedding(labels)  # 16
        x = 2 * images - 1  # 1×28×28, now in [−1, 1]
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            x = block(x, shift(embedded))  # 32×14×14, then 64×7×7
        x = F.leaky_relu(self.squeeze(x), 0.1)  # 16×7×7
        mu, logvar = self.head(x.flatten(1)).float().chunk(2, 1)  # 20 and 20
        return mu, logvar.clamp(*LOGVAR_RANGE)


class Decoder(nn.Module):
    """Codes (N, latent) and labels or mixtures to images (N, channels, size, size) in (0, 1), float32.

    `widths` runs from the coarsest resolution, size / 2 ** (len(widths) - 1), to the finest. At each one, `label_maps`
    of the channels are the label's and the rest come from the resolution below: a convolution sees `width` in all.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: int,
        widths: Sequence[int],
        latent: int,
        embedding: int,
        label_maps: int,
    ) -> None:
        super().__init__()
        grid = size // 2 ** (len(widths) - 1)
        self.embedding = LabelEmbedding(classes, embedding)
        self.norm = ConditionalBatchNorm(classes, latent)
        self.shape = (grid, grid, widths[0] - label_maps)
        self.spread = nn.Linear(latent, grid * grid * (widths[0] - label_maps))
        self.maps, self.blocks, self.narrow = (nn.ModuleList() for _ in range(3))
        for stage, width in enumerate(widths):
            self.maps.append(LabelMap(embedding, label_maps, grid * 2**stage))
            self.blocks.append(DecoderBlock(classes, width))
            if stage + 1 < len(widths):
                self.narrow.append(nn.Conv2d(width, widths[stage + 1] - label_maps, 1))
        self.draw = nn.Conv2d(widths[-1], channels, 3, 1, 1)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        embedded = self.embedding(labels)  # 16
        x = F.leaky_relu(self.spread(self.norm(codes, labels)), 0.1)  # 20, then 4312
        x = x.unflatten(1, self.shape).permute(0, 3, 1, 2)  # 88×7×7
        for stage, (to_map, block) in enumerate(zip(self.maps, self.blocks, strict=True)):
            if stage:  # narrowing first gives the same numbers as narrowing after, at a quarter of the work
                x = F.interpolate(self.narrow[stage - 1](x), scale_factor=2, mode="nearest")  # 72×14×14, 32×28×28
            x = torch.cat((x, to_map(embedded).to(x.dtype)), 1)  # 96×7×7, 80×14×14, 40×28×28
            x = block(x, labels)  # the same
        return torch.sigmoid(self.draw(x).float())  # 1×28×28


class ConditionalVAE(nn.Module):
    """q(z | x, y) and p(x | z, y) for images (N, channels, size, size) in [0, 1] with labels 0 to `classes` − 1.

    `decoder_widths` has one entry more than `encoder_widths`: the full resolution.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int,
        size: int,
        latent: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        embedding: int,
        squeeze: int,
        label_maps: int,
    ) -> None:
        super().__init__()
        shared = {"classes": classes, "channels": channels, "size": size, "latent": latent, "embedding": embedding}
        self.encoder = Encoder(widths=encoder_widths, squeeze=squeeze, **shared)
        self.decoder = Decoder(widths=decoder_widths, label_maps=label_maps, **shared)
        self.log_sigma = nn.Parameter(torch.tensor(-1.5))  # the Gaussian's scale, shared by all pixels
        self.to(memory_format=torch.channels_last)

    def sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """A code from the posterior in training mode, its mean in evaluation mode.

        The *reparameterisation*: chance comes in as ε, so that gradients reach `mu` and `logvar`.
        """
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training else mu

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`drawings, mu, logvar`: each image coded and drawn under its own label."""
        mu, logvar = self.encoder(images, labels)
        return self.decoder(self.sample(mu, logvar), labels), mu, logvar


class LatentAugmentation(nn.Module):
    """New codes near old ones: a step towards another code of the same class, then noise.

    `z' = z + u * (partner - z) + noise * std(z) * eps`, u uniform in [0, reach] per code. DeVries & Taylor 2017,
    "Dataset Augmentation in Feature Space", arXiv:1702.05538. Codes (N, latent) and labels (N,) in, codes out; in
    evaluation mode the codes come back as they went in. A code alone in its class is its own partner.
    """

    def __init__(self, noise: float, reach: float) -> None:
        super().__init__()
        self.noise, self.reach = noise, reach

    @staticmethod
    def partners(labels: Tensor) -> Tensor:
        """For each position, a random position (N,) with the same label: a shuffle inside every class."""

        def order() -> Tensor:  # by label, and by chance among equal labels
            return (labels * len(labels) + torch.randperm(len(labels), device=labels.device)).argsort()

        here, there = order(), order()
        return torch.empty_like(here).scatter_(0, here, there)

    def forward(self, codes: Tensor, labels: Tensor) -> Tensor:
        if not self.training:
            return codes
        step = self.reach * torch.rand(len(codes), 1, device=codes.device, dtype=codes.dtype)
        codes = codes + step * (codes[self.partners(labels)] - codes)
        return codes + self.noise * codes.detach().std(0, correction=0) * torch.randn_like(codes)
