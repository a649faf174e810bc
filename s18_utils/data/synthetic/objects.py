"""Ten kinds of objects in colour, a stand-in for CIFAR-10.

A kind is a function that lists parts, from back to front: a signed distance and which of the picture's paints
fills it. Paints, scenery, size, place and tilt are drawn independently of the class, so that a picture's
colour layout can survive when the class is changed.
"""

import math

import torch
from torch import Tensor

from s18_utils.data.synthetic._drawing import Dice, bone, box, cover, in_chunks, noise, plane, to_bytes, turn

SIZE = 32
CHUNK = 250
MAIN, SECOND, DARK, PALE = range(4)  # paints
Part = tuple[Tensor, int]


def objects(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws objects in front of scenery, in every class about as often.

    Args:
        count: how many, at least 1.
        seed: any integer; the same one gives the same bytes.

    Returns:
        Images, uint8 (count, 3, 32, 32), and labels, int64 (count,), 0 to 9, numbers into `OBJECT_CLASSES`.

    Raises:
        InputError: `count` is too small.
    """
    return in_chunks(draw_chunk, count, CHUNK, seed)


def disc(x: Tensor, y: Tensor, centre_x, centre_y, radius) -> Tensor:
    """Signed distance to a disc."""
    return torch.hypot(x - centre_x, y - centre_y) - radius


def taper(x: Tensor, y: Tensor, top, bottom, half_top, half_bottom) -> Tensor:
    """Signed distance, true near the outline, to a trapezium around x = 0, or triangle (half-width 0)."""
    slope = (half_bottom - half_top) / (bottom - top)
    flank = (x.abs() - half_top - (y - top) * slope) / (1 + slope**2) ** 0.5
    return torch.maximum(flank, torch.maximum(top - y, y - bottom))


# Each kind gets coordinates, (N, H, W), in which it reaches from about −1 to 1, and four whims from 0 to 1,
# (N, 1, 1), that set its proportions.


def house(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    width, eaves, door, _ = whims
    width, eaves = 0.55 + 0.2 * width, -0.25 + 0.25 * eaves
    door = -0.35 + 0.7 * door
    return [
        (box(x - 0.4, y + 0.65, 0.11, 0.3), DARK),
        (box(x, y - (eaves + 0.85) / 2, width, (0.85 - eaves) / 2), MAIN),
        (taper(x, y, -0.95, eaves, 0.0, width + 0.2), SECOND),
        (box(x - door, y - 0.6, 0.14, 0.26), DARK),
        (box((x - door).abs() - 0.36, y - 0.42, 0.1, 0.11), PALE),
    ]


def tree(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    conifer, width, lean, _ = whims
    width = 0.5 + 0.2 * width
    tops = (-1, -0.62, -0.2)
    crowns = [taper(x, y, top, top + 0.75, 0.0, width * (0.65 + 0.35 * k)) for k, top in enumerate(tops)]
    leaves = [
        disc(x, y, 0.25 * (lean - 0.5), -0.45, 0.48),
        disc(x, y, -0.38, -0.12, width - 0.12),
        disc(x, y, 0.38, -0.1, width - 0.15),
    ]
    parts = [(box(x, y - 0.65, 0.1, 0.35), DARK)]
    for crown, leaf in zip(reversed(crowns), reversed(leaves), strict=True):
        parts.append((torch.where(conifer < 0.5, crown, leaf), MAIN))
    return parts


def car(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    roof, long, wheel, _ = whims
    roof, long, wheel = -0.5 - 0.2 * roof, 0.85 + 0.12 * long, 0.2 + 0.06 * wheel
    parts = [
        (taper(x + 0.1, y, roof, 0.05, 0.35, 0.62), MAIN),
        (torch.maximum(taper(x + 0.1, y, roof + 0.12, 0.0, 0.27, 0.46), 0.05 - (x + 0.1).abs()), PALE),
        (box(x, y - 0.2, long, 0.25, 0.14), MAIN),
        (box(x - long + 0.1, y - 0.15, 0.08, 0.08), PALE),
    ]
    for side in (-0.5, 0.5):
        parts += [(disc(x, y, side, 0.45, wheel), DARK), (disc(x, y, side, 0.45, wheel * 0.4), PALE)]
    return parts


def boat(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    mast, wide, jib, _ = whims
    mast, wide, jib = -0.15 + 0.3 * mast, 0.7 + 0.2 * wide, 0.3 + 0.3 * jib
    main_sail = torch.maximum(taper(x - mast, y, -0.95, 0.3, 0.0, 0.75), mast + 0.05 - x)
    return [
        (bone(x, y, mast, -0.95, mast, 0.5, 0.045, 0.045), DARK),
        (main_sail, PALE),
        (torch.maximum(taper(x - mast, y, -0.75, 0.3, 0.0, jib), x - mast + 0.05), SECOND),
        (taper(x, y, 0.42, 0.85, wide, wide - 0.3), MAIN),
    ]


def fish(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    fat, tail, band, _ = whims
    fat, tail, band = 0.32 + 0.16 * fat, 0.3 + 0.2 * tail, -0.3 + 0.4 * band
    # A lens: where two large discs overlap. The half-length 0.65 and the half-height fix their radius.
    radius = (0.65**2 + fat**2) / (2 * fat)
    body = torch.maximum(disc(x, y, 0.15, radius - fat, radius), disc(x, y, 0.15, fat - radius, radius))
    return [
        (taper(y, x + 1.0, 0.0, 0.65, tail, 0.0), SECOND),
        (taper(x - 0.1, y, -fat - 0.2, 0.0, 0.05, 0.3), SECOND),
        (body, MAIN),
        (torch.maximum(body, (x - band).abs() - 0.08), SECOND),
        (disc(x, y, 0.52, -0.1, 0.09), PALE),
        (disc(x, y, 0.54, -0.1, 0.05), DARK),
    ]


def flower(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    petals, deep, leaf, bend = whims
    petals, deep, bend = 5 + (petals * 3).floor(), 0.1 + 0.08 * deep, -0.25 + 0.5 * bend
    away, angle = torch.hypot(x, y + 0.35), torch.atan2(y + 0.35, x)
    return [
        (bone(x, y, 0, -0.2, bend, 1.0, 0.06, 0.07), DARK),
        (bone(x, y, 0.6 * bend, 0.65, 0.6 * bend + 0.4, 0.4 + 0.3 * leaf, 0.07, 0.13), DARK),
        (away - 0.46 - deep * torch.cos(petals * angle), MAIN),
        (away - 0.2, SECOND),
    ]


def mug(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    width, tall, band, handle = whims
    width, tall, handle = 0.42 + 0.14 * width, 0.5 + 0.2 * tall, 0.24 + 0.1 * handle
    wall = box(x + 0.15, y - 0.05, width, tall, 0.1)
    ring = disc(x, y, width - 0.12, 0.05, handle).abs() - 0.08
    rim = torch.hypot((x + 0.15) * 0.4, y + tall - 0.05) - 0.37 * width
    return [
        (ring, MAIN),
        (wall, MAIN),
        (torch.maximum(wall, (y - 0.1 - 0.3 * band).abs() - 0.12), SECOND),
        (rim, PALE),
        (rim + 0.06, DARK),
    ]


def aeroplane(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    sweep, span, tail, _ = whims
    sweep, span, tail = 0.15 + 0.4 * sweep, 0.8 + 0.15 * span, 0.3 + 0.1 * tail
    parts = []
    for side in (-1, 1):
        parts.append((bone(x, y, 0.15, 0, 0.15 - sweep, side * span, 0.2, 0.07), SECOND))
        parts.append((bone(x, y, -0.75, 0, -0.75 - sweep / 2, side * tail, 0.12, 0.06), SECOND))
    parts.append((bone(x, y, -0.85, 0, 0.8, 0, 0.09, 0.16), MAIN))
    parts.append((bone(x, y, 0.72, -0.06, 0.72, 0.06, 0.07, 0.07), DARK))
    return parts


def umbrella(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    wide, high, _, hook = whims
    wide, high, hook = 0.8 + 0.15 * wide, 0.7 + 0.2 * high, 0.14 + 0.06 * hook
    # Half an ellipse with scallops along its lower edge.
    dome = (torch.hypot(x / wide, (y - 0.05) / high) - 1) * high
    scallop = y + 0.12 * torch.cos(x / wide * (3 * math.pi)).abs()
    canopy = torch.maximum(dome, scallop)
    return [
        (bone(x, y, 0, -0.95, 0, 0.8, 0.05, 0.05), DARK),
        (torch.maximum(disc(x, y, hook, 0.8, hook).abs() - 0.05, 0.8 - y), DARK),
        (canopy, MAIN),
        (torch.maximum(canopy, x.abs() - wide / 3 * (1 - (y / high) ** 2).clamp(min=0) ** 0.5), SECOND),
    ]


def ladder(x: Tensor, y: Tensor, whims: list[Tensor]) -> list[Part]:
    narrow, offset, gap, thick = whims
    foot, head, thick = 0.5 + 0.1 * narrow, 0.3 + 0.15 * narrow, 0.07 + 0.03 * thick
    gap = 0.34 + 0.1 * gap
    rungs = [
        (box(x, y + 0.75 - 0.15 * offset - k * gap, head + (foot - head) * (k + 1) / 5, thick), SECOND)
        for k in range(4)
    ]
    rails = [bone(x, y, side * head, -0.95, side * foot, 0.95, thick, thick) for side in (-1, 1)]
    return rungs + [(rail, MAIN) for rail in rails]


KINDS = (house, tree, car, boat, fish, flower, mug, aeroplane, umbrella, ladder)
OBJECT_CLASSES = tuple(kind.__name__ for kind in KINDS)


def draw_chunk(dice: Dice) -> tuple[Tensor, Tensor]:
    """Images and labels of a chunk, as `objects` returns them."""
    labels = dice.labels(len(KINDS))
    x, y = plane(SIZE)
    scene = draw_scenery(dice, x, y)
    paints = draw_paints(dice, scene)

    scale, mirror = dice.uniform(0.58, 0.92), dice.chance(0.5) * 2 - 1
    room = 1.05 - scale
    local_x, local_y = turn(x - room * dice.uniform(-1, 1), y - room * dice.uniform(-1, 1), dice.normal(0.2))
    local_x, local_y = local_x * mirror / scale, local_y / scale
    whims = dice.uniform(0, 1, 4)
    sheen, contour, grain = dice.uniform(0, 0.3), dice.uniform(0.1, 0.5), 0.08 * noise(dice, 12, SIZE)

    for label, kind in enumerate(KINDS):
        rows = labels == label
        scale_here, picture = scale[rows], scene[rows]
        tone = 1 - sheen[rows] * local_y[rows] + grain[rows]
        parts = kind(local_x[rows], local_y[rows], list(whims[rows].view(-1, 4, 1, 1).unbind(1)))
        for distance, paint in parts:
            distance = distance * scale_here
            shade = tone * (1 - contour[rows] * torch.exp(distance.clamp(max=0) / 0.06))
            colour = paints[rows, paint].view(-1, 3, 1, 1) * shade.unsqueeze(1)
            picture = torch.lerp(picture, colour, cover(distance, 0.08).unsqueeze(1))
        scene[rows] = picture

    gain = 1 + dice.normal(0.08, 1, 1, 1)
    return to_bytes(scene * gain + 0.02 * dice.normal(1, 3, SIZE, SIZE)), labels


def draw_scenery(dice: Dice, x: Tensor, y: Tensor) -> Tensor:
    """Sky and ground, or wall and floor, with a few soft things on them, in any colours: (N, 3, 32, 32)."""
    halves = []
    for _ in range(2):
        along, _ = turn(x, y, dice.uniform(0, 2 * math.pi))
        halves.append(muted(dice) + dice.normal(0.1, 3, 1, 1) * along.unsqueeze(1))
    horizon = y + dice.normal(0.15) * x - dice.uniform(-0.6, 1.1) + 0.06 * noise(dice, 5, SIZE)
    scene = torch.lerp(*halves, cover(-horizon, 0.15).unsqueeze(1))
    for _ in range(3):
        centre_x, centre_y = dice.uniform(-1, 1), dice.uniform(-1, 1)
        thing = disc(x, y * dice.uniform(0.6, 2), centre_x, centre_y, dice.uniform(0, 0.5))
        share = cover(thing, 0.25) * dice.uniform(0, 0.8)
        scene = torch.lerp(scene, muted(dice), share.unsqueeze(1))
    return scene + (dice.uniform(0, 0.06) * noise(dice, 14, SIZE)).unsqueeze(1)


def muted(dice: Dice) -> Tensor:
    """A colour for each picture, (N, 3, 1, 1), halfway to a grey, as scenery has them."""
    return torch.lerp(dice.uniform(0.15, 0.9, 1, 1, 1), dice.uniform(0, 1, 3, 1, 1), 0.5)


def draw_paints(dice: Dice, scene: Tensor) -> Tensor:
    """The four paints of each picture, (N, 4, 3); the first two stand out from scene and each other."""
    taken = [scene.mean(dim=(2, 3))]
    for _ in range(2):
        candidates = dice.uniform(0.05, 0.98, 5, 3)
        contrast = torch.cdist(candidates, torch.stack(taken, dim=1)).amin(dim=2)
        best = contrast.argmax(dim=1)
        taken.append(candidates[torch.arange(dice.count), best])
    dark, pale = dice.uniform(0.03, 0.28, 3), dice.uniform(0.78, 1.0, 3)
    return torch.stack([*taken[1:], dark, pale], dim=1)
