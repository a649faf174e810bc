"""The label swap, scored by judges that took no part in training.

Every test image is drawn under every label. Under a wrong one all judges should read the label that was asked; under
the right one the true label. Agreement alone can be had by drawing one picture a class, so beside it stand what of
the input survives (`survival`), how real and how varied the drawings of a class are (`variety`), and the same scores of
held-aside real images, of a template painter and of the nearest neighbour of the asked class.

Where several processes share a run, each scores all images by itself, and all come to the same numbers.
"""

import math

import torch
from torch import Tensor, nn

from s18_utils.cvae.checks import check_feature_layer, check_judge
from s18_utils.cvae.losses import gaussian_nll, kl_divergence, label_loss
from s18_utils.cvae.survival import measures_of, survival
from s18_utils.cvae.variety import NEIGHBOURS, mean, pick_images, read_images, sample_sizes, score_variety
from s18_utils.data.augmentation import gaussian_blur
from s18_utils.device import autocast, device
from s18_utils.errors import InputError
from s18_utils.experiments import NETWORKS
from s18_utils.report.progress import display_message

DRAWN = 500  # drawings at once; many more no longer fit a CPU's cache
BLUR_SIGMA = 0.75  # pixels: enough to erase a texture of single pixels, not a stroke
ROLES = tuple(NETWORKS)[1:]  # the first is the frozen CNN


def score_swaps(module: nn.Module, data) -> dict:
    """The scores of a conditional VAE on a whole test split, plain numbers and lists, in the form of a record's `test`.

    Args:
        module: a `CVAEModule` with its judges attached.
        data: the `StoreData` it was trained on.

    Returns:
        A swap or a drawing under the true label *agrees* if all judges read what was asked.

        - `swap_agreement`: over all wrong labels of every image; `same_label_agreement`: under the true one;
          `…_blurred`: as the first judge reads them blurred; `swap_agreement_frozen`: as the frozen CNN reads them
          (where that is higher, it is being fooled);
        - `swap_matrix[i][j]`: the share of images of class i that agree when j was asked;
        - `judges`: by role, each judge's own agreement, its accuracy on the test images, and its own `variety`;
        - `variety`: of `real` (held aside), `swapped`, `true_label`, `template` and `nearest`: their agreement and
          `variety.SCORES`, means over judges and classes, and `by_class`; left out where a class has too few images;
        - `mse`, `psnr`: mean over pixels, and 10 log10(1 / mse) averaged over images, under the posterior's mean; `kl`
          in nats per image; `bits_per_dim`: bounds the cost of the 8-bit image from above, (negative log-likelihood
          under a code drawn from the posterior + KL) / (D ln 2) + log2 255;
        - `survives`: what `survival` says of each measure; `label_loss`, `classifier_accuracy`: the frozen CNN's;
          `judge_accuracy`: the first judge's; `real_agreement`: of all judges on the test images themselves.

    Raises:
        InputError: no judge, one without a feature layer, or one no better than chance.
    """
    judges = module.judges
    if not judges:
        raise InputError("there is no judge to score the swaps: give attach() trained judges first")
    for judge in judges:
        check_feature_layer(judge)
    training, place = module.training, device()
    for net in (module.eval(), *judges):
        net.to(place)
    try:
        with torch.no_grad(), autocast():
            rows, noise = [], torch.Generator().manual_seed(0)
            for part in torch.arange(len(data.test)).split(max(1, DRAWN // len(module.classes))):
                rows.append(read_drawings(module, *pick_images(data.test, part, module.device), noise))
            scores = count_agreement({name: torch.cat([row[name] for row in rows]) for name in rows[0]}, len(judges))
            few = [
                name
                for name, size in zip(module.classes, sample_sizes(module, data), strict=True)
                if size <= NEIGHBOURS
            ]
            if few:
                display_message(
                    f"Precision, recall, density and coverage are not scored: of class {few[0]} there are fewer than "
                    f"{NEIGHBOURS + 1} test images, or of all others together, or fewer than {2 * NEIGHBOURS + 2} "
                    "training images.",
                    warning=True,
                )
                return scores
            names = {"real": "real_agreement", "swapped": "swap_agreement", "true_label": "same_label_agreement"}
            scores["variety"], own = score_variety(module, data, {key: scores[name] for key, name in names.items()})
            for role, variety in zip(scores["judges"].values(), own, strict=True):
                role["variety"] = variety
            return scores
    finally:
        module.train(training).cpu()
        for judge in judges:
            judge.cpu()


def read_drawings(module: nn.Module, images: Tensor, labels: Tensor, noise: torch.Generator) -> dict[str, Tensor]:
    """What networks and measures say of a batch, and of it drawn under all K labels: rows (N,), (N, K) or (N, K, D)."""
    vae, judges = module.vae, module.judges
    count, classes = len(images), len(module.classes)
    mu, logvar = vae.encoder(images, labels)
    asked = torch.arange(classes, device=labels.device).repeat_interleave(count)
    drawings = vae.decoder(mu.repeat(classes, 1), asked)
    own = drawings.unflatten(0, (classes, count))[labels, torch.arange(count, device=labels.device)]
    kl = kl_divergence(mu, logvar)
    # The bound on the cost is for codes as the posterior scatters them, not for its mean.
    scattered = vae.decoder(mu + torch.randn(mu.shape, generator=noise).to(mu) * torch.exp(0.5 * logvar), labels)
    cost = gaussian_nll(scattered, images, vae.log_sigma) + kl

    def by_image(values: Tensor) -> Tensor:
        return values.unflatten(0, (classes, count)).transpose(0, 1)

    row = {"label": labels, "mse": (own - images).square().flatten(1).mean(1), "kl": kl}
    row["bits_per_dim"] = cost / (images[0].numel() * math.log(2)) + math.log2(255)
    for number, judge in enumerate(judges):
        row[f"real {number}"], row[f"drawn {number}"] = (
            read_images(judge, images),
            by_image(read_images(judge, drawings)),
        )
    row["real blurred"] = read_images(judges[0], gaussian_blur(images, BLUR_SIGMA))
    row["drawn blurred"] = by_image(read_images(judges[0], gaussian_blur(drawings, BLUR_SIGMA)))
    opinion = module.frozen(drawings)
    row["classified"], row["frozen"] = read_images(module.frozen, images), by_image(opinion.argmax(1))
    row["label_loss"] = by_image(label_loss(opinion, asked))
    for name, measure in measures_of(images).items():
        row[f"before {name}"], row[f"after {name}"] = measure(images), by_image(measure(drawings))
    return {name: values.cpu() for name, values in row.items()}


def count_agreement(rows: dict[str, Tensor], judges: int) -> dict:
    """The scores of `score_swaps` but for variety, from the rows of `read_drawings`."""
    labels, classes = rows["label"], rows["frozen"].shape[1]
    every = torch.arange(classes)
    wrong = labels[:, None] != every
    hits, right, by_role = [], [], {}
    for number, role in enumerate(ROLES[:judges]):
        hits.append(rows[f"drawn {number}"] == every)
        right.append(rows[f"real {number}"] == labels)
        check_judge(mean(right[-1]), len(labels), classes, role.replace("_", " "))
        agreement = {"swap_agreement": mean(hits[-1][wrong]), "same_label_agreement": mean(hits[-1][~wrong])}
        by_role[role] = {"accuracy": mean(right[-1])} | agreement
    hit, blurred = torch.stack(hits).all(0), rows["drawn blurred"] == every
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    matrix = torch.zeros(classes, classes).index_add_(0, labels, hit.float()) / counts[:, None]
    image, asked = wrong.nonzero(as_tuple=True)
    names = [name.removeprefix("before ") for name in rows if name.startswith("before ")]
    return {
        **{name: mean(rows[name]) for name in ("bits_per_dim", "mse", "kl", "label_loss")},
        "psnr": mean(-10 * rows["mse"].clamp_min(1e-10).log10()),
        "swap_agreement": mean(hit[wrong]),
        "swap_agreement_blurred": mean(blurred[wrong]),
        "swap_agreement_frozen": mean((rows["frozen"] == every)[wrong]),
        "same_label_agreement": mean(hit[~wrong]),
        "same_label_agreement_blurred": mean(blurred[~wrong]),
        "real_agreement": mean(torch.stack(right).all(0)),
        "swap_matrix": [[round(value, 4) for value in line] for line in matrix.tolist()],
        "survives": {
            name: survival(
                rows[f"before {name}"][image], rows[f"after {name}"][image, asked], labels[image], asked, classes
            )
            for name in names
        },
        "classifier_accuracy": mean(rows["classified"] == labels),
        "judge_accuracy": by_role[ROLES[0]]["accuracy"],
        "judge_accuracy_blurred": mean(rows["real blurred"] == labels),
        "judges": by_role,
    }
