"""How big a run is: `tiny`, `quick` or `full`."""

import os
from dataclasses import dataclass, field

from s18_utils.device import device
from s18_utils.errors import check_choice
from s18_utils.experiments import get_experiment
from s18_utils.records import PUBLISHED, read_record


@dataclass(frozen=True)
class Preset:
    """How big a run is.

    Attributes:
        size: side of the images in pixels.
        epochs: passes over the training images.
        batch_size: images a step.
        module: the module's arguments that go with the scale.
        augment: arguments of the data set's augmentation.
        limit: use at most so many images of either split.
        source: where the data come from unless the caller says so.
        half_size_epochs: the first so many epochs see pictures of half the size, at a quarter of the cost.
    """

    size: int
    epochs: int
    batch_size: int
    module: dict
    augment: dict = field(default_factory=dict)
    limit: int | None = None
    source: str = "auto"
    half_size_epochs: int = 0


# Settings of the frozen CNNs, which stand in their conditional VAEs' arguments too, and how the classifiers' images are
# changed. A network that has to read through noise and blur has gradients that look like strokes and surfaces, and
# it is these that a decoder learns from.
DIGIT_NET = {
    "tiny": {"widths": [8, 16, 16], "hidden": 32},
    "quick": {"widths": [16, 64, 128]},
    "full": {"widths": [48, 96, 160]},
}
OBJECT_NET = {"tiny": {"widths": [8, 16, 16]}, "quick": {"widths": [32, 64, 128]}, "full": {"widths": [64, 256, 256]}}
DIGIT_AUGMENT = {"translate": 2, "rotate": 10.0, "scale": 0.1, "blur": 0.3}
OBJECT_AUGMENT = {"translate": 2, "flip": True, "noise": 0.1, "blur": 0.2}
AIRBENCH = {"momentum": 0.85, "weight_decay": 1.4e-3, "shift_rate": 64.0, "smoothing": 0.2}
TINY = {"limit": 1024, "source": "synthetic"}

PRESETS = {
    "unet": {
        "tiny": Preset(48, 2, 8, {"width": 8, "learning_rate": 4e-3}, limit=48, source="synthetic"),
        "quick": Preset(64, 30, 16, {"width": 16, "learning_rate": 4e-3}),
        "full": Preset(128, 16, 16, {"width": 64, "learning_rate": 1.5e-3, "weight_decay": 5e-2}, half_size_epochs=12),
    },
    "classifier-mnist": {
        "tiny": Preset(28, 4, 32, {"settings": DIGIT_NET["tiny"], "learning_rate": 0.1}, **TINY),
        "quick": Preset(28, 4, 512, {"settings": DIGIT_NET["quick"]}, augment=DIGIT_AUGMENT | {"noise": 0.3}),
        "full": Preset(
            28, 20, 512, {"settings": DIGIT_NET["full"]}, augment=DIGIT_AUGMENT | {"noise": 0.3, "shear": 0.15}
        ),
    },
    "judge-mnist": {
        "tiny": Preset(28, 4, 32, {"settings": {"widths": [8, 16], "hidden": 32}, "learning_rate": 0.05}, **TINY),
        "quick": Preset(28, 3, 512, {"learning_rate": 0.2}, augment=DIGIT_AUGMENT | {"noise": 0.2}),
        "full": Preset(
            28,
            16,
            512,
            {"settings": {"widths": [32, 96]}, "learning_rate": 0.2},
            augment=DIGIT_AUGMENT | {"noise": 0.2},
        ),
    },
    "cvae-mnist": {
        "tiny": Preset(
            28,
            2,
            32,
            {
                "classifier_settings": DIGIT_NET["tiny"],
                "latent": 8,
                "encoder_widths": [16, 16],
                "decoder_widths": [16, 16, 16],
                "label_weight": 20.0,
            },
            **TINY,
        ),
        "quick": Preset(28, 2, 256, {"classifier_settings": DIGIT_NET["quick"], "latent": 16, "label_weight": 100.0}),
        "full": Preset(
            28,
            5,
            256,
            {
                "classifier_settings": DIGIT_NET["full"],
                "latent": 24,
                "decoder_widths": [96, 80, 40],
                "label_weight": 300.0,
            },
        ),
    },
    "classifier-cifar10": {
        "tiny": Preset(32, 12, 32, {"settings": OBJECT_NET["tiny"], "learning_rate": 0.1}, **TINY),
        "quick": Preset(
            32,
            8,
            500,
            {"settings": OBJECT_NET["quick"], "learning_rate": 0.75} | AIRBENCH,
            augment=OBJECT_AUGMENT | {"noise": 0.2, "blur": 0.3},
        ),
        "full": Preset(
            32,
            15,
            1024,
            {"settings": OBJECT_NET["full"], "learning_rate": 1.46} | AIRBENCH,
            augment=OBJECT_AUGMENT | {"noise": 0.05, "blur": 0.1},
        ),
    },
    "judge-cifar10": {
        "tiny": Preset(
            32,
            12,
            32,
            {"settings": {"widths": [16, 16], "depth": 1, "halve": True}, "learning_rate": 0.05},
            **TINY,
        ),
        "quick": Preset(
            32,
            8,
            250,
            {"settings": {"widths": [48, 96, 192], "depth": 1, "halve": True}, "learning_rate": 0.1},
            augment=OBJECT_AUGMENT,
        ),
        "full": Preset(32, 24, 256, {"learning_rate": 0.1}, augment=OBJECT_AUGMENT),
    },
    "cvae-cifar10": {
        "tiny": Preset(
            32,
            2,
            32,
            {
                "classifier_settings": OBJECT_NET["tiny"],
                "latent": 16,
                "encoder_widths": [16, 16, 16],
                "decoder_widths": [16, 16, 16, 16],
                "label_weight": 20.0,
            },
            **TINY,
        ),
        "quick": Preset(
            32,
            4,
            256,
            {
                "classifier_settings": OBJECT_NET["quick"],
                "latent": 128,
                "encoder_widths": [48, 96, 128],
                "decoder_widths": [128, 96, 64, 32],
                "label_weight": 200.0,
            },
            augment={"flip": True},
        ),
        "full": Preset(
            32,
            100,
            256,
            {
                "classifier_settings": OBJECT_NET["full"],
                "latent": 128,
                "encoder_widths": [128, 256, 256],
                "encoder_depth": 1,
                "decoder_widths": [320, 256, 192, 128],
                "decoder_depth": 1,
                "label_weight": 400.0,
                "learning_rate": 1e-3,
            },
        ),
    },
}
PRESET_NAMES = ("tiny", "quick", "full")


def default_preset(experiment: str | None = None) -> str:
    """`$S18_PRESET`, or `full` on a GPU and `quick` on a CPU.

    On a CPU, too, it is `full` for an experiment whose weights at `full` come with the repository.
    """
    preset = os.environ.get("S18_PRESET")
    if not preset:
        published = read_record(PUBLISHED / experiment) if experiment else None
        ready = published and published.has_weights and published.metrics["preset"] == "full"
        preset = "full" if ready or device().type == "cuda" else "quick"
    check_choice("preset", preset, PRESET_NAMES)
    return preset


def get_preset(experiment: str, preset: str) -> Preset:
    """The settings of a preset for an experiment; an InputError lists the names there are."""
    check_choice("preset", preset, PRESET_NAMES)
    spec = get_experiment(experiment)
    return PRESETS[spec.name if spec.name in PRESETS else spec.family][preset]
