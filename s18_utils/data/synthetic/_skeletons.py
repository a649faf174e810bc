"""Skeletons of animals: five poses of eleven bones, and two ears."""

from typing import NamedTuple

import torch
from torch import Tensor

from s18_utils.data.synthetic._drawing import Dice

# Each bone from a to b with its radii: ax, ay, bx, by, ra, rb. The animal looks to the right and is about 2
# across.
LAYERS = {
    "far": ("tail", "tail_tip", "far_hind", "far_front"),
    "body": ("body", "neck"),
    "near": ("thigh", "shin", "near_front"),
    "head": ("head", "muzzle"),
}
POSES = {
    "standing": {
        "tail": (-0.72, -0.12, -1.00, -0.38, 0.11, 0.10),
        "tail_tip": (-1.00, -0.38, -1.02, -0.72, 0.10, 0.08),
        "far_hind": (-0.32, 0.10, -0.34, 0.80, 0.20, 0.10),
        "far_front": (0.60, 0.10, 0.66, 0.80, 0.16, 0.10),
        "body": (-0.50, 0.00, 0.45, -0.02, 0.31, 0.34),
        "neck": (0.50, -0.10, 0.76, -0.45, 0.25, 0.19),
        "thigh": (-0.55, 0.10, -0.62, 0.44, 0.24, 0.13),
        "shin": (-0.62, 0.44, -0.56, 0.86, 0.12, 0.11),
        "near_front": (0.42, 0.10, 0.44, 0.86, 0.17, 0.11),
        "head": (0.80, -0.54, 0.88, -0.52, 0.28, 0.26),
        "muzzle": (0.90, -0.46, 1.08, -0.40, 0.16, 0.13),
    },
    "sitting": {
        "tail": (-0.45, 0.80, -0.85, 0.80, 0.12, 0.11),
        "tail_tip": (-0.85, 0.80, -1.02, 0.50, 0.11, 0.09),
        "far_hind": (-0.38, 0.60, -0.50, 0.86, 0.26, 0.13),
        "far_front": (-0.13, 0.05, -0.13, 0.90, 0.16, 0.12),
        "body": (0.00, 0.48, 0.00, -0.12, 0.46, 0.33),
        "neck": (0.00, -0.20, 0.02, -0.50, 0.29, 0.25),
        "thigh": (0.36, 0.60, 0.46, 0.84, 0.27, 0.15),
        "shin": (0.46, 0.86, 0.60, 0.90, 0.12, 0.11),
        "near_front": (0.15, 0.05, 0.18, 0.90, 0.17, 0.12),
        "head": (0.03, -0.68, 0.06, -0.67, 0.34, 0.33),
        "muzzle": (0.08, -0.58, 0.12, -0.53, 0.17, 0.15),
    },
    "lying": {
        "tail": (-0.85, 0.36, -1.12, 0.46, 0.12, 0.11),
        "tail_tip": (-1.12, 0.46, -1.36, 0.32, 0.11, 0.09),
        "far_hind": (-0.25, 0.42, 0.02, 0.48, 0.15, 0.11),
        "far_front": (0.50, 0.36, 1.08, 0.36, 0.15, 0.11),
        "body": (-0.55, 0.20, 0.38, 0.12, 0.37, 0.37),
        "neck": (0.42, 0.00, 0.62, -0.26, 0.28, 0.23),
        "thigh": (-0.55, 0.32, -0.40, 0.44, 0.29, 0.17),
        "shin": (-0.40, 0.48, -0.05, 0.52, 0.13, 0.11),
        "near_front": (0.40, 0.40, 0.98, 0.50, 0.16, 0.12),
        "head": (0.68, -0.38, 0.74, -0.36, 0.30, 0.29),
        "muzzle": (0.80, -0.30, 0.92, -0.24, 0.16, 0.14),
    },
    "curled": {
        "tail": (-0.70, 0.45, -0.35, 0.62, 0.14, 0.12),
        "tail_tip": (-0.35, 0.62, 0.05, 0.62, 0.12, 0.10),
        "far_hind": (-0.20, 0.40, 0.00, 0.50, 0.18, 0.13),
        "far_front": (0.30, 0.50, 0.60, 0.56, 0.14, 0.12),
        "body": (-0.30, 0.14, 0.20, 0.18, 0.48, 0.46),
        "neck": (0.30, 0.10, 0.48, 0.10, 0.34, 0.28),
        "thigh": (-0.45, 0.32, -0.25, 0.44, 0.30, 0.18),
        "shin": (-0.25, 0.54, 0.05, 0.56, 0.13, 0.11),
        "near_front": (0.25, 0.48, 0.50, 0.58, 0.15, 0.12),
        "head": (0.56, 0.12, 0.62, 0.13, 0.31, 0.30),
        "muzzle": (0.64, 0.22, 0.72, 0.27, 0.16, 0.14),
    },
    "portrait": {
        "tail": (-0.30, 1.50, -0.40, 1.60, 0.20, 0.20),
        "tail_tip": (-0.40, 1.60, -0.50, 1.70, 0.20, 0.20),
        "far_hind": (-0.40, 1.40, -0.40, 1.90, 0.30, 0.30),
        "far_front": (-0.34, 0.90, -0.36, 1.90, 0.26, 0.22),
        "body": (-0.05, 1.50, 0.00, 0.66, 0.66, 0.46),
        "neck": (0.00, 0.56, 0.03, 0.10, 0.42, 0.38),
        "thigh": (0.40, 1.40, 0.45, 1.60, 0.30, 0.20),
        "shin": (0.45, 1.60, 0.40, 1.90, 0.20, 0.20),
        "near_front": (0.30, 0.90, 0.34, 1.90, 0.28, 0.22),
        "head": (0.04, -0.16, 0.10, -0.14, 0.50, 0.48),
        "muzzle": (0.12, 0.04, 0.20, 0.12, 0.25, 0.22),
    },
}
POSE_WEIGHTS = (0.26, 0.26, 0.18, 0.12, 0.18)
POSE_TABLE = torch.tensor([list(pose.values()) for pose in POSES.values()])  # (poses, bones, 6)
HEAD = list(POSES["standing"]).index("head")
MUZZLE = HEAD + 1


class Skeleton(NamedTuple):
    """The bones of each animal of a chunk, in its own frame; a bone is a row of ax, ay, bx, by, ra, rb.

    `bones` is (N, 11, 6), in the order of `LAYERS`, `ears` is (N, 2, 6), and `hanging`, (N, 1, 1), is 1 where
    the ears hang along the head and 0 where they stand on it.
    """

    bones: Tensor
    ears: Tensor
    hanging: Tensor


def draw_skeletons(dice: Dice) -> Skeleton:
    """A pose for each animal, with bones a little out of place and out of shape."""
    bones = POSE_TABLE[dice.pick(POSE_WEIGHTS)]
    joints = bones[..., :4] + dice.normal(0.035, bones.shape[1], 4)
    fatness = dice.normal(0.12, 1, 1) + dice.normal(0.09, bones.shape[1], 2)
    bones = torch.cat([joints, bones[..., 4:] * fatness.exp()], dim=-1)

    # Where ears start and end and how thick they are, in head radii from the head's centre.
    hanging = dice.chance(0.45)
    pointed = torch.tensor([0.62, -0.60, 0.90, -1.45, 0.36, 0.10])
    hung = torch.tensor([0.80, -0.55, 1.10, 0.40, 0.24, 0.30])
    ears = torch.lerp(pointed, hung, hanging).repeat(1, 2, 1)
    ears[..., 2:4] = torch.lerp(ears[..., 0:2], ears[..., 2:4], dice.uniform(0.8, 1.25))
    ears += dice.normal(0.05, 1, 6)
    ears[..., 2:4] += dice.normal(0.06, 2, 2)
    ears[:, 0, [0, 2]] *= -1
    ears[..., 4:].clamp_(min=0.08)
    head = bones[:, HEAD : HEAD + 1]
    ears *= head[..., 4:5]
    ears[..., :4] += head[..., [0, 1, 0, 1]]
    return Skeleton(bones, ears, hanging)
