"""How real and how varied drawings of a class are, and two ways of winning that any model has to be held against.

Drawings and real images of one class are two clouds of points in a judge's feature layer. Round each point lies the
ball that reaches to its k-th nearest neighbour of the same cloud.

- *precision* (Kynkäänniemi et al. 2019, arXiv:1904.06991): the share of drawings that lie in a real image's ball;
- *recall* (the same): the share of real images that lie in a drawing's ball;
- *density* (Naeem et al. 2020, arXiv:2002.09797): how many real images' balls a drawing lies in, divided by k; above 1
  where drawings crowd where real images are dense;
- *coverage* (the same): the share of real images with a drawing in their ball. One picture drawn over and over lies in
  at most a few, whatever it looks like.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.cvae.survival import TILES
from s18_utils.data.store import to_floats
from s18_utils.errors import InputError

NEIGHBOURS = 5  # k
SCORES = ("precision", "recall", "density", "coverage")
SAMPLE = 800  # drawings and real images of a class, at most: about a minute in all on two cores
# Whose pictures are measured: real images held aside (the ceiling), the model's drawings, and the two controls.
PAINTERS = ("real", "swapped", "true_label", "template", "nearest")
PASTED = (0.5, 0.75, 1.0)  # how much of the input's layout the template painter tries to paste …
TRIED = 100  # … on so many pictures of a class
CHUNK = 250  # pictures that a network is given at once


def measure_variety(real: Tensor, drawn: Tensor, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """`SCORES` of drawings (M, F) against real images (N, F) of the same class, both in a judge's feature layer.

    Raises:
        InputError: no more points in a cloud than neighbours.
    """
    if min(len(real), len(drawn)) <= neighbours:
        raise InputError(
            f"{len(drawn)} drawings and {len(real)} real images of a class have no {neighbours} neighbours each: "
            f"use at least {neighbours + 1} of both"
        )
    real, drawn = real.cpu().double(), drawn.cpu().double()  # in which a matrix product loses nothing that counts
    apart = torch.cdist(real, drawn)
    in_real = apart <= reach(real, neighbours)[:, None]
    in_drawn = apart <= reach(drawn, neighbours)
    scores = (in_real.any(0), in_drawn.any(1), in_real.sum(0) / neighbours, in_real.any(1))
    return {name: mean(values) for name, values in zip(SCORES, scores, strict=True)}


def reach(cloud: Tensor, neighbours: int) -> Tensor:
    """The distance (N,) of each point of a cloud (N, F) to its k-th nearest neighbour there, itself not counted."""
    return torch.cdist(cloud, cloud).kthvalue(neighbours + 1).values


def paint_template(template: Tensor, images: Tensor, pasted: float) -> Tensor:
    """The *template painter*: one picture (C, S, S), its layout of 4 × 4 tiles exchanged for that of each image
    (N, C, S, S).

    Args:
        pasted: how much of the layout is exchanged, 0 to 1.
    """
    exchange = F.adaptive_avg_pool2d(images, TILES) - F.adaptive_avg_pool2d(template, TILES)
    exchange = F.interpolate(exchange, images.shape[-2:], mode="bilinear", align_corners=False)
    return (template + pasted * exchange).clamp(0, 1)


def find_nearest(images: Tensor, pool: Tensor) -> Tensor:
    """The *nearest neighbour*: for each image (N, C, S, S) the one of `pool` (M, C, S, S) that differs least from it,
    by squared error over pixels."""
    return pool[torch.cdist(images.flatten(1), pool.flatten(1)).argmin(1)]


def score_variety(module: nn.Module, data, agreement: dict[str, float]) -> tuple[dict, list[dict]]:
    """The agreement and the `SCORES` of all `PAINTERS`, and each judge's own `SCORES`.

    All painters go through the same lines: what tells them apart is their pictures.

    Args:
        module: a `CVAEModule` in evaluation mode with its judges, all on one device.
        data: its `StoreData`.
        agreement: by painter, where that of all their pictures is known; of the others it is that of the sample.

    Returns:
        By painter: `agreement`; `SCORES`, means over classes and judges; `by_class`, a list for each of them. And for
        each judge its means over classes, by painter.
    """
    values, agreed = [], {name: [] for name in PAINTERS if name not in agreement}
    for c, size in enumerate(sample_sizes(module, data)):
        pictures = sample_pictures(module, data, c, size)
        pictures["template"] = paint_best(module.judges, pictures["swapped"], pictures["input"], c)
        values.append([measure_painters(judge, pictures) for judge in module.judges])
        for name, shares in agreed.items():
            shares.append(measure_agreement(module.judges, pictures[name], c))
    values = torch.tensor(values, dtype=torch.float64)  # (classes, judges, painters, scores)
    by_class, by_judge = values.mean(1), values.mean(0)
    agreement = agreement | {name: sum(shares) / len(shares) for name, shares in agreed.items()}
    variety = {
        name: {"agreement": agreement[name], **name_scores(by_judge[:, number].mean(0))}
        | {"by_class": {score: by_class[:, number, i].round(decimals=4).tolist() for i, score in enumerate(SCORES)}}
        for number, name in enumerate(PAINTERS)
    }
    return variety, [{name: name_scores(own[i]) for i, name in enumerate(PAINTERS)} for own in by_judge]


def measure_painters(judge: nn.Module, pictures: dict[str, Tensor]) -> list[list[float]]:
    """For each painter its `SCORES` against the real images of a class, in a judge's feature layer."""
    clouds = {
        name: torch.cat([judge.features_of(part).float() for part in pictures[name].split(CHUNK)])
        for name in ("reference", *PAINTERS)
    }
    return [list(measure_variety(clouds["reference"], clouds[name]).values()) for name in PAINTERS]


def measure_agreement(judges: list[nn.Module], pictures: Tensor, label: int) -> float:
    """The share of pictures (N, C, S, S) in which all judges read the label."""
    parts = pictures.split(CHUNK)
    return mean(
        torch.cat([torch.stack([read_images(judge, part) == label for judge in judges]).all(0) for part in parts])
    )


def paint_best(judges: list[nn.Module], drawings: Tensor, images: Tensor, label: int) -> Tensor:
    """What the template painter makes of `images`, at its best over how much of their layout it pastes.

    Its template is the mean of the model's own drawings (N, C, S, S) of the label.
    """
    template = drawings.mean(0)

    def agreement(pasted: float) -> float:
        return measure_agreement(judges, paint_template(template, images[:TRIED], pasted), label)

    return paint_template(template, images, max(PASTED, key=agreement))


def sample_sizes(module: nn.Module, data) -> list[int]:
    """How many pictures of each class every painter shows, and how many real images they are held against.

    At most half of a class's training images stand for the real ones: a nearest neighbour is to be none of them.
    """
    train, test = (torch.bincount(split.labels, minlength=len(module.classes)) for split in (data.train, data.test))
    return torch.stack([train // 2, test, test.sum() - test]).amin(0).clamp_max(SAMPLE).tolist()


def sample_pictures(module: nn.Module, data, label: int, count: int) -> dict[str, Tensor]:
    """`count` real training images of a class as `reference`, and what is held against them, (N, C, S, S) in [0, 1].

    `real`: test images of the class; `true_label`: the same drawn under it; `input`: test images of other classes;
    `swapped`: these drawn under the class; `nearest`: the training image of the class, none of the reference, that is
    nearest to each of them. The same images in every run.
    """
    train, test = data.train.labels, data.test.labels
    own, held, others = (shuffle_rows(where, label) for where in (train == label, test == label, test != label))
    reference, _ = pick_images(data.train, own[:count], module.device)
    pool, _ = pick_images(data.train, own[count:], module.device)
    real, labels = pick_images(data.test, held[:count], module.device)
    images, wrong = pick_images(data.test, others[:count], module.device)
    return {
        "reference": reference,
        "real": real,
        "true_label": module.reconstruct(real, labels),
        "input": images,
        "swapped": module.swap(images, wrong, torch.full_like(wrong, label)),
        "nearest": find_nearest(images, pool),
    }


def shuffle_rows(where: Tensor, seed: int) -> Tensor:
    """The numbers of the rows that are True, in a random order."""
    rows = where.nonzero().squeeze(1)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]


def pick_images(split, rows: Tensor, place: torch.device) -> tuple[Tensor, Tensor]:
    """Images, float (N, C, S, S) in [0, 1], and labels, int64 (N,), of some rows of a `Subset`, on a device."""
    batch = to_floats({name: values.to(place) for name, values in split.take(rows).items()})
    return batch["image"].contiguous(memory_format=torch.channels_last), batch["label"]


def read_images(net: nn.Module, images: Tensor) -> Tensor:
    """The class that a network reads in each image, int64 (N,)."""
    return net(images.contiguous(memory_format=torch.channels_last)).argmax(1)


def find_variety(test: dict, painter: str) -> dict[str, float | None]:
    """A painter's agreement and `SCORES` in a record's `test`; None for what was not scored when it was made."""
    scores = test.get("variety", {}).get(painter, {})
    known = {"swapped": "swap_agreement", "true_label": "same_label_agreement"}
    agreement = scores.get("agreement", test.get(known.get(painter)))
    return {"agreement": agreement} | {name: scores.get(name) for name in SCORES}


def name_scores(values: Tensor) -> dict[str, float]:
    return dict(zip(SCORES, values.tolist(), strict=True))


def mean(values: Tensor) -> float:
    return values.cpu().double().mean().item()
