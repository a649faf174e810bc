"""The loss terms of the conditional VAE, against torch.distributions and values worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import refused
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from s18_utils.cvae.losses import (
    gaussian_nll,
    kl_divergence,
    label_loss,
    mismatched_labels,
    smoothed_targets,
)


@pytest.mark.parametrize("log_sigma", [-1.3, 0.0, 0.7])
def test_likelihood_is_that_of_a_normal_summed_over_the_image(log_sigma):
    torch.manual_seed(0)
    x, x_hat = torch.rand(2, 5, 3, 4, 4)
    expected = -Normal(x_hat, math.exp(log_sigma)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_nll(x_hat, x, log_sigma), expected)
    torch.testing.assert_close(gaussian_nll(x_hat, x, torch.tensor(log_sigma)), expected)


def test_likelihood_by_hand():
    # One pixel off by 1 at sigma 1: 1/2 + ln √(2π) = 0.5 + 0.918939.
    value = gaussian_nll(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), 0.0)
    assert value.item() == pytest.approx(1.418939, abs=1e-5)
    # Four pixels, all right, at sigma e⁻²: 4 · (−2 + 0.918939); a density may be above 1.
    value = gaussian_nll(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), -2.0)
    assert value.item() == pytest.approx(-4.324246, abs=1e-5)


def test_learned_scale_settles_at_the_root_of_the_mean_squared_error():
    torch.manual_seed(0)
    x, x_hat = torch.rand(2, 8, 1, 6, 6)
    log_sigma = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([log_sigma], lr=0.5, max_iter=100)

    def closure():
        optimiser.zero_grad()
        loss = gaussian_nll(x_hat, x, log_sigma).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert log_sigma.exp().item() == pytest.approx((x - x_hat).square().mean().sqrt().item(), rel=1e-3)


def test_shapes_that_would_broadcast_are_refused():
    with refused("(2, 1, 4, 4) and (1, 1, 4, 4)", "one shape"):
        gaussian_nll(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4), 0.0)


def test_divergence_is_that_of_two_normals():
    torch.manual_seed(0)
    mu, logvar = torch.randn(2, 6, 4)
    expected = reference_kl(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(mu, logvar), expected)
    assert (kl_divergence(3 * mu, 3 * logvar) >= 0).all()


def test_divergence_by_hand():
    # Mean 2, variance 1: 2² / 2. Mean 0, variance e: (e − 1 − 1) / 2.
    value = kl_divergence(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(value, torch.tensor([2.0, (math.e - 2) / 2]))
    assert kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).item() == 0


def test_smoothed_targets_by_hand():
    targets = smoothed_targets(torch.tensor([3]), 10)
    expected = torch.full((1, 10), 0.01)
    expected[0, 3] = 0.91
    torch.testing.assert_close(targets, expected)


def test_label_loss_is_binary_cross_entropy_over_all_labels():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 10), torch.randint(0, 10, (7,))
    expected = F.binary_cross_entropy(logits.softmax(1), smoothed_targets(labels, 10), reduction="none").sum(1)
    torch.testing.assert_close(label_loss(logits, labels), expected)
    torch.testing.assert_close(label_loss(logits + 50, labels), expected)  # a softmax knows no common offset


def test_label_loss_of_an_undecided_classifier_by_hand():
    # Every probability 0.1 and targets that sum to 1: −ln 0.1 − 9 ln 0.9 = 2.302585 + 0.948245.
    assert label_loss(torch.zeros(1, 10), torch.tensor([4])).item() == pytest.approx(3.250830, abs=1e-5)


@pytest.mark.parametrize("certain", [1e2, 1e4])
def test_label_loss_stays_finite_with_a_certain_classifier(certain):
    logits = torch.zeros(2, 10)
    logits[:, 0] = certain
    logits.requires_grad_()
    loss = label_loss(logits, torch.tensor([0, 5]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    assert loss[1] > loss[0]
    assert logits.grad[1, 5] < 0  # still pulled towards the label that was asked


def test_label_loss_is_computed_in_float32_from_half_precision():
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(4)
    assert label_loss(logits, labels).dtype == torch.float32
    torch.testing.assert_close(label_loss(logits, labels), label_loss(logits.float(), labels))


def test_mismatched_labels_are_never_right_and_uniform_over_the_rest():
    labels = torch.arange(10).repeat(9000)
    wrong = mismatched_labels(labels, 10, torch.Generator().manual_seed(0))
    assert wrong.dtype == torch.int64
    assert (wrong != labels).all()
    counts = torch.zeros(10, 10).index_put_((labels, wrong), torch.tensor(1.0), accumulate=True)
    off = counts[~torch.eye(10, dtype=torch.bool)]
    chi_square = ((off - 1000).square() / 1000).sum().item()
    assert 80 - 5 * math.sqrt(160) < chi_square < 80 + 5 * math.sqrt(160)  # 10 rows of 9 cells: 80 degrees of freedom


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_mismatched_labels_among_other_numbers_of_classes(classes):
    labels = torch.arange(classes).repeat(200)
    wrong = mismatched_labels(labels, classes)
    assert (wrong != labels).all()
    assert set(wrong.tolist()) == set(range(classes))


def test_mismatched_labels_repeat_with_their_generator():
    labels = torch.arange(10).repeat(10)
    one, two, other = (mismatched_labels(labels, 10, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert labels.tolist() == list(range(10)) * 10
