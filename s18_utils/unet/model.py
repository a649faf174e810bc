"""UNet (Ronneberger, Fischer & Brox 2015, https://arxiv.org/abs/1505.04597) with the choices under study.

An encoder halves the resolution four times, a decoder doubles it four times, and at every level a *skip connection*
hands the encoder's features to the decoder, which would otherwise have to guess where the edges were. How the
resolution goes down (`down`) and up (`up`) is what the experiments vary. The shapes beside the lines are those of a
128 px image at width 64, as channels × height × width.
"""

import torch
from torch import Tensor, nn

DOWN = ("maxpool", "strided")
UP = ("transpose", "bilinear")
STRIDE = 2**4  # four halvings: sides must be multiples of it


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

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:  # up1: 1024×8×8 and 512×16×16
        x = self.enlarge(below)  # 512×16×16
        x = torch.cat([skip, x], dim=1)  # 1024×16×16
        return self.conv(x)  # 512×16×16


class UNet(nn.Module):
    """Scores every pixel of an image for every class.

    Args:
        down: `maxpool` or `strided`.
        up: `transpose` or `bilinear`.
        in_channels: channels of the image.
        classes: number of classes.
        width: channels of the first level, even; each of the four levels below doubles them. 64 is the paper's.
        skip: with False the decoder gets zeros in place of the encoder's features, and has as many parameters.
    """

    def __init__(self, down: str, up: str, *, in_channels: int, classes: int, width: int, skip: bool = True):
        super().__init__()
        self.skip = skip
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

        H and W must be multiples of 16; `UNetModule` takes any.
        """
        x = images * 2 - 1  # 3×128×128, now in [−1, 1]
        x1 = self.inc(x)  # 64×128×128
        x2 = self.down1(x1)  # 128×64×64
        x3 = self.down2(x2)  # 256×32×32
        x4 = self.down3(x3)  # 512×16×16
        x = self.down4(x4)  # 1024×8×8; with bilinear from here to `up3` half the channels
        if not self.skip:
            x1, x2, x3, x4 = (torch.zeros_like(skip) for skip in (x1, x2, x3, x4))
        x = self.up1(x, x4)  # 512×16×16
        x = self.up2(x, x3)  # 256×32×32
        x = self.up3(x, x2)  # 128×64×64
        x = self.up4(x, x1)  # 64×128×128
        return self.outc(x)  # 3×128×128, a score for each class
