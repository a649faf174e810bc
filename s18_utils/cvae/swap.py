"""The label swap, scored by a judge that took no part in training.

Every test image is drawn under all ten labels. Under a wrong one the judge should read the label that was asked; under
the right one the true label. Agreement alone could be had by drawing one digit per label, so `survives` measures what
of the input is still there: the slant and the ink of a digit, the coarse layout of an object's colours.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.cvae.checks import CLASSES
from s18_utils.cvae.losses import gaussian_nll, kl_divergence, label_loss
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.errors import InputError
from s18_utils.hardware import gather

BLUR_SIGMA = 0.75  # pixels: enough to erase a texture of single pixels, not a stroke


def ink(images: Tensor) -> Tensor:
    """The mean brightness (N,) of images (N, 1, S, S)."""
    return images.float().flatten(1).mean(1)


def slant(images: Tensor) -> Tensor:
    """The lean (N,) of the strokes in images (N, 1, S, S): the regression of column on row, weighted by ink.

    0 for an upright stroke, 1 for a diagonal that falls to the right, negative for one that leans right as most
    handwriting does. From image moments: covariance(row, column) / variance(row); 0 for an image without ink.
    """
    weight = images.float().squeeze(1)
    weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-8)
    size = weight.shape[-1]
    place = torch.arange(size, dtype=torch.float32, device=images.device)
    rows, columns = weight.sum(2), weight.sum(1)
    row, column = (rows * place).sum(1), (columns * place).sum(1)
    variance = (rows * place.square()).sum(1) - row.square()
    # No matrix product: under autocast that would be in half precision, and the difference is of large numbers.
    together = (weight * place[:, None] * place).sum((1, 2)) - row * column
    return together / variance.clamp_min(1e-6)


def colour_layout(images: Tensor, grid: int = 4) -> Tensor:
    """Images (N, C, S, S) averaged over a `grid` x `grid` of tiles: (N, C * grid * grid)."""
    return F.adaptive_avg_pool2d(images.float(), grid).flatten(1)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two (N,) tensors, or the mean over columns of two (N, D) tensors. A column that does
    not vary has none and counts as 0."""
    a, b = (x.double().reshape(len(x), -1) for x in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    scale = (a.square().sum(0) * b.square().sum(0)).sqrt()
    return float(((a * b).sum(0) / scale.clamp_min(1e-12)).mean())


def centred(values: Tensor, groups: Tensor, classes: int = CLASSES) -> Tensor:
    """`values` (N, ...) less the mean of their group (N,): what is left when the class is taken out."""
    values = values.double()
    sums = torch.zeros(classes, *values.shape[1:], dtype=values.dtype).index_add_(0, groups, values)
    counts = torch.bincount(groups, minlength=classes).clamp_min(1).reshape(-1, *[1] * (values.ndim - 1))
    return values - (sums / counts)[groups]


def survival(before: Tensor, after: Tensor, labels: Tensor, asked: Tensor, seed: int = 0) -> dict[str, float]:
    """How much of a feature (M,) or (M, D) outlives the swap: its correlation between inputs and outputs.

    `correlation` is over all pairs as they are; `within_class` is after each label's mean has been taken out of the
    inputs and each asked label's out of the outputs, since a 1 has less ink than a 0 in anybody's hand; `shuffled` and
    `shuffled_within_class` are the same with the inputs in random order, and should be near 0.
    """
    order = torch.randperm(len(before), generator=torch.Generator().manual_seed(seed))
    inside, outside = centred(before, labels), centred(after, asked)
    return {
        "correlation": correlation(before, after),
        "shuffled": correlation(before[order], after),
        "within_class": correlation(inside, outside),
        "shuffled_within_class": correlation(inside[order], outside),
    }


def require_judge(accuracy: float, count: int) -> None:
    """Raises an InputError unless `accuracy` on `count` test images is clearly better than chance.

    Clearly: above twice chance, and above chance by four standard errors.
    """
    chance = 1 / CLASSES
    least = max(2 * chance, chance + 4 * math.sqrt(chance * (1 - chance) / max(count, 1)))
    if not accuracy > least:
        raise InputError(
            f"the judge reads {accuracy:.1%} of {count} test images correctly, no better than chance ({chance:.0%}): "
            "train it longer before scoring with it"
        )


class SwapScores:
    """Draws every image it is given under all ten labels and keeps count of what the judge reads.

    Args:
        judge: a classifier that took no part in training, in evaluation mode.
        frozen: the CNN of the label loss, for its accuracy and its loss.
    """

    def __init__(self, judge: nn.Module, frozen: nn.Module):
        self.judge, self.frozen = judge, frozen

    def reset(self, device: torch.device) -> None:
        """Forgets everything and moves the judge to `device`."""
        self.judge.to(device)
        self.rows: dict[str, list[Tensor]] = {}
        self.noise = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def update(self, vae: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Adds a batch: `images`, float (N, C, S, S) in [0, 1], and `labels`, int64 (N,)."""
        count = len(images)
        mu, logvar = vae.encode(images, labels)
        asked = torch.arange(CLASSES, device=labels.device).repeat_interleave(count)
        drawings = vae.decode(mu.repeat(CLASSES, 1), asked)
        own = drawings.unflatten(0, (CLASSES, count))[labels, torch.arange(count, device=labels.device)]
        kl = kl_divergence(mu, logvar)
        # The bound on the cost is for codes as the posterior scatters them, not for its mean.
        noise = torch.randn(mu.shape, generator=self.noise).to(mu)
        scattered = vae.decode(mu + noise * torch.exp(0.5 * logvar), labels)
        cost = gaussian_nll(scattered, images, vae.log_sigma) + kl
        bits = cost / (images[0].numel() * math.log(2)) + math.log2(255)
        row = {"label": labels, "mse": (own - images).square().flatten(1).mean(1), "kl": kl, "bits_per_dim": bits}
        row["real"], row["real_blurred"] = self.read(images), self.read(gaussian_blur(images, BLUR_SIGMA))
        row["classified"] = self.frozen(images).argmax(1)

        def by_image(values: Tensor) -> Tensor:
            return values.unflatten(0, (CLASSES, count)).transpose(0, 1)

        row["sharp"] = by_image(self.read(drawings))
        row["blurred"] = by_image(self.read(gaussian_blur(drawings, BLUR_SIGMA)))
        opinion = self.frozen(drawings)
        row["frozen"], row["label_loss"] = by_image(opinion.argmax(1)), by_image(label_loss(opinion, asked))
        for name, measure in features(images).items():
            row[f"before {name}"], row[f"after {name}"] = measure(images), by_image(measure(drawings))
        for name, values in row.items():
            self.rows.setdefault(name, []).append(values.cpu())

    def read(self, images: Tensor) -> Tensor:
        """The judge's verdicts, int64 (N,)."""
        return self.judge(images.contiguous(memory_format=torch.channels_last)).argmax(1)

    def compute(self) -> dict:
        """The scores over everything it was given, plain numbers and lists, in the form of a record's `test`.

        `swap_agreement` counts all nine wrong labels of every image (`swap_agreement_frozen` what the frozen CNN reads:
        where that is higher, it is being fooled); `swap_matrix[i][j]` is the share of images of
        class i that the judge reads as j when j was asked (on the diagonal: under their own label). `mse` is the mean
        over pixels, `psnr` is 10 log10(1 / mse) averaged over images, both under the posterior's mean; `kl` is in nats
        per image. `bits_per_dim` bounds the cost of the 8-bit image from above: (negative log-likelihood under a code
        drawn from the posterior + KL) / (D ln 2) + log2 255. `survives` is what `survival` says of each feature.

        Raises:
            InputError: the judge is no better than chance on these images.
        """
        shares = gather({name: torch.cat(parts) for name, parts in self.rows.items()})
        rows = {name: torch.cat([share[name] for share in shares]) for name in shares[0]}
        labels, every = rows["label"], torch.arange(CLASSES)
        judged = mean(rows["real"] == labels)
        require_judge(judged, len(labels))
        wrong = labels[:, None] != every
        hit, hit_blurred = rows["sharp"] == every, rows["blurred"] == every
        counts = torch.bincount(labels, minlength=CLASSES).clamp_min(1)
        matrix = torch.zeros(CLASSES, CLASSES).index_add_(0, labels, hit.float()) / counts[:, None]
        image, asked = wrong.nonzero(as_tuple=True)
        names = [name.removeprefix("before ") for name in rows if name.startswith("before ")]
        return {
            "bits_per_dim": mean(rows["bits_per_dim"]),
            "mse": mean(rows["mse"]),
            "psnr": mean(-10 * rows["mse"].clamp_min(1e-10).log10()),
            "kl": mean(rows["kl"]),
            "label_loss": mean(rows["label_loss"]),
            "swap_agreement": mean(hit[wrong]),
            "swap_agreement_blurred": mean(hit_blurred[wrong]),
            "swap_agreement_frozen": mean((rows["frozen"] == every)[wrong]),
            "same_label_agreement": mean(hit[~wrong]),
            "same_label_agreement_blurred": mean(hit_blurred[~wrong]),
            "swap_matrix": [[round(value, 4) for value in line] for line in matrix.tolist()],
            "survives": {
                name: survival(rows[f"before {name}"][image], rows[f"after {name}"][image, asked], labels[image], asked)
                for name in names
            },
            "classifier_accuracy": mean(rows["classified"] == labels),
            "judge_accuracy": judged,
            "judge_accuracy_blurred": mean(rows["real_blurred"] == labels),
        }


def features(images: Tensor) -> dict:
    """What may survive a swap: slant and ink of grey images, the colour layout of others."""
    return {"slant": slant, "ink": ink} if images.shape[1] == 1 else {"colour_layout": colour_layout}


def mean(values: Tensor) -> float:
    return values.double().mean().item()
