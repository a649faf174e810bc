"""Records to play with: networks whose answers are known beforehand, and real ones that were never trained."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from conftest import sample_history, sample_metrics
from cvae_stand_ins import DIGITS, SIDE, BandJudge, Painter, band_split, module_of
from torch import Tensor, nn

from s18_utils.cvae.module import CVAEModule
from s18_utils.experiments import get_experiment
from s18_utils.records import Record, build_module
from s18_utils.runs import write_record
from s18_utils.settings import at_preset, parse_settings

OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class LabelledPainter(Painter):
    """Codes are the light, a tenth of the label, and 0; it notes the labels that it is told."""

    latent = 3

    def __init__(self, **shape):
        super().__init__(**shape)
        self.told = []

    def encoder(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.told.append(set(labels.tolist()))
        light, _ = super().encoder(images, labels)
        codes = torch.cat([light, labels[:, None] / 10, torch.zeros_like(light)], dim=1)
        return codes, torch.zeros_like(codes)


@dataclass(frozen=True)
class BandRecord(Record):
    """A record whose model's network is a painter."""

    painter: LabelledPainter = field(default_factory=LabelledPainter)
    judges: tuple[nn.Module, ...] = (BandJudge(),)

    def model(self) -> CVAEModule:
        channels, size = self.painter.shape
        return module_of(self.painter, list(self.judges), channels=channels, size=size)


def band_record(*judges: nn.Module, channels: int = 1, side: int = SIDE) -> BandRecord:
    """A record of 40 test images, bands of each label in turn; by default one judge reads them."""
    data = sample_metrics()["data"] | {"name": "mnist", "classes": list(DIGITS), "channels": channels, "size": side}
    metrics = sample_metrics(experiment="cvae-mnist", data=data)
    split = band_split(40, seed=1, channels=channels, side=side)
    painter = LabelledPainter(channels=channels, side=side)
    return BandRecord(Path("nowhere"), metrics, [], split, {"family": "cvae"}, painter, judges or (BandJudge(),))


def write_untrained(
    folder: Path, name: str, *, networks: tuple[str, ...] = (), examples: bool = True, **changes
) -> Record:
    """A record of an untrained network at `tiny` in a folder: what it answers means nothing, and is not all alike."""
    torch.manual_seed(len(name))
    spec = get_experiment(name)
    values = at_preset(spec.block, "tiny") | changes
    if spec.family == "cvae":
        values.setdefault("second_judge", values["judge"])
    settings = parse_settings(spec.family, values, "these settings")
    looks = {
        "pets": {"title": "Oxford-IIIT Pet", "classes": ["pet", "background", "border"], "channels": 3},
        "mnist": {"title": "MNIST", "classes": list(DIGITS), "channels": 1, "size": 28},
        "cifar10": {"title": "CIFAR-10", "classes": list(OBJECTS), "channels": 3, "size": 32},
    }[settings.data]
    data = sample_metrics()["data"] | {"size": settings.size, "source": "local", "name": settings.data} | looks
    module = build_module(spec.family, settings, data)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as a training leaves them
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.05, 0.3)
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight)
    if spec.family == "cvae":
        module.vae.encoder.head.weight.data *= 5
        module.vae.decoder.draw.weight.data *= 10
    metrics = sample_metrics(experiment=name, data=data, parameters=sum(each.numel() for each in module.parameters()))
    size, kept = data["size"], {}
    if examples and spec.family != "classifier":
        coarse = torch.rand(24, data["channels"], 6, 6)
        images = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
        kept = {"image": (images * 255).round().byte()}
        masks = images.argmax(1).byte()
        kept |= {"label": (torch.arange(24) % 10).byte()} if spec.family == "cvae" else {"mask": masks}
    config = {"experiment": name, "family": spec.family, "preset": "tiny", "seeds": 1, "name": None, "changes": {}}
    names = {role: f"{role.replace('_', '-')}-{settings.data}" for role in networks}
    config |= {"settings": settings.model_dump(mode="json"), "networks": names}
    record = Record(folder / name, metrics, sample_history(), kept, config)
    return write_record(record, module.state_dict(), {})
