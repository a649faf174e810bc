"""UNet (Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597) with the two choices under study.

An encoder halves the resolution four times, a decoder doubles it four times, and at every level a *skip connection*
hands the encoder's features to the decoder, which would otherwise have to guess where the edges were. How the
resolution goes down (`down`) and up (`up`) is what the four experiments vary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.errors import InputError, check_choice

DOWN = ("maxpool", "strided")
UP = ("transpose", "bilinear")
LEVELS = 4
SMALLEST = 2**LEVELS  # one pixel is left at the bottom


class DoubleConv(nn.Sequential):
    """(3×3 convolution, batch norm, ReLU) twice; keeps H×W."""

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int | None = None):
        mid_channels = mid_channels or out_channels
        super().__init__(
            nn.Conv2d(in_channels, mid_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Down(nn.Sequential):
    """Halves H×W, then `DoubleConv`.

    `maxpool` keeps the largest of every 2×2 pixels and has no parameters. `strided` learns its filter instead: a 3×3
    convolution that moves two pixels at a time and brings the channels to `out_channels` already.
    """

    def __init__(self, in_channels: int, out_channels: int, down: str):
        if down == "maxpool":
            super().__init__(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))
        else:
            halve = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
            super().__init__(halve, DoubleConv(out_channels, out_channels))


class Up(nn.Module):
    """Doubles H×W, joins the skip connection, then `DoubleConv`.

    `transpose` learns its 2×2 kernel, with stride 2 so that no two placements overlap, and halves the channels.
    `bilinear` interpolates and has no parameters, so the first convolution afterwards brings the channels down.
    """

    def __init__(self, in_channels: int, out_channels: int, up: str):
        super().__init__()
        if up == "transpose":
            self.enlarge = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
            self.conv = DoubleConv(in_channels, out_channels)
        else:
            self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.conv = DoubleConv(in_channels, out_channels, mid_channels=in_channels // 2)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.enlarge(below)], dim=1))


class UNet(nn.Module):
    """Scores every pixel of an image for every class.

    Args:
        down: `maxpool` or `strided`.
        up: `transpose` or `bilinear`.
        in_channels: channels of the image.
        classes: number of classes.
        width: channels of the first level; each of the four levels below doubles them. 64 is the paper's.

    The child modules carry the names `inc, down1 … down4, up1 … up4, outc`, as in the tables of the README.
    """

    def __init__(
        self, down: str = "maxpool", up: str = "transpose", in_channels: int = 3, classes: int = 3, width: int = 64
    ):
        super().__init__()
        check_choice("down-sampling", down, DOWN)
        check_choice("up-sampling", up, UP)
        if min(in_channels, classes, width) < 1 or width % 2:
            raise InputError(
                f"in_channels, classes and width must be positive and width even, not {in_channels}, {classes}, {width}"
            )
        self.in_channels = in_channels
        # Interpolation can't halve the channels as a transposed convolution does, so with `bilinear` every level
        # below hands up half as many.
        half = 2 if up == "bilinear" else 1
        self.inc = DoubleConv(in_channels, width)
        self.down1 = Down(width, width * 2, down)
        self.down2 = Down(width * 2, width * 4, down)
        self.down3 = Down(width * 4, width * 8, down)
        self.down4 = Down(width * 8, width * 16 // half, down)
        self.up1 = Up(width * 16, width * 8 // half, up)
        self.up2 = Up(width * 8, width * 4 // half, up)
        self.up3 = Up(width * 4, width * 2 // half, up)
        self.up4 = Up(width * 2, width, up)
        self.outc = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits), float (N, classes, H, W), for `images`, float (N, in_channels, H, W) in [0, 1].

        Any H and W from 16 up: what four halvings can't divide is padded with the edge pixels and cropped back.

        Raises:
            InputError: another shape, another number of channels, or a side under 16 pixels.
        """
        self.check(images)
        height, width = images.shape[-2:]
        x = images
        if height % SMALLEST or width % SMALLEST:
            x = F.pad(x, (0, -width % SMALLEST, 0, -height % SMALLEST), mode="replicate")
        x1 = self.inc(x * 2 - 1)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        x = self.down4(x4)
        x = self.up1(x, x4)
        x = self.up2(x, x3)
        x = self.up3(x, x2)
        x = self.up4(x, x1)
        return self.outc(x)[..., :height, :width]

    def check(self, images: Tensor) -> None:
        """Raises an InputError that names what does not fit about a batch of images."""
        if images.ndim != 4:
            raise InputError(
                f"images must be a batch of shape (N, C, H, W), not {tuple(images.shape)}: add the missing axis"
            )
        if images.shape[1] != self.in_channels:
            raise InputError(
                f"this UNet reads images of {self.in_channels} channels, not {images.shape[1]}: "
                f"convert them or build it with in_channels={images.shape[1]}"
            )
        if min(images.shape[-2:]) < SMALLEST:
            raise InputError(
                f"images must be at least {SMALLEST}×{SMALLEST} pixels, not {images.shape[-2]}×{images.shape[-1]}: "
                "resize them first"
            )
