"""What can be set about an experiment: names, types and ranges. The values, with their reasons, are in `experiments`.

There are no defaults here: an experiment's block says everything.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from annotated_types import Ge, Gt, Le, Lt, MultipleOf

from s18_utils.errors import InputError, check_choice

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0), Lt(float("inf"))]
NotNegative = Annotated[float, Ge(0), Lt(float("inf"))]
Fraction = Annotated[float, Ge(0), Le(1)]
Seed = Annotated[int, Ge(0), Lt(2**32)]  # as far as numpy's go
Widths = Annotated[tuple[Count, ...], pydantic.Field(min_length=1)]


class Settings(pydantic.BaseModel):
    """A group of settings that can't be changed once made."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkSettings(Settings):
    """A classifier that a conditional VAE needs, trained on the same data."""

    net: str  # a name in `cvae.classifiers`
    net_settings: dict[str, Any]  # its constructor's arguments
    seed: Seed  # the first; a judge has its own
    epochs: Count
    batch_size: Annotated[int, Ge(2)]
    learning_rate: Positive  # the peak of a triangular schedule
    momentum: Annotated[float, Ge(0), Lt(1)]
    weight_decay: NotNegative
    shift_rate: Positive  # multiplies the rate of the batch norms' shifts
    smoothing: Annotated[float, Ge(0), Lt(1)]  # of the labels
    attack_radius: NotNegative  # L2 norm, in units of the pixel range; trains on images attacked within it; 0 for none
    # Augmentation of training images; see `data.augmentation.augment_labelled`.
    translate: Annotated[int, Ge(0)]  # pixels each way
    flip: bool
    rotate: NotNegative  # degrees each way
    scale: Annotated[float, Ge(0), Lt(1)]
    shear: NotNegative
    noise: NotNegative  # standard deviation, of pixels in [0, 1]
    blur: Fraction  # of the batches


class DataSettings(Settings):
    """The data of an experiment."""

    data: str  # a name that `open_data` knows, or a folder of one's own
    source: str  # see `data.sources`
    size: Annotated[int, Ge(16)] | None  # side of the images in pixels; None for sets that come in one size
    limit: Annotated[int, Ge(4)] | None  # at most so many images of either split
    scored_on: Literal["test", "validation"]  # a choice between settings is to be made on the validation cut


class ClassifierSettings(DataSettings, NetworkSettings):
    """A frozen CNN or a judge, as an experiment of its own."""


class UNetSettings(DataSettings):
    """A UNet."""

    encoder: Literal["scratch", "efficientnet-lite0"]  # the latter has seen ImageNet, and has its own width and skips
    down: Literal["maxpool", "strided"]
    up: Literal["transpose", "bilinear"]
    skip: bool  # the skip connections; without them the decoder sees zeros in their place
    loss: Literal["ce", "dice"]
    width: Annotated[int, Ge(2), MultipleOf(2)]  # channels of the first level
    seed: Seed
    epochs: Count
    half_size_epochs: Annotated[int, Ge(0)]  # the first so many epochs see pictures of half the size
    batch_size: Annotated[int, Ge(2)]
    learning_rate: Positive  # the peak of a one-cycle schedule
    weight_decay: NotNegative
    # Augmentation of training images; see `data.augmentation.augment_pets`.
    rotate: NotNegative  # degrees each way
    zoom: NotNegative  # natural logarithm, each way
    shift: NotNegative  # of half the side, each way
    colour: Annotated[float, Ge(0), Lt(1)]  # brightness, contrast and saturation, each way


class CVAESettings(DataSettings):
    """A conditional VAE, with its frozen CNN and its judges."""

    latent: Count  # length of the code
    encoder_widths: Widths
    decoder_widths: Widths
    embedding: Count  # length of an embedded label
    squeeze: Count  # channels before the encoder's last layer
    label_maps: Count  # channels of the label's map at each resolution of the decoder
    seed: Seed
    epochs: Count
    batch_size: Annotated[int, Ge(2)]
    learning_rate: Positive
    weight_decay: NotNegative
    flip: bool  # every second training image
    kl_weight: NotNegative
    label_weight: NotNegative
    true_share: NotNegative  # of the label loss, for drawings under the true label
    label_cap: bool  # no drawing gains by being easier to read than half of the real images
    label_start: Fraction  # share of the steps after which the label loss begins to rise …
    label_full: Fraction  # … and at which it has its whole weight
    adversarial_weight: NotNegative  # of the discriminator's opinion; 0 for none
    discriminator_width: Count
    discriminator_rate: Positive  # the peak of its own one-cycle schedule
    latent_noise: NotNegative
    latent_reach: Fraction
    disturb_shift: Annotated[int, Ge(0)]  # pixels; of drawings before the frozen CNN reads them
    disturb_noise: NotNegative
    disturb_blur: NotNegative
    classifier: NetworkSettings  # the frozen CNN of the label loss
    judge: NetworkSettings  # takes no part in any loss
    second_judge: NetworkSettings  # of another kind


FAMILIES: dict[str, type[DataSettings]] = {"unet": UNetSettings, "cvae": CVAESettings, "classifier": ClassifierSettings}


@dataclass(frozen=True)
class ByPreset:
    """A setting that depends on the preset."""

    tiny: Any
    quick: Any
    full: Any


by_preset = ByPreset  # as blocks write it


def at_preset(block: dict[str, Any], preset: str) -> dict[str, Any]:
    """A block's values at a preset, groups copied."""
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
