"""The conditional VAE under Lightning: the objective, its weights, and the frozen CNN it asks for an opinion."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import islice

import lightning as L
import torch
from torch import Tensor, nn

from s18_utils.cvae.checks import (
    check_asked,
    check_batch,
    check_codes,
    check_evaluating,
    check_feature_layer,
    check_images,
    check_labels,
    check_widths,
)
from s18_utils.cvae.classifiers import build_classifier, freeze
from s18_utils.cvae.discriminator import DEPTHS, Discriminator, discriminator_loss, generator_loss
from s18_utils.cvae.losses import gaussian_nll, kl_divergence, label_loss, mismatched_labels
from s18_utils.cvae.networks import ConditionalVAE, LatentAugmentation
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.data.store import Batch
from s18_utils.errors import InputError
from s18_utils.settings import NetworkSettings


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
        groups: parts of a batch that are shifted and blurred as one.
    """

    def __init__(self, shift: int, noise: float, blur: float, groups: int = 4):
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
def held_fixed(net: nn.Module) -> Iterator[None]:
    """What is computed with the network meanwhile sends gradients to its input and none to its parameters."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


class CVAEModule(L.LightningModule):
    """A `ConditionalVAE` with its objective.

    total = Gaussian negative log-likelihood + `kl_weight` · KL
            + w(t) · `label_weight` · (`true_share` · label loss under the true label + label loss under a wrong one)
            − w(t) · `adversarial_weight` · a `discriminator`'s score of drawings under both labels

    w(t) is zero for the share `label_start` of the steps, then rises in a straight line to 1 at the share `label_full`.
    With `label_cap` a drawing gains nothing by being easier to read than half of the real images are. The discriminator
    learns beside the model, in the same steps. Drawings are scored by `judging.score_swaps`, with the networks that
    `attach` brings.

    Args:
        latent, encoder_widths, decoder_widths, embedding, squeeze, label_maps: as for `ConditionalVAE`.
        kl_weight, label_weight, true_share, label_cap, label_start, label_full, adversarial_weight: as above.
        discriminator_width, discriminator_rate: channels of its layers, and its peak learning rate.
        disturb_shift, disturb_noise, disturb_blur: as for `Disturbance`.
        latent_noise, latent_reach: as for `LatentAugmentation`; it changes codes that are drawn under a wrong label.
        learning_rate, weight_decay: AdamW's, under a one-cycle schedule.
        classifier: the frozen CNN's network; `attach` brings its weights.
        classes: their names, in the order of their numbers.
        channels, size: of the images, (N, channels, size, size).

    Raises:
        InputError: widths that do not fit each other or the images, or fewer than two classes.
    """

    monitor = ("val_loss", "min")

    def __init__(
        self,
        latent: int,
        encoder_widths: Sequence[int],
        decoder_widths: Sequence[int],
        embedding: int,
        squeeze: int,
        label_maps: int,
        kl_weight: float,
        label_weight: float,
        true_share: float,
        label_cap: bool,
        label_start: float,
        label_full: float,
        adversarial_weight: float,
        discriminator_width: int,
        discriminator_rate: float,
        disturb_shift: int,
        disturb_noise: float,
        disturb_blur: float,
        latent_noise: float,
        latent_reach: float,
        learning_rate: float,
        weight_decay: float,
        classifier: NetworkSettings,
        *,
        classes: Sequence[str],
        channels: int,
        size: int,
    ):
        super().__init__()
        check_widths(size, encoder_widths, decoder_widths, label_maps)
        if len(classes) < 2:
            raise InputError(f"a label can't be swapped among {len(classes)} classes: use data of at least 2")
        self.save_hyperparameters(ignore="classifier")
        self.classes, self.latent, self.image_shape = tuple(classes), latent, (channels, size, size)
        of_data = {"classes": len(classes), "channels": channels, "size": size}
        self.vae = ConditionalVAE(
            **of_data,
            latent=latent,
            encoder_widths=encoder_widths,
            decoder_widths=decoder_widths,
            embedding=embedding,
            squeeze=squeeze,
            label_maps=label_maps,
        )
        self.frozen = freeze(build_classifier(classifier.net, classifier.net_settings, **of_data))
        self.discriminator = None
        if adversarial_weight > 0:
            with torch.no_grad():
                maps = list(islice(self.frozen.maps_of(torch.zeros(1, channels, size, size)), DEPTHS))
            if not maps:
                raise InputError(
                    f"{classifier.net} shows a discriminator nothing to read: use DigitNet or ObjectNet as the frozen "
                    "CNN, or adversarial_weight=0"
                )
            depths = [(each.shape[1], each.shape[2]) for each in maps]
            self.discriminator = Discriminator(depths, discriminator_width, len(classes))
        self.latent_augmentation = LatentAugmentation(latent_noise, latent_reach)
        self.disturbance = Disturbance(disturb_shift, disturb_noise, disturb_blur)
        self.judges: list[nn.Module] = []  # no submodules: no part of the model, its weights or its optimiser

    def attach(self, classifier: nn.Module | None = None, judges: Sequence[nn.Module] = ()) -> None:
        """Takes the frozen CNN's weights from a trained network, and judges to score the drawings with.

        Raises:
            InputError: a classifier of another architecture, or a judge without a feature layer.
        """
        for judge in judges:
            check_feature_layer(judge)
        if classifier is not None:
            weights, own = classifier.state_dict(), self.frozen.state_dict()
            if {name: v.shape for name, v in weights.items()} != {name: v.shape for name, v in own.items()}:
                raise InputError(
                    f"the classifier given, {type(classifier).__name__}, has another architecture than the frozen CNN: "
                    "train it again"
                )
            self.frozen.load_state_dict(weights)
        self.judges = [freeze(judge) for judge in judges] or self.judges

    def train(self, mode: bool = True) -> "CVAEModule":
        super().train(mode)
        self.frozen.eval()  # its running statistics stay those of real images
        return self

    # The doors: they check what they are given, draw without gradients, and give images in (0, 1).

    @torch.no_grad()
    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """`mu, logvar` (N, latent) of the posterior of images, float (N, C, S, S) in [0, 1], with labels (N,)."""
        self.check_pairs(images, labels)
        check_evaluating(self.training)
        return self.vae.encoder(images.contiguous(memory_format=torch.channels_last), labels.long())

    @torch.no_grad()
    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Codes (N, latent) drawn under labels (N,), or under mixtures of labels, float (N, classes)."""
        check_codes(codes, self.latent)
        check_asked(labels, len(codes), len(self.classes))
        check_evaluating(self.training)
        return self.vae.decoder(codes, labels.to(codes) if labels.is_floating_point() else labels.long())

    def swap(self, images: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """Images coded under `labels` and drawn under `asked`, labels or mixtures of labels."""
        return self.decode(self.vae.sample(*self.encode(images, labels)), asked)

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images drawn again under their own labels."""
        return self.swap(images, labels, labels)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `ConditionalVAE.forward`."""
        self.check_pairs(images, labels)
        return self.vae(images, labels.long())

    def check_pairs(self, images: Tensor, labels: Tensor) -> None:
        """Raises an InputError unless these are images and labels that the encoder takes."""
        check_images(images, self.image_shape)
        check_labels(labels, len(images), len(self.classes))
        check_batch(images, self.training)

    # The objective.

    def ramp_at(self, progress: float) -> float:
        """The share of their weights that the label loss and the discriminator have at `progress` in [0, 1] of the
        training steps."""
        h = self.hparams
        climb = (progress - h.label_start) / max(h.label_full - h.label_start, 1e-9)
        return min(max(climb, 0.0), 1.0)

    def terms(self, images: Tensor, labels: Tensor, ramp: float = 1.0) -> dict[str, Tensor]:
        """The terms of the objective as means over the batch, in nats per image but for the discriminator's score,
        which has no unit; their weighted `loss`; and the discriminator's own loss, which is no part of it."""
        self.check_pairs(images, labels)
        h = self.hparams
        mu, logvar = self.vae.encoder(images, labels)
        codes = self.vae.sample(mu, logvar)
        generator = None if self.training else torch.Generator(labels.device).manual_seed(0)
        asked = mismatched_labels(labels, len(self.classes), generator)
        # One pass for both, so that the batch statistics cover true and swapped labels alike.
        drawn_under = torch.cat((labels, asked))
        drawings = self.vae.decoder(torch.cat((codes, self.latent_augmentation(codes, labels))), drawn_under)
        nll = gaussian_nll(drawings[: len(images)], images, self.vae.log_sigma)
        terms = {"nll": nll.mean(), "kl": kl_divergence(mu, logvar).mean()}
        loss = terms["nll"] + h.kl_weight * terms["kl"]
        if ramp * h.label_weight > 0:
            # Drawings and images are disturbed alike, so that one can be held against the other.
            own, swapped, real = self.disturbance(torch.cat((*drawings.chunk(2), images), 1)).chunk(3, 1)
            losses = label_loss(self.frozen(torch.cat((own, swapped))), drawn_under)
            terms["label_true"], terms["label_swapped"] = (part.mean() for part in losses.chunk(2))
            if h.label_cap:
                with torch.no_grad():
                    enough = label_loss(self.frozen(real), labels).median()  # a mean follows those it can't read
                losses = losses.clamp_min(enough)
            under_true, under_wrong = (part.mean() for part in losses.chunk(2))
            loss = loss + ramp * h.label_weight * (h.true_share * under_true + under_wrong)
        if ramp > 0 and self.discriminator is not None and self.training:
            # Undisturbed, so that nothing faint can hide; not in validation, as what moves is no measure of an epoch.
            with held_fixed(self.discriminator):
                terms["adversarial"] = generator_loss(self.discriminate(drawings, drawn_under)).mean()
            loss = loss + ramp * h.adversarial_weight * terms["adversarial"]
            # No part of what is minimised: the discriminator's own loss, on its own parameters.
            scores = self.discriminate(images, labels), self.discriminate(drawings.detach(), drawn_under)
            terms["discriminator"] = discriminator_loss(*scores)
        return terms | {"loss": loss}

    def discriminate(self, images: Tensor, labels: Tensor) -> Tensor:
        """How real images (N, C, S, S) are as such of their labels (N,): (N, depths)."""
        return self.discriminator(list(islice(self.frozen.maps_of(images), DEPTHS)), labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        ramp = self.ramp_at(self.global_step / int(self.trainer.estimated_stepping_batches))
        terms = self.terms(batch["image"], batch["label"], ramp)
        logged = {f"train_{name}": value.detach() for name, value in terms.items()}
        logged["train_sigma"] = self.vae.log_sigma.detach().exp()
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch["label"]), sync_dist=True)
        loss = terms["loss"] + terms.get("discriminator", 0.0)
        if self.discriminator is not None and "discriminator" not in terms and self.trainer.world_size > 1:
            # Processes that share a run wait for the gradient of every parameter.
            loss = loss + 0.0 * sum(parameter.sum() for parameter in self.discriminator.parameters())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        terms = self.terms(batch["image"], batch["label"])
        logged = {f"val_{name}": value for name, value in terms.items()}
        self.log_dict(logged, batch_size=len(batch["label"]), sync_dist=True)

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
        if self.discriminator is not None:  # less momentum: what it has to tell apart moves
            groups.append({"params": list(self.discriminator.parameters()), "weight_decay": 0.0, "betas": (0.5, 0.99)})
            peaks.append(h.discriminator_rate)
        optimiser = torch.optim.AdamW(groups, lr=h.learning_rate, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            peaks,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.15,
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
