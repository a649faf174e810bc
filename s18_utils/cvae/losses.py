"""The terms of the objective, each its own function, each summed per image.

    total = gaussian_nll + kl_weight * kl_divergence
            + label_weight * (true_share * label_loss of true + label_loss of swapped)
            + adversarial_weight * generator_loss (see `discriminator`)

All but the last, a score without a unit, are in nats per image, so that the weights compare like with like. A mean over
pixels beside a sum over code dimensions would silently weigh the KL some hundred times too much, and the posterior
would collapse.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from s18_utils.errors import InputError

SMOOTHING = 0.1  # of the labels that drawings are held against


def gaussian_nll(x_hat: Tensor, x: Tensor, log_sigma: Tensor | float) -> Tensor:
    """-log N(x; x_hat, sigma^2) summed over all pixels of an image: (N, ...) twice to (N,), in nats.

    `log_sigma` is one learned number: the best sigma is the root of the mean squared error, and there the term's weight
    against the KL sets itself (Rybkin, Daniilidis & Levine 2021, "Simple and Effective VAE Training with Calibrated
    Decoders", arXiv:2006.13202). A density, not a probability: with sigma below 0.24 the value turns negative.
    """
    if x_hat.shape != x.shape:
        shapes = f"{tuple(x_hat.shape)} and {tuple(x.shape)}"
        raise InputError(f"drawings and images of shapes {shapes} can't be compared: give both one shape")
    log_sigma = torch.as_tensor(log_sigma, dtype=torch.float32, device=x.device)
    square = (x_hat.float() - x.float()).square() * torch.exp(-2 * log_sigma)
    return (0.5 * square + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) summed over the code: (N, latent) twice to (N,), in nats, never negative."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)


def smoothed_targets(labels: Tensor, classes: int, smoothing: float = SMOOTHING) -> Tensor:
    """One-hot with `smoothing` spread over all classes: labels (N,) to (N, classes); 0.91 and nine 0.01."""
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy between a classifier's probabilities and the smoothed label, summed over all labels: (N,).

    `logits` (N, classes) are the classifier's outputs before the softmax, `labels` (N,) the labels the images were
    *drawn* under, which for a swapped image is not the label of its input. The smallest possible value is the targets'
    own entropy, 0.807 nats for ten classes. Computed from log-softmax in float32; the probability of "not k" is
    bounded below by the float's resolution so that a wrong and certain classifier gives a large number, not infinity.
    """
    log_p = F.log_softmax(logits.float(), 1)
    log_not_p = torch.log((-torch.expm1(log_p)).clamp_min(1e-6))
    targets = smoothed_targets(labels, logits.shape[1])
    return -(targets * log_p + (1 - targets) * log_not_p).sum(1)


def mismatched_labels(labels: Tensor, classes: int, generator: torch.Generator | None = None) -> Tensor:
    """For each label (N,) another one, uniform over those that it is not.

    Draws an offset 1 to `classes` − 1 and adds it modulo `classes`. `generator` must live on the labels' device.
    """
    offset = torch.randint(1, classes, labels.shape, generator=generator, device=labels.device, dtype=labels.dtype)
    return (labels + offset) % classes
