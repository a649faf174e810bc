"""The conditional VAE under Lightning: the objective, its weights, and the frozen CNN it asks for an opinion."""

import contextlib
from collections.abc import Iterator, Sequence

import lightning as L
import torch
from torch import Tensor, nn

from s18_utils.cvae.classifiers import build_classifier, freeze
from s18_utils.cvae.losses import code_nll, gaussian_nll, kl_divergence, label_loss, mismatched_labels
from s18_utils.cvae.networks import ConditionalVAE, LatentAugmentation
from s18_utils.cvae.swap import SwapScores, require_judge
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.data.batches import Batch
from s18_utils.errors import InputError


class Disturbance(nn.Module):
    """What happens to a drawing before the frozen CNN reads it: shifted, blurred, and noise added, all at random.

    A texture that fools the CNN needs every pixel in its place; a stroke does not. So disturbing the drawing costs the
    texture its effect and leaves the stroke, and the gradient that reaches the decoder asks for strokes. Shifts and
    blur are drawn once for each of `groups` parts of a batch, which keeps the step cheap. In evaluation mode images
    pass unchanged.

    Args:
        shift: up to so many pixels each way.
        noise: standard deviation up to this, in units of the pixel range.
        blur: half of the parts get a Gaussian of 0.3 to 0.3 + `blur` pixels; 0 for none.
    """

    def __init__(self, shift: int = 2, noise: float = 0.3, blur: float = 1.0, groups: int = 4):
        super().__init__()
        self.shift, self.noise, self.blur, self.groups = shift, noise, blur, groups

    def forward(self, images: Tensor) -> Tensor:
        if not self.training or not (self.shift or self.noise or self.blur):
            return images
        parts = []
        for part in images.chunk(self.groups):
            if self.blur and torch.rand(()).item() < 0.5:
                part = gaussian_blur(part, 0.3 + self.blur * torch.rand(()).item())
            if self.shift:
                part = part.roll(torch.randint(-self.shift, self.shift + 1, (2,)).tolist(), (2, 3))
            parts.append(part)
        images = torch.cat(parts)
        if self.noise:
            scale = self.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
            images = images + scale * torch.randn_like(images)
        return images.contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; gradients still flow."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


class CVAEModule(L.LightningModule):
    """A `ConditionalVAE` with its objective.

    total = Gaussian negative log-likelihood + `kl_weight` · KL
            + w(t) · (`true_share` · label loss of drawings under the true label + that of drawings under a wrong one)
            + `code_weight` · negative log-likelihood of the code, read back from the drawing under a wrong label

    w(t) is zero for the share `label_start` of the steps, then rises in a straight line to `label_weight` at the share
    `label_full`: a decoder that can't draw yet meets the label loss by texture alone. `true_share` is
    below 1 because a drawing under the true label has the image itself to go by; the label loss would only take it
    away from there. The last term asks that a swapped drawing still shows what the code says of the input; it is left
    out by default, since the code finds ways to be read that please no eye.

    Args:
        image_shape, latent, encoder_widths, decoder_widths, encoder_depth, decoder_depth: as for `ConditionalVAE`.
        classifier, classifier_settings: the frozen CNN, as for `build_classifier`; `attach` brings its weights.
        kl_weight, label_weight, true_share, label_start, label_full, code_weight: as above.
        shift, noise, blur: as for `Disturbance`.
        latent_noise, latent_reach: as for `LatentAugmentation`; it changes codes that are drawn under a wrong label.
        learning_rate, weight_decay: AdamW's, under a one-cycle schedule.
    """

    monitor = ("val_loss", "min")

    def __init__(
        self,
        image_shape: Sequence[int],
        classifier: str,
        classifier_settings: dict | None = None,
        latent: int = 16,
        encoder_widths: Sequence[int] = (32, 64),
        decoder_widths: Sequence[int] = (64, 64, 32),
        encoder_depth: int = 0,
        decoder_depth: int = 0,
        kl_weight: float = 1.0,
        label_weight: float = 100.0,
        true_share: float = 0.2,
        label_start: float = 0.05,
        label_full: float = 0.4,
        code_weight: float = 0.0,
        shift: int = 2,
        noise: float = 0.3,
        blur: float = 1.0,
        latent_noise: float = 0.0,
        latent_reach: float = 0.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-4,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.vae = ConditionalVAE(image_shape, latent, encoder_widths, decoder_widths, encoder_depth, decoder_depth)
        self.frozen = freeze(build_classifier(classifier, **(classifier_settings or {})))
        self.latent_augmentation = LatentAugmentation(latent_noise, latent_reach)
        self.disturbance = Disturbance(shift, noise, blur)
        self.scores: SwapScores | None = None
        self.test_results: dict = {}

    def attach(self, classifier, judge) -> None:
        """Takes the frozen CNN's weights from the record of `classifier`, and the judge from the record of `judge`.

        Raises:
            InputError: a judge no better than chance, or records of other networks.
        """
        require_judge(judge.metrics["test"]["accuracy"], judge.metrics["data"]["test"])
        weights, own = classifier.model().net.state_dict(), self.frozen.state_dict()
        if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
            raise InputError(f"the classifier in {classifier.folder} has another architecture: train it again")
        self.frozen.load_state_dict(weights)
        # Not a submodule: the judge is no part of the model, of its weights or of its optimiser.
        self.scores = SwapScores(freeze(judge.model().net), self.frozen)

    def train(self, mode: bool = True) -> "CVAEModule":
        super().train(mode)
        self.frozen.eval()  # its running statistics stay those of real images
        return self

    @property
    def networks(self) -> list[nn.Module]:
        """What a training step spends its time in."""
        return [self.vae.encoder, self.vae.decoder, self.frozen]

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `ConditionalVAE.forward`."""
        return self.vae(images, labels)

    @torch.no_grad()
    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        """See `ConditionalVAE.reconstruct`."""
        return self.vae.reconstruct(images, labels)

    @torch.no_grad()
    def swap(self, images: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """See `ConditionalVAE.swap`."""
        return self.vae.swap(images, labels, asked)

    @torch.no_grad()
    def imagine(self, labels: Tensor, seed: int = 0) -> Tensor:
        """See `ConditionalVAE.imagine`."""
        return self.vae.imagine(labels, torch.Generator().manual_seed(seed))

    def label_weight_at(self, progress: float) -> float:
        """w(t) at `progress` in [0, 1] of the training steps."""
        h = self.hparams
        climb = (progress - h.label_start) / max(h.label_full - h.label_start, 1e-9)
        return h.label_weight * min(max(climb, 0.0), 1.0)

    def terms(self, images: Tensor, labels: Tensor, label_weight: float) -> dict[str, Tensor]:
        """Every term of the objective as a mean over the batch, in nats per image, and their weighted `loss`."""
        mu, logvar = self.vae.encode(images, labels)
        codes = self.vae.sample(mu, logvar)
        generator = None if self.training else torch.Generator(labels.device).manual_seed(0)
        asked = mismatched_labels(labels, generator)
        # One pass for both, so that the batch statistics cover true and swapped labels alike.
        drawn_under = torch.cat((labels, asked))
        moved = self.latent_augmentation(codes, labels)
        drawings = self.vae.decode(torch.cat((codes, moved)), drawn_under)
        own, swapped = drawings.chunk(2)
        nll = gaussian_nll(own, images, self.vae.log_sigma)
        terms = {"nll": nll.mean(), "kl": kl_divergence(mu, logvar).mean()}
        loss = terms["nll"] + self.hparams.kl_weight * terms["kl"]
        if self.hparams.code_weight > 0:
            with evaluating(self.vae.encoder):  # its statistics stay those of images
                terms["code"] = code_nll(*self.vae.encode(swapped, asked), moved.detach()).mean()
            loss = loss + self.hparams.code_weight * terms["code"]
        if label_weight > 0:
            losses = label_loss(self.frozen(self.disturbance(drawings)), drawn_under)
            terms["label_true"], terms["label_swapped"] = (part.mean() for part in losses.chunk(2))
            loss = loss + label_weight * (self.hparams.true_share * terms["label_true"] + terms["label_swapped"])
        return terms | {"loss": loss}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        weight = self.label_weight_at(self.global_step / int(self.trainer.estimated_stepping_batches))
        terms = self.terms(batch["image"], batch["label"], weight)
        logged = {f"train_{name}": value.detach() for name, value in terms.items()}
        logged["train_sigma"] = self.vae.log_sigma.detach().exp()
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch["label"]), sync_dist=True)
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        terms = self.terms(batch["image"], batch["label"], self.hparams.label_weight)
        logged = {f"val_{name}": value for name, value in terms.items()}
        self.log_dict(logged, batch_size=len(batch["label"]), sync_dist=True)

    def on_test_start(self) -> None:
        if self.scores is None:
            raise InputError("there is no judge to score the swaps: call attach() with its record first")
        self.scores.reset(self.device)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.scores.update(self.vae, batch["image"], batch["label"])

    def on_test_epoch_end(self) -> None:
        self.test_results = self.scores.compute()

    def configure_optimizers(self) -> dict:
        h = self.hparams
        others = [parameter for parameter in self.vae.parameters() if parameter is not self.vae.log_sigma]
        groups = [
            {"params": [parameter for parameter in others if parameter.ndim > 1], "weight_decay": h.weight_decay},
            {"params": [parameter for parameter in others if parameter.ndim == 1], "weight_decay": 0.0},
            # One number that sets the balance of the terms: it has to keep up with the falling error.
            {"params": [self.vae.log_sigma], "weight_decay": 0.0},
        ]
        peaks = [h.learning_rate, h.learning_rate, 5 * h.learning_rate]
        optimiser = torch.optim.AdamW(groups, lr=h.learning_rate, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            peaks,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.15,
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
