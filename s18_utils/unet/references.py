"""What a score is worth: predictions that need no network, scored on the same split in the same way."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from s18_utils.data.batches import StoreData
from s18_utils.device import autocast
from s18_utils.report.table import Table
from s18_utils.unet.module import Scores
from s18_utils.unet.overlay import BACKGROUND

THUMBNAIL = 16  # side in pixels at which images are compared to find the nearest


def score_references(data: StoreData) -> dict[str, dict]:
    """Test scores, as of a UNet but for the losses, of three predictions that cost nothing.

    - one class everywhere: `background`, or where there is no such class the most frequent one;
    - the commonest class at each pixel: the one that most training masks have there;
    - the nearest neighbour: the mask of the training image that is most alike, by squared difference of 16×16 pixels.
    """
    classes = data.data.classes
    masks = data.data.train["mask"][data.train.rows]
    counts = torch.stack([(masks == index).sum(0) for index in range(len(classes))])
    frequent = int(counts.sum((1, 2)).argmax())
    everywhere = classes.index(BACKGROUND) if BACKGROUND in classes else frequent
    return {
        f"{classes[everywhere]} everywhere": score_masks(
            data, lambda images: torch.full((len(images), *masks.shape[1:]), everywhere)
        ),
        "commonest class at each pixel": score_masks(data, lambda images: counts.argmax(0).expand(len(images), -1, -1)),
        "nearest neighbour": score_masks(data, find_neighbours(data)),
    }


def find_neighbours(data: StoreData) -> Callable[[Tensor], Tensor]:
    """A function from images to the masks of the training images most like them."""
    batches = data.train.rows.split(256)
    known = torch.cat([shrink(data.data.train["image"][rows].float() / 255) for rows in batches])

    def nearest(images: Tensor) -> Tensor:
        rows = data.train.rows[torch.cdist(shrink(images), known).argmin(1)]
        return data.data.train["mask"][rows].long()

    return nearest


def shrink(images: Tensor) -> Tensor:
    """Images as rows of numbers, (N, C·16·16)."""
    return F.adaptive_avg_pool2d(images, THUMBNAIL).flatten(1)


def score_masks(data: StoreData, predict: Callable[[Tensor], Tensor]) -> dict:
    """The scores on the test split of a function from images, float (N, C, H, W), to masks, int64 (N, H, W).

    So is test-time averaging scored: `score_masks(data, lambda images: module.predict(images, mirrored=True))`.
    """
    scores = Scores(data.data.classes)
    with autocast():
        for batch in data.test_batches(256):
            scores.update_masks(predict(batch["image"]), batch["mask"])
    return scores.compute_masks()


def tabulate_references(references: dict[str, dict]) -> Table:
    """The scores of `score_references`, or of others like them, side by side."""
    classes = list(next(iter(references.values()))["iou"])
    rows = [
        [
            name,
            *(
                f"{value:.3f}" if value is not None else "nowhere"
                for value in (test["mean_iou"], *test["iou"].values(), test["mean_dice"], test["pixel_accuracy"])
            ),
        ]  # fmt: skip
        for name, test in references.items()
    ]
    return Table(["prediction", "mIoU", *(f"IoU {name}" for name in classes), "Dice", "accuracy"], rows)
