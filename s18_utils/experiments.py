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
        title: what is shown above figures.
        family: which module trains it: `unet`, `cvae` or `classifier`.
        data: the data set, a name that `open_data` knows.
        model: the module's arguments that make this experiment what it is.
        notebook: its notebook, without the ending.
        needs: experiments that are trained before it, by the role they have in it.
        seed: the first seed; a judge's is its own.
    """

    name: str
    title: str
    family: str
    data: str
    model: dict
    notebook: str = ""
    needs: dict = field(default_factory=dict)
    seed: int = 0

    def build(self, settings: dict):
        """A new, untrained Lightning module of this experiment at the scale of `settings`, a preset's `module`.

        What stands in both is taken from `settings`.
        """
        from s18_utils.cvae import ClassifierModule, CVAEModule
        from s18_utils.unet import UNetModule

        families = {"unet": UNetModule, "cvae": CVAEModule, "classifier": ClassifierModule}
        return families[self.family](**self.model | settings)


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
        Experiment(
            name="cvae-mnist",
            notebook="05_cvae_mnist",
            title="Conditional VAE on MNIST",
            family="cvae",
            data="mnist",
            model={"image_shape": [1, 28, 28], "classifier": "DigitNet"},
            needs={"classifier": "classifier-mnist", "judge": "judge-mnist"},
        ),
        Experiment(
            name="cvae-cifar10",
            notebook="06_cvae_cifar10",
            title="Conditional VAE on CIFAR-10",
            family="cvae",
            data="cifar10",
            model={
                "image_shape": [3, 32, 32],
                "classifier": "ObjectNet",
                "latent_noise": 0.1,
                "latent_reach": 0.3,
                "shift": 3,
                "noise": 0.1,
            },
            needs={"classifier": "classifier-cifar10", "judge": "judge-cifar10"},
        ),
    )
}

# What the conditional VAEs lean on: a CNN that is frozen inside their loss, and a judge that takes no part in it.
CLASSIFIERS = {
    row.name: row
    for row in (
        Experiment("classifier-mnist", "Frozen CNN for MNIST", "classifier", "mnist", {"net": "DigitNet"}),
        Experiment("judge-mnist", "Judge for MNIST", "classifier", "mnist", {"net": "DigitJudge"}, seed=101),
        Experiment("classifier-cifar10", "Frozen CNN for CIFAR-10", "classifier", "cifar10", {"net": "ObjectNet"}),
        Experiment("judge-cifar10", "Judge for CIFAR-10", "classifier", "cifar10", {"net": "ObjectJudge"}, seed=101),
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment of that name, or the classifier; an InputError lists the names there are."""
    known = EXPERIMENTS | CLASSIFIERS
    check_choice("experiment", name, known)
    return known[name]
