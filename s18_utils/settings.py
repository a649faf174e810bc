"""What can be set about an experiment: names, types, ranges and meanings. The values, with their reasons, are in
`experiments`.

There are no defaults here: an experiment's block says everything.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import Field

from s18_utils.errors import InputError, check_choice

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0), Lt(float("inf"))]
NotNegative = Annotated[float, Ge(0), Lt(float("inf"))]
Fraction = Annotated[float, Ge(0), Le(1)]
Batch = Annotated[int, Ge(2)]
MOST_SEEDS = 2**32  # as far as numpy's go
Seed = Annotated[int, Ge(0), Lt(MOST_SEEDS)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]


class Settings(pydantic.BaseModel):
    """A group of settings that can't be changed once made."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkSettings(Settings):
    """A classifier that a conditional VAE needs, trained on the same data."""

    net: str = Field(description="a name in cvae.classifiers")
    net_settings: dict[str, Any] = Field(description="its constructor's arguments")
    seed: Seed = Field(description="of the first training; a judge has its own")
    epochs: Count = Field(description="how often each image is seen")
    batch_size: Batch = Field(description="images a step")
    learning_rate: Positive = Field(description="its peak; it rises for a fifth of the steps")
    momentum: Annotated[float, Ge(0), Lt(1)] = Field(description="Nesterov's")
    weight_decay: NotNegative = Field(description="pulls weights towards 0")
    shift_rate: Positive = Field(description="multiplies the rate of the batch norms' shifts")
    smoothing: Annotated[float, Ge(0), Lt(1)] = Field(description="of the labels")
    attack_radius: NotNegative = Field(
        description="trains on images attacked within this L2 norm, of pixels in [0, 1]; 0 for none"
    )
    translate: Annotated[int, Ge(0)] = Field(description="pixels each way")
    flip: bool = Field(description="whether training images are mirrored, every second one")
    rotate: NotNegative = Field(description="degrees each way")
    scale: Annotated[float, Ge(0), Lt(1)] = Field(description="sizes between 1 − this and 1 + this")
    shear: NotNegative = Field(description="slant each way, columns a row")
    noise: NotNegative = Field(description="largest standard deviation, of pixels in [0, 1]")
    blur: Fraction = Field(description="share of the batches")


class DataSettings(Settings):
    """The data of an experiment."""

    data: str = Field(description="pets, mnist or cifar10, or a folder of one's own")
    source: str = Field(description="where the data come from, see data.sources")
    size: Annotated[int, Ge(16)] | None = Field(
        description="side of the pictures in pixels; None for sets that come in one size"
    )
    limit: Annotated[int, Ge(4)] | None = Field(description="at most so many images of either split")
    scored_on: Literal["test", "validation"] = Field(
        description="validation for a choice between settings, which is not to be made on the test split"
    )


class ClassifierSettings(DataSettings, NetworkSettings):
    """A frozen CNN or a judge, as an experiment of its own."""


class UNetSettings(DataSettings):
    """A UNet."""

    encoder: Literal["scratch", "efficientnet-lite0"] = Field(
        description="the latter has seen ImageNet, and has its own width and way down"
    )
    down: Literal["maxpool", "strided"] = Field(description="the way down")
    up: Literal["transpose", "bilinear"] = Field(description="the way up")
    skip: bool = Field(description="skip connections; without them the decoder sees zeros in their place")
    loss: Literal["ce", "dice"] = Field(description="cross-entropy or Dice loss")
    width: Annotated[int, Ge(2), MultipleOf(2)] = Field(description="channels of the first level; 64 is the paper's")
    seed: Seed = Field(description="of the first training")
    epochs: Count = Field(description="how often each photograph is seen")
    half_size_epochs: Annotated[int, Ge(0)] = Field(
        description="in the first so many, the last left out, pictures have half the side: a quarter of the cost"
    )
    batch_size: Batch = Field(description="pictures a step")
    learning_rate: Positive = Field(description="its peak, after a third of the steps")
    weight_decay: NotNegative = Field(description="pulls weights towards 0")
    rotate: NotNegative = Field(description="degrees each way")
    zoom: NotNegative = Field(description="natural logarithm of the zoom, each way")
    shift: NotNegative = Field(description="of half the side, each way")
    colour: Annotated[float, Ge(0), Lt(1)] = Field(description="of brightness, contrast and saturation, each way")


class CVAESettings(DataSettings):
    """A conditional VAE, with its frozen CNN and its judges."""

    latent: Count = Field(description="numbers in a code")
    encoder_widths: Widths = Field(description="channels after each halving")
    decoder_widths: Widths = Field(description="channels at each size, from the smallest")
    embedding: Count = Field(description="numbers that a label is embedded in")
    squeeze: Count = Field(description="channels before the encoder's last layer")
    label_maps: Count = Field(description="channels of the label's map at each size of the decoder")
    seed: Seed = Field(description="of the first training")
    epochs: Count = Field(description="how often each image is seen")
    batch_size: Batch = Field(description="images a step")
    learning_rate: Positive = Field(description="its peak")
    weight_decay: NotNegative = Field(description="pulls weights towards 0")
    flip: bool = Field(description="whether training images are mirrored, every second one")
    kl_weight: NotNegative = Field(description="of the KL divergence")
    label_weight: NotNegative = Field(description="of the label loss")
    true_share: NotNegative = Field(
        description="the label loss of drawings under the true label counts so much, that of wrong ones 1"
    )
    label_cap: bool = Field(
        description="whether a drawing stops gaining where it is easier to read than half of the real images"
    )
    label_start: Fraction = Field(description="the label loss begins to rise after this share of the steps …")
    label_full: Fraction = Field(description="… and has its whole weight after this")
    adversarial_weight: NotNegative = Field(description="of the discriminator; 0: there is none")
    discriminator_width: Count = Field(description="channels of its first layer")
    discriminator_rate: Positive = Field(description="the peak of its own learning rate")
    latent_noise: NotNegative = Field(description="augmentation: noise, in standard deviations of the codes")
    latent_reach: Fraction = Field(
        description="augmentation: how far codes move towards another of their class, at most"
    )
    disturb_shift: Annotated[int, Ge(0)] = Field(
        description="pixels by which a drawing is shifted each way, at most, before the frozen CNN reads it"
    )
    disturb_noise: NotNegative = Field(description="standard deviation of noise added to it then, at most")
    disturb_blur: NotNegative = Field(
        description="half of them are blurred then, by a Gaussian of 0.3 to 0.3 + this many pixels"
    )
    classifier: NetworkSettings = Field(description="the frozen CNN of the label loss")
    judge: NetworkSettings = Field(description="takes no part in any loss")
    second_judge: NetworkSettings = Field(description="a judge of another kind")


FAMILIES: dict[str, type[DataSettings]] = {"unet": UNetSettings, "cvae": CVAESettings, "classifier": ClassifierSettings}


@dataclass(frozen=True)
class ByPreset:
    """A setting that depends on the preset."""

    tiny: Any
    quick: Any
    full: Any


by_preset = ByPreset  # as blocks write it


def at_preset(block: dict[str, Any], preset: str) -> dict[str, Any]:
    """A block's values at a preset, groups copied; an InputError for an unknown preset."""
    check_choice("preset", preset, [field.name for field in fields(ByPreset)])
    values = {name: getattr(value, preset) if isinstance(value, ByPreset) else value for name, value in block.items()}
    return {name: at_preset(value, preset) if isinstance(value, dict) else value for name, value in values.items()}


def parse_settings(family: str, values: dict[str, Any], what: str) -> DataSettings:
    """Settings from plain values; an InputError says in one sentence what is wrong with the first that does not fit."""
    check_choice("family", family, FAMILIES)
    try:
        return FAMILIES[family].model_validate(values)
    except pydantic.ValidationError as error:
        errors = error.errors()
        names = [".".join(map(str, each["loc"])) for each in errors]
        lacking = [name for name, each in zip(names, errors, strict=True) if each["type"] == "missing"]
        if lacking:
            raise InputError(f"{what} lack {', '.join(lacking)}: add them, or train again") from error
        first, reason = errors[0], errors[0]["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = ", ".join(list_settings(FAMILIES[family]))
            raise InputError(f"{what} hold an unknown {names[0]}: the settings are {known}") from error
        raise InputError(f"{names[0] or what} can't be {first['input']!r}: it should be {reason}") from error


def list_settings(group: type[pydantic.BaseModel]) -> list[str]:
    """The names of all settings of a group, those of a network as `judge.epochs`."""
    names = []
    for name, field in group.model_fields.items():
        nested = field.annotation is NetworkSettings
        names += [f"{name}.{inner}" for inner in list_settings(NetworkSettings)] if nested else [name]
    return names


def describe_changes(changes: dict[str, Any]) -> str:
    """What is changed, as it stands in a folder's name: `label_weight=0,latent=8`; of a data folder its name."""

    def to_text(name: str, value: Any) -> str:
        if name == "data":
            return Path(value).name
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return ",".join(f"{name}={to_text(name, value)}" for name, value in sorted(changes.items()))


def flatten(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, as they are given on the command line."""
    flat = {}
    for name, value in values.items():
        inner = isinstance(value, dict) and not name.endswith("net_settings")
        flat |= flatten(value, f"{before}{name}.") if inner else {f"{before}{name}": value}
    return flat
