"""Pet-like animals with trimaps, a stand-in for Oxford-IIIT Pet.

An animal is a skeleton of bones, each a rounded bar, melted together. The union of their signed distances
gives the trimap: inside, outside, and a band along the outline. Furs, floors, walls and furniture take their
colours and patterns from the same stock, so that no pixel tells by its colour alone what it shows.
"""

import math
from functools import partial, reduce

import torch
from torch import Tensor

from s18_utils.data.synthetic._drawing import Dice, bone, box, cover, in_chunks, noise, plane, to_bytes, turn
from s18_utils.data.synthetic._skeletons import HEAD, LAYERS, MUZZLE, Skeleton, draw_skeletons
from s18_utils.errors import InputError

CHUNK = 32
CLUTTER = 7

FUR_COLOURS = torch.tensor(
    [
        (0.10, 0.09, 0.09), (0.90, 0.88, 0.84), (0.50, 0.49, 0.48), (0.72, 0.56, 0.39), (0.78, 0.48, 0.22),
        (0.36, 0.23, 0.15), (0.86, 0.76, 0.60), (0.38, 0.40, 0.44), (0.58, 0.38, 0.24),
    ]
)  # fmt: skip
PLACE_COLOURS = torch.tensor(
    [
        (0.36, 0.50, 0.20), (0.52, 0.62, 0.32), (0.56, 0.17, 0.16), (0.27, 0.36, 0.56), (0.62, 0.72, 0.82),
        (0.24, 0.42, 0.42), (0.60, 0.42, 0.50),
    ]
)  # fmt: skip
IRIS_COLOURS = torch.tensor([(0.75, 0.55, 0.15), (0.50, 0.62, 0.25), (0.35, 0.20, 0.10), (0.40, 0.58, 0.75)])


def pets(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws animals over clutter, and their trimaps.

    A scene is the same at every size. Over many scenes about 30 % of the pixels are pet, 58 % background and
    12 % border, as in Oxford-IIIT Pet.

    Args:
        count: how many, at least 1.
        size: side of the images in pixels, at least 16.
        seed: any integer; the same one gives the same bytes.

    Returns:
        Images, uint8 (count, 3, size, size), and masks, uint8 (count, size, size), of classes 0 pet, 1
        background, 2 border.

    Raises:
        InputError: `count` or `size` is too small.
    """
    if size < 16:
        raise InputError(f"can't draw pets of {size} pixels: choose a size of at least 16")
    return in_chunks(partial(draw_chunk, size=size), count, CHUNK, seed)


def draw_chunk(dice: Dice, size: int) -> tuple[Tensor, Tensor]:
    """Images and masks of a chunk, as `pets` returns them."""
    x, y = plane(size)
    textures = [noise(dice, cells, size) for cells in (5, 12, 40)]
    scene = draw_place(dice, x, y, textures)

    skeletons = draw_skeletons(dice)
    local_x, local_y, scale = place_animals(dice, x, y, skeletons)
    # Bending the plane by a little noise makes the outline uneven and leaves distances nearly true.
    local_x, local_y = (v + 0.06 * noise(dice, 6, size) for v in (local_x, local_y))
    frayed_x, frayed_y = (v + 0.012 * noise(dice, 24, size) for v in (local_x, local_y))
    # The place's own textures, mirrored, so that they do not run on from the place into the fur.
    furs = [texture.flip(2) for texture in textures]
    animal, distance = draw_animals(dice, frayed_x, frayed_y, skeletons, furs)
    animal = draw_faces(dice, animal, local_x, local_y, skeletons)
    distance = distance * scale

    scene = scene * (1 - dice.uniform(0, 0.45) * torch.exp(-distance.clamp(min=0) / 0.12)).unsqueeze(1)
    edge = cover(distance + dice.uniform(0, 0.03) * textures[2], 2.5 / size + 0.01)
    scene = torch.lerp(scene, animal, edge.unsqueeze(1))
    scene = light(dice, scene, x, y)

    # Large animals get the same band, small ones a narrower one, so that their legs stay more than border.
    band = (0.075 * scale).clamp(max=0.052).clamp(min=1 / size)
    masks = (distance > -band).to(torch.uint8) + (distance.abs() < band).to(torch.uint8)
    return to_bytes(scene), masks


def colours(dice: Dice, share_of_fur: float) -> Tensor:
    """A slightly varied colour for each picture, (N, 3, 1, 1), a fur's with probability `share_of_fur`."""
    fur = FUR_COLOURS[dice.pick([1.0] * len(FUR_COLOURS))]
    place = PLACE_COLOURS[dice.pick([1.0] * len(PLACE_COLOURS))]
    colour = torch.where(dice.chance(share_of_fur).view(-1, 1) > 0, fur, place)
    return (colour * dice.uniform(0.75, 1.25, 1) + dice.normal(0.025, 3)).clamp(0.03, 0.97).view(-1, 3, 1, 1)


def pattern(dice: Dice, x: Tensor, y: Tensor, textures: list[Tensor]) -> Tensor:
    """Where a second colour shows, 0 to 1, (N, H, W): nowhere, in patches, in stripes, as on fur or cloth."""
    coarse, middle, _ = textures
    kind = dice.pick([0.4, 0.3, 0.3]).view(-1, 1, 1)
    across, _ = turn(x, y, dice.uniform(-0.6, 0.6))
    stripes = torch.sin(across * dice.uniform(9, 26) + 1.2 * middle + 1.5 * coarse)
    patches = (coarse + 0.25 * middle + dice.uniform(-0.5, 0.3)) * 4
    shown = torch.where(kind == 1, patches, stripes * 1.5 - 0.3).clamp(0, 1)
    return shown * (kind > 0) * dice.uniform(0.4, 1)


def draw_place(dice: Dice, x: Tensor, y: Tensor, textures: list[Tensor]) -> Tensor:
    """A wall, a floor and clutter, (N, 3, H, W)."""
    coarse, middle, fine = textures
    horizon = y + x * dice.normal(0.12) - dice.uniform(-1.2, 1.0)
    surfaces = []
    for _ in range(2):
        along, _ = turn(x, y, dice.uniform(0, 2 * math.pi))
        shade = 1 + 0.2 * along + dice.uniform(0, 0.1) * coarse
        shade = shade + dice.uniform(-0.1, 0.12).clamp(min=0) * middle  # half of the surfaces are smooth
        shade = shade + dice.uniform(-0.1, 0.18).clamp(min=0) * fine
        second = (pattern(dice, x, y, textures) * dice.chance(0.4)).unsqueeze(1)
        surfaces.append(torch.lerp(colours(dice, 0.6), colours(dice, 0.6), second) * shade.unsqueeze(1))
    place = torch.lerp(*surfaces, cover(-horizon, 0.03).unsqueeze(1))

    for _ in range(CLUTTER):
        item_x, item_y = turn(x - dice.uniform(-1.1, 1.1), y - dice.uniform(-1.0, 1.1), dice.normal(0.5))
        width, height = dice.uniform(0.08, 0.6), dice.uniform(0.08, 0.5)
        rounding = dice.uniform(0, 1) * torch.minimum(width, height)
        bend = dice.uniform(-0.05, 0.06).clamp(min=0)
        distance = box(item_x + bend * coarse, item_y + bend * middle, width, height, rounding)
        shade = 1.05 - 0.35 * torch.exp(distance.clamp(max=0) / 0.1) - 0.15 * item_y / height
        shade = shade + dice.uniform(0, 0.12) * fine
        second = pattern(dice, item_x, item_y, textures).unsqueeze(1)
        item = torch.lerp(colours(dice, 0.7), colours(dice, 0.7), second) * shade.unsqueeze(1)
        place = torch.lerp(place, item, (cover(distance, 0.03) * dice.chance(0.55)).unsqueeze(1))
    return place


def place_animals(dice: Dice, x: Tensor, y: Tensor, skeletons: Skeleton) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in the animals' own frames, both (N, H, W), and the size of a frame's unit, (N, 1, 1)."""
    head_x, head_y = (skeletons.bones[:, HEAD, axis].view(-1, 1, 1) for axis in (0, 1))
    scale = (dice.normal(0.33) - 0.07).exp().clamp(0.3, 1.5)
    mirror = dice.chance(0.5) * 2 - 1
    # People point the camera at the face: the closer the animal, the more of its body is cut off instead.
    aim = dice.uniform(0.3, 0.9) * scale
    x = x - dice.normal(0.22) + aim * mirror * head_x
    y = y - dice.normal(0.18) + aim * head_y
    x, y = turn(x, y, dice.normal(0.18))
    return x * mirror / scale, y / scale, scale


def melt(first: Tensor, second: Tensor, width: float) -> Tensor:
    """The union of two signed distances with the corner between them filled up, `width` wide."""
    overlap = (width - (first - second).abs()).clamp(min=0)
    return torch.minimum(first, second) - overlap * overlap * (0.25 / width)


def draw_animals(
    dice: Dice, x: Tensor, y: Tensor, skeletons: Skeleton, textures: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Fur, (N, 3, H, W), and signed distances to the outlines, (N, H, W), in units of the animals' frames."""
    coarse, middle, fine = textures
    bones = [bone(x, y, *row.view(len(row), 6, 1, 1).unbind(1)) for row in skeletons.bones.unbind(1)]
    ears = [bone(x, y, *row.view(len(row), 6, 1, 1).unbind(1)) for row in skeletons.ears.unbind(1)]
    # Layers by name, the ears' own and those of `LAYERS`.
    layers = {"ears": torch.minimum(*ears)}
    for name, members in LAYERS.items():
        layers[name] = reduce(partial(melt, width=0.1), bones[: len(members)])
        bones = bones[len(members) :]
    whole = reduce(partial(melt, width=0.06), layers.values())

    # Each layer is darker towards its own outline, which sets a leg off from the body behind it. Points, as
    # Siamese cats have them, are extremities in the second colour.
    shade = torch.full_like(whole, 0.8)
    second = torch.zeros_like(whole)
    points = dice.uniform(0.5, 1) * dice.chance(0.3)
    depth = dice.uniform(0.2, 0.45)
    order = (  # from back to front: brightness, share of the points, whether it shows
        ("far", 0.85, 1.0, 1.0),
        ("body", 1.0, 0.0, 1.0),
        ("near", 1.02, 0.8, 1.0),
        ("ears", 0.92, 1.0, 1 - skeletons.hanging),
        ("head", 1.05, 0.0, 1.0),
        ("ears", 0.9, 1.0, skeletons.hanging),
    )
    for name, brightness, pointed, shown in order:
        inside = layers[name]
        alpha = cover(inside, 0.04) * shown
        shade = torch.lerp(shade, brightness * (1 - depth * torch.exp(inside.clamp(max=0) / 0.09)), alpha)
        second = torch.lerp(second, points * pointed, alpha)
    second = torch.maximum(second, pattern(dice, x, y, textures))
    belly = dice.chance(0.4) * dice.uniform(0, 0.8) * (2.5 * y - 0.2 + 0.5 * coarse).clamp(0, 1)
    second = torch.maximum(second, belly).unsqueeze(1)

    shade = shade * (1 - 0.16 * y) + dice.uniform(0.02, 0.14) * fine + dice.uniform(0, 0.08) * middle
    look = torch.lerp(colours(dice, 1), colours(dice, 1), second) * shade.unsqueeze(1)
    return look, whole


def draw_faces(dice: Dice, look: Tensor, x: Tensor, y: Tensor, skeletons: Skeleton) -> Tensor:
    """Adds a paler muzzle, eyes and a nose."""
    head_x, head_y, radius = (skeletons.bones[:, HEAD, part].view(-1, 1, 1) for part in (0, 1, 4))
    muzzles = skeletons.bones[:, MUZZLE]
    nose_x, nose_y, nose_radius = (muzzles[:, part].view(-1, 1, 1) for part in (2, 3, 5))
    muzzle = cover(torch.hypot(x - nose_x, y - nose_y) - nose_radius, 0.12) * dice.uniform(0, 0.5)
    look = torch.lerp(look, torch.tensor([0.92, 0.86, 0.78]).view(1, 3, 1, 1), muzzle.unsqueeze(1))

    dark = torch.tensor([0.06, 0.05, 0.05]).view(1, 3, 1, 1)
    iris = IRIS_COLOURS[dice.pick([1.0] * len(IRIS_COLOURS))].view(-1, 3, 1, 1)
    middle_x, eye_y = head_x + 0.45 * (nose_x - head_x), head_y - 0.10 * radius
    for side in (-0.40, 0.40):
        away = torch.hypot(x - middle_x - side * radius, (y - eye_y) * 1.15)
        look = torch.lerp(look, iris, cover(away - 0.19 * radius, 0.03).unsqueeze(1))
        look = torch.lerp(look, dark, cover(away - 0.11 * radius, 0.03).unsqueeze(1))
        glint = torch.hypot(x - middle_x - (side + 0.05) * radius, y - eye_y + 0.06 * radius)
        look = torch.lerp(look, torch.ones(1), cover(glint - 0.05 * radius, 0.03).unsqueeze(1) * 0.9)
    nose = torch.hypot((x - nose_x) * 0.8, y - nose_y + 0.2 * nose_radius) - 0.42 * nose_radius
    return torch.lerp(look, dark, cover(nose, 0.04).unsqueeze(1) * 0.9)


def light(dice: Dice, scene: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Light from one side, darker corners, a tint, a little haze or shade, and the noise of a sensor."""
    along, _ = turn(x, y, dice.uniform(0, 2 * math.pi))
    gain = dice.uniform(0.9, 1.3) + dice.uniform(0, 0.25) * along - dice.uniform(0, 0.12) * (x * x + y * y)
    scene = scene * gain.unsqueeze(1) * (1 + dice.normal(0.035, 3, 1, 1))
    scene = scene + dice.uniform(-0.03, 0.06, 1, 1, 1)
    return scene + dice.uniform(0.005, 0.035, 1, 1, 1) * dice.normal(1, *scene.shape[1:])
