"""Records to play with: networks whose answers are known beforehand, and real ones that were never trained."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from conftest import sample_history, sample_metrics
from torch import Tensor, nn

from s18_utils.experiments import get_experiment
from s18_utils.records import Record, build_module, write_record
from s18_utils.settings import at_preset, parse_settings

SIDE = 28
DIGITS = tuple("0123456789")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def draw_bands(labels: Tensor, light: Tensor, channels: int = 1, side: int = SIDE) -> Tensor:
    """Images of one bright band, two pixels high, whose row is the label: float (N, channels, side, side)."""
    images = torch.zeros(len(labels), channels, side, side)
    for image, label, brightness in zip(images, labels, light, strict=True):
        image[:, 2 * label : 2 * label + 2] = brightness
    return images


class BandJudge(nn.Module):
    """Reads the band with the most light; a blind one sees all alike and says 0."""

    def __init__(self, blind: bool = False):
        super().__init__()
        self.blind = blind

    def forward(self, images: Tensor) -> Tensor:
        light = images.mean((1, 3))[:, :20].unflatten(1, (10, 2)).sum(2)
        return torch.zeros_like(light) if self.blind else light


class BandPainter(nn.Module):
    """In place of a conditional VAE: a band for the asked label, as bright as the input; for a mixture, its bands.

    Args:
        judges: what reads the drawings; by default one that reads bands.
        keeps: use the input's brightness, else always 0.8.
        stuck: draw this label whatever was asked.
        fails: raise this from every swap.
    """

    latent, classes = 3, DIGITS

    def __init__(self, judges=None, keeps=True, stuck=None, fails=None, channels=1, side=SIDE):
        super().__init__()
        self.judges = [BandJudge()] if judges is None else judges
        self.image_shape = (channels, side, side)
        self.keeps, self.stuck, self.fails, self.told = keeps, stuck, fails, []

    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.told.append(set(labels.tolist()))
        light = images.flatten(1).amax(1, keepdim=True)
        codes = torch.cat([light, labels[:, None] / 10, torch.zeros_like(light)], dim=1)
        return codes, torch.zeros_like(codes)

    def decode(self, codes: Tensor, labels: Tensor) -> Tensor:
        if self.stuck is not None:
            labels = torch.full((len(codes),), self.stuck)
        light = codes[:, 0].clamp(0, 1) if self.keeps else torch.full_like(codes[:, 0], 0.8)
        channels, side, _ = self.image_shape
        if labels.is_floating_point():
            every = [draw_bands(torch.full((len(codes),), label), light, channels, side) for label in range(10)]
            return torch.einsum("nk,knchw->nchw", labels, torch.stack(every))
        return draw_bands(labels, light, channels, side)

    def swap(self, images: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        if self.fails:
            raise self.fails
        return self.decode(self.encode(images, labels)[0], asked)


@dataclass(frozen=True)
class BandRecord(Record):
    """A record whose model is a `BandPainter`."""

    painter: BandPainter = field(default_factory=BandPainter)
    family = "cvae"  # Record reads it from files that are not there

    def model(self) -> BandPainter:
        return self.painter


def band_record(**painter) -> BandRecord:
    """A record of 40 test images, bands of each label in turn."""
    model = BandPainter(**painter)
    channels, side, _ = model.image_shape
    data = sample_metrics()["data"] | {"name": "mnist", "classes": list(DIGITS), "channels": channels, "size": side}
    labels = torch.arange(40) % 10
    light = 0.5 + 0.5 * torch.rand(40, generator=torch.Generator().manual_seed(1))
    images = (draw_bands(labels, light, channels, side) * 255).round().byte()
    metrics = sample_metrics(experiment="cvae-mnist", data=data)
    return BandRecord(Path("nowhere"), metrics, [], {"image": images, "label": labels.byte()}, model)


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
    record = Record(folder / name, metrics, sample_history(), kept)
    return write_record(record, config, module.state_dict(), {})
