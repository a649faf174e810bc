"""How big a run is: `tiny`, `quick` or `full`."""

import os
from dataclasses import dataclass

import torch

from s18_utils.errors import check_choice
from s18_utils.experiments import get_experiment


@dataclass(frozen=True)
class Preset:
    """How big a run is.

    Attributes:
        size: side of the images in pixels.
        epochs: passes over the training images.
        batch_size: images a step.
        module: the module's arguments that go with the scale.
        limit: use at most so many images of either split.
        source: where the data come from unless the caller says so.
    """

    size: int
    epochs: int
    batch_size: int
    module: dict
    limit: int | None = None
    source: str = "auto"


PRESETS = {
    "unet": {
        "tiny": Preset(48, 2, 8, {"width": 8, "learning_rate": 4e-3}, limit=48, source="synthetic"),
        "quick": Preset(64, 30, 16, {"width": 16, "learning_rate": 4e-3}),
        "full": Preset(128, 60, 32, {"width": 64, "learning_rate": 1e-3}),
    },
}
PRESET_NAMES = ("tiny", "quick", "full")


def default_preset() -> str:
    """`$S18_PRESET`, or `full` on a GPU and `quick` on a CPU."""
    preset = os.environ.get("S18_PRESET") or ("full" if torch.cuda.is_available() else "quick")
    check_choice("preset", preset, PRESET_NAMES)
    return preset


def get_preset(experiment: str, preset: str) -> Preset:
    """The settings of a preset for an experiment; an InputError lists the names there are."""
    check_choice("preset", preset, PRESET_NAMES)
    return PRESETS[get_experiment(experiment).family][preset]
