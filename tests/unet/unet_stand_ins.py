"""Small networks, data and records for the tests of the UNets."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from s18_utils.data.batches import StoreData
from s18_utils.data.store import DataSet
from s18_utils.records import Record
from s18_utils.settings import UNetSettings
from s18_utils.unet.model import UNet
from s18_utils.unet.module import UNetModule

CLASSES = ("pet", "background", "border")
SETTINGS = {
    "data": "pets", "source": "synthetic", "size": 32, "limit": None, "scored_on": "test", "encoder": "scratch",
    "down": "maxpool", "up": "transpose", "skip": True, "loss": "ce", "width": 4, "seed": 0, "epochs": 2,
    "half_size_epochs": 0, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 1e-2, "rotate": 0.0, "zoom": 0.0,
    "shift": 0.0, "colour": 0.0,
}  # fmt: skip


def build_unet(down: str = "maxpool", up: str = "transpose", **changes) -> UNet:
    return UNet(down, up, **{"in_channels": 3, "classes": 3, "width": 4} | changes)


def build_module(**changes) -> UNetModule:
    """A small untrained network in evaluation mode, always the same."""
    torch.manual_seed(0)
    names = ("encoder", "down", "up", "skip", "loss", "width", "learning_rate", "weight_decay")
    settings = {name: SETTINGS[name] for name in names} | {"classes": CLASSES, "channels": 3}
    return UNetModule(**settings | changes).eval()


def build_data(
    train: int = 20, test: int = 12, size: int = 16, classes=CLASSES, source: str = "synthetic"
) -> StoreData:
    """Data whose n-th image is n everywhere, so that a row can be told from its pixels; its mask is class n modulo."""

    def split(count: int) -> dict[str, torch.Tensor]:
        number = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1)
        mask = (number % len(classes)).repeat(1, size, size)
        return {"image": number.unsqueeze(1).repeat(1, 3, size, size), "mask": mask}

    data = DataSet("pets", "Oxford-IIIT Pet", source, "0123456789abcdef", classes, 3680, split(train), split(test))
    return StoreData(data, 4)


def sample_scores(**changes) -> dict:
    scores = {"loss": 0.5, "pooled_dice_loss": 0.25, "pixel_accuracy": 0.875, "mean_iou": 0.6, "mean_dice": 0.75}
    scores |= {
        "iou": {"pet": 0.7, "background": 0.8, "border": 0.3},
        "dice": {"pet": 0.8, "background": 0.9, "border": 0.5},
    }
    return scores | changes


@dataclass
class StandInRecord:
    """As much of a record as tables and figures look at."""

    name: str = "a network"
    module: UNetModule | None = None
    test: dict = field(default_factory=sample_scores)
    spread: dict = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    tests: tuple[dict, ...] = ()  # of each seed
    history: list[dict] = field(default_factory=list)
    stored_examples: dict = field(default_factory=dict)
    preset: str = "tiny"
    synthetic: bool = True
    family: str = "unet"
    changes: dict = field(default_factory=dict)
    size: int = 32
    classes: tuple[str, ...] = CLASSES
    fingerprint: str = "0123456789abcdef"

    @property
    def settings(self) -> UNetSettings:
        return UNetSettings(**SETTINGS | self.changes)

    @property
    def metrics(self) -> dict:
        return {"seeds": list(self.seeds), "by_seed": list(self.tests)}

    @property
    def by_seed(self) -> dict[int, dict]:
        return dict(zip(self.seeds, self.tests, strict=False))

    @property
    def data(self) -> dict:
        return {"channels": 3, "size": self.size, "fingerprint": self.fingerprint, "classes": self.classes}

    @property
    def loadable(self) -> bool:
        return self.module is not None

    @property
    def folder(self) -> str:
        return self.name

    experiment = folder
    examples = Record.examples

    def model(self) -> UNetModule:
        return self.module

    def label(self, others: Sequence["StandInRecord"] = ()) -> str:
        return self.name + (f" ({self.preset})" if any(other.preset != self.preset for other in others) else "")

    def title(self) -> str:
        return self.name + (" (synthetic data)" if self.synthetic else "")


def read_title(figure) -> str:
    return figure._suptitle.get_text()
