"""The experiments, one row each: all that differs between them.

A new experiment is a new row here; a changed one is a changed row.
"""

from dataclasses import dataclass, field

from s18_utils.errors import check_choice


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: its id on the command line and in folder names.
        notebook: its notebook, without the ending.
        title: what is shown above figures.
        family: `unet`; which module trains it.
        data: the data set, a name that `open_data` knows.
        model: the module's arguments that make this experiment what it is.
    """

    name: str
    notebook: str
    title: str
    family: str
    data: str
    model: dict = field(default_factory=dict)


EXPERIMENTS = {
    row.name: row
    for row in (
        Experiment(
            name="unet-maxpool-transpose-bce",
            notebook="01_unet_maxpool_transpose_bce",
            title="UNet: max pooling, transposed convolution, cross-entropy",
            family="unet",
            data="pets",
            model={"down": "maxpool", "up": "transpose", "loss": "ce"},
        ),
        Experiment(
            name="unet-maxpool-transpose-dice",
            notebook="02_unet_maxpool_transpose_dice",
            title="UNet: max pooling, transposed convolution, Dice loss",
            family="unet",
            data="pets",
            model={"down": "maxpool", "up": "transpose", "loss": "dice"},
        ),
        Experiment(
            name="unet-strided-transpose-bce",
            notebook="03_unet_strided_transpose_bce",
            title="UNet: strided convolution, transposed convolution, cross-entropy",
            family="unet",
            data="pets",
            model={"down": "strided", "up": "transpose", "loss": "ce"},
        ),
        Experiment(
            name="unet-strided-upsample-dice",
            notebook="04_unet_strided_upsample_dice",
            title="UNet: strided convolution, bilinear up-sampling, Dice loss",
            family="unet",
            data="pets",
            model={"down": "strided", "up": "bilinear", "loss": "dice"},
        ),
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment of that name; an InputError lists the names there are."""
    check_choice("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
