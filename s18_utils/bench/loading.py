"""Batches from the store, against torchvision's data set in a `DataLoader`."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import OxfordIIITPet

from s18_utils.bench.timing import Measurement, ratios, seconds_of
from s18_utils.data import open_data, pets
from s18_utils.data.batches import StoreData
from s18_utils.data.sources import locate
from s18_utils.presets import default_preset, get_preset

EXPERIMENT = "unet-maxpool-transpose-bce"


def data(size: int | None = None) -> Measurement:
    """Images per second into float batches.

    Both ways read the same training images, shuffled, without augmentation, and end at a float batch with int64 masks.
    """
    settings = get_preset(EXPERIMENT, default_preset())
    size = size or settings.size
    with pets_on_disk() as (root, source):
        plain = plain_loader(root, "trainval", size, settings.batch_size)
        ours = StoreData(open_data("pets", size, source), settings.batch_size)
        return ratios(
            f"batches of pets at {size} px, {source} data",
            "images/s",
            {
                "plain: OxfordIIITPet + transforms + DataLoader": lambda: images_per_second(plain),
                "ours: store": lambda: images_per_second(
                    ours.on_after_batch_transfer(batch) for batch in ours.train_dataloader()
                ),
            },
        )


@contextlib.contextmanager
def pets_on_disk() -> Iterator[tuple[str, str]]:
    """A folder that torchvision can read pets from, and where they come from; drawn where there are none."""
    found = locate(pets, "auto")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "oxford-iiit-pet"
        if found.root:
            folder.symlink_to(found.root, target_is_directory=True)
        else:
            images, masks = pets.synthetic.pets(256, 256, seed=0)
            pets.write(folder, {"train": images, "test": images[:64]}, {"train": masks, "test": masks[:64]})
        yield temporary, found.source


def plain_loader(root: str, split: str, size: int, batch_size: int) -> DataLoader:
    """The loader most people would write; `split` is torchvision's, `trainval` or `test`."""
    image = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    mask = transforms.Compose(
        [
            transforms.Resize((size, size), interpolation=transforms.InterpolationMode.NEAREST),
            transforms.PILToTensor(),
            transforms.Lambda(to_classes),
        ]
    )
    rows = OxfordIIITPet(root, split, target_types="segmentation", transform=image, target_transform=mask)
    return DataLoader(rows, batch_size, shuffle=split == "trainval", num_workers=2)


def to_classes(mask: Tensor) -> Tensor:
    return mask.squeeze(0).long() - 1


def images_per_second(batches: Iterable) -> float:
    """Images a second over one pass."""
    count = 0

    def pass_through() -> None:
        nonlocal count
        for batch in batches:
            count += len(batch["image"] if isinstance(batch, dict) else batch[0])

    return 1 / (seconds_of(pass_through) / count)
