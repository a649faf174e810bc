"""UNets for segmentation: the model, what it is trained on, and its Lightning module."""

from s18_utils.unet.losses import CrossEntropyLoss, DiceLoss
from s18_utils.unet.model import UNet
from s18_utils.unet.module import UNetModule, uNetLightning

__all__ = ["CrossEntropyLoss", "DiceLoss", "UNet", "UNetModule", "uNetLightning"]
