"""Data sets drawn by the package itself, for tests and for when no real data can be reached.

`pets` stands in for Oxford-IIIT Pet, `digits` for MNIST and `objects` for CIFAR-10: same shapes, same classes or as
many. The same `count`, at least 1, and `seed`, any integer, give the same bytes, and the first images of a large set
are those of a smaller one. What may survive a change of class (slant and pen, colours) does not depend on the class.
"""

import math
from functools import partial, reduce
from itertools import product

import torch
from torch import Tensor

from s18_utils.data.shapes import Random, bone, box, cover, disc, draw_in_chunks, paint_over, plane, taper, turn

VERSION = 2  # goes up whenever a drawing changes, so that stores made from an older one are noticed


# Pets: a skeleton of rounded bars, whose signed distances give picture and trimap.

# fmt: off
FURS = (
    (0.10, 0.09, 0.09), (0.90, 0.88, 0.84), (0.50, 0.49, 0.48), (0.72, 0.56, 0.39), (0.78, 0.48, 0.22),
    (0.36, 0.23, 0.15), (0.86, 0.76, 0.60), (0.38, 0.40, 0.44), (0.58, 0.38, 0.24),
)
PLACES = (
    (0.36, 0.50, 0.20), (0.52, 0.62, 0.32), (0.56, 0.17, 0.16), (0.27, 0.36, 0.56), (0.62, 0.72, 0.82),
    (0.24, 0.42, 0.42), (0.60, 0.42, 0.50),
)
# Nine bones a pose, each from a to b with its radii, in hundredths: ax, ay, bx, by, ra, rb. The order is tail, far hind
# leg, far front leg, body, neck, near hind leg, near front leg, head, muzzle. The animal looks to the right. It stands,
# sits, lies, or is so near that head and chest fill the picture: two lines a pose.
POSES = torch.tensor([
    -70, -12, -104, -62, 12, 9, -32, 10, -34, 80, 20, 10, 60, 10, 66, 80, 16, 10, -50, 0, 45, -2, 31, 34, 50, -10, 76,
    -45, 25, 19, -56, 10, -58, 86, 25, 11, 42, 10, 44, 86, 17, 11, 80, -54, 88, -52, 29, 27, 90, -46, 110, -40, 17, 14,
    -40, 82, -95, 62, 13, 10, -36, 60, -50, 86, 26, 13, -13, 5, -13, 90, 16, 12, 0, 48, 0, -12, 46, 33, 0, -20, 2, -50,
    29, 25, 36, 60, 54, 88, 27, 13, 15, 5, 18, 90, 17, 12, 3, -68, 6, -67, 34, 33, 8, -58, 12, -53, 18, 15,
    -85, 36, -130, 36, 12, 9, -25, 42, 2, 48, 15, 11, 50, 36, 108, 36, 15, 11, -55, 20, 38, 12, 37, 37, 42, 0, 62, -26,
    28, 23, -52, 34, -5, 50, 26, 12, 40, 40, 98, 50, 16, 12, 68, -38, 74, -36, 31, 30, 80, -30, 92, -24, 17, 14,
    -30, 150, -40, 170, 20, 20, -40, 140, -40, 190, 30, 30, -34, 90, -36, 190, 26, 22, -5, 150, 0, 66, 66, 46, 0, 56, 3,
    10, 42, 38, 40, 140, 45, 190, 30, 20, 30, 90, 34, 190, 28, 22, 4, -16, 10, -14, 50, 48, 12, 4, 20, 12, 25, 22,
]).view(4, 9, 6) / 100
# fmt: on
HEAD, MUZZLE = 7, 8
STANDING_EAR = torch.tensor([0.62, -0.60, 0.90, -1.40, 0.36, 0.10])  # in head radii from the head's centre
HANGING_EAR = torch.tensor([0.80, -0.55, 1.10, 0.40, 0.24, 0.30])


def pets(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Animals over clutter, and their trimaps: about 30 % pet, 58 % background and 12 % border, as in Oxford-IIIT Pet.

    Args:
        size: side in pixels, at least 16; a scene is the same at every size.

    Returns:
        Images, uint8 (count, 3, size, size), and masks, uint8 (count, size, size): 0 pet, 1 background, 2 border.
    """
    return draw_in_chunks(partial(draw_pets, size=size), count, 32, seed)


def draw_pets(random: Random, size: int) -> tuple[Tensor, Tensor]:
    """Images, in [0, 1], and masks of a chunk."""
    x, y = plane(size)
    textures = random.noise(5, size), random.noise(32, size)
    scene = draw_place(random, x, y, textures)
    bones, ears = draw_skeletons(random)

    scale, mirror = (random.normal(0.33) - 0.07).exp().clamp(0.3, 1.5), random.chance(0.5) * 2 - 1
    # People point the camera at the face: the closer the animal, the more of its body is cut off instead.
    aim = random.uniform(0.3, 0.9) * scale
    head_x, head_y = (bones[:, HEAD, axis].view(-1, 1, 1) for axis in (0, 1))
    local_x, local_y = x - random.normal(0.22) + aim * mirror * head_x, y - random.normal(0.18) + aim * head_y
    local_x, local_y = turn(local_x, local_y, random.normal(0.18))
    # Bending the plane by a little noise makes the outline uneven and leaves distances nearly true.
    local_x = local_x * mirror / scale + 0.05 * random.noise(6, size)
    local_y = local_y / scale + 0.05 * random.noise(6, size)

    # The place's own textures, mirrored, so that they do not run on from the place into the fur.
    animal, distance = draw_animals(random, local_x, local_y, bones, ears, [texture.flip(2) for texture in textures])
    distance = distance * scale
    shadow = 1 - random.uniform(0, 0.45) * torch.exp(-distance.clamp(min=0) / 0.12)
    scene = paint_over(scene * shadow.unsqueeze(1), animal, cover(distance, 2.5 / size + 0.01))
    light = random.uniform(0.9, 1.25) + random.uniform(0, 0.2) * turn(x, y, random.uniform(0, 2 * math.pi))[0]
    scene = scene * light.unsqueeze(1) + random.uniform(0.005, 0.03, 1, 1, 1) * random.normal(1, *scene.shape[1:])

    # Large animals get the same band, small ones a narrower one, so that their legs stay more than border.
    band = (0.075 * scale).clamp(max=0.052).clamp(min=1 / size)
    return scene, (distance > -band).to(torch.uint8) + (distance.abs() < band).to(torch.uint8)


def draw_coat(random: Random, x: Tensor, y: Tensor, textures, fur: float) -> Tensor:
    """A surface (N, 3, H, W): two colours in patches or stripes, each a fur's with probability `fur`, and a grain.

    Furs, walls, floors and clutter are all drawn by this, so that no pixel tells by its colour alone what it shows.
    """
    weights = [fur / len(FURS)] * len(FURS) + [(1 - fur) / len(PLACES)] * len(PLACES)
    first, second = (
        torch.tensor(FURS + PLACES)[random.pick(weights)].view(-1, 3, 1, 1) + random.normal(0.04, 3, 1, 1)
        for _ in range(2)
    )
    patches, grain = textures
    along, _ = turn(x, y, random.uniform(0, math.pi))
    stripes = torch.sin(along * random.uniform(12, 24) + 2.5 * patches)
    pattern = (torch.where(random.chance(0.5) > 0, stripes, patches - 0.3) * 8).clamp(0, 1) * random.chance(0.45)
    return torch.lerp(first, second, pattern.unsqueeze(1)) * (1 + random.uniform(0.01, 0.16) * grain).unsqueeze(1)


def draw_place(random: Random, x: Tensor, y: Tensor, textures) -> Tensor:
    """Wall and floor, or sky and grass, with things lying about: (N, 3, H, W)."""
    wall, floor = (draw_coat(random, x, y, textures, fur=0.5) for _ in range(2))
    place = paint_over(wall, floor, cover(random.uniform(-0.7, 1.1) + random.normal(0.12) * x - y, 0.03))
    for _ in range(4):
        item_x, item_y = turn(x - random.uniform(-1.1, 1.1), y - random.uniform(-1.0, 1.1), random.normal(0.5))
        width, height = random.uniform(0.1, 0.55), random.uniform(0.1, 0.45)
        distance = box(item_x, item_y, width, height, random.uniform(0, 1) * torch.minimum(width, height))
        shade = 1.05 - 0.35 * torch.exp(distance.clamp(max=0) / 0.1)
        item = draw_coat(random, item_x, item_y, textures, fur=0.6) * shade.unsqueeze(1)
        place = paint_over(place, item, cover(distance, 0.03) * random.chance(0.7))
    return place


def draw_skeletons(random: Random) -> tuple[Tensor, Tensor]:
    """Bones (N, 9, 6) and ears (N, 2, 6) in the animals' own frames, a little out of place and out of shape."""
    bones = POSES[random.pick((0.28, 0.28, 0.24, 0.20))]
    thickness = (random.normal(0.12, 1, 1) + random.normal(0.09, 9, 2)).exp()
    bones = torch.cat([bones[..., :4] + random.normal(0.035, 9, 4), bones[..., 4:] * thickness], dim=-1)
    head = bones[:, HEAD : HEAD + 1]
    ears = torch.lerp(STANDING_EAR, HANGING_EAR, random.chance(0.45)) + random.normal(0.05, 2, 6)
    ears[:, 0, [0, 2]] *= -1
    ears = ears * head[..., 4:5]
    ears[..., :4] += head[..., [0, 1, 0, 1]]
    return bones, ears


def draw_animals(random: Random, x: Tensor, y: Tensor, bones: Tensor, ears: Tensor, textures) -> tuple[Tensor, Tensor]:
    """Furs with faces, (N, 3, H, W), and signed distances to the outlines, (N, H, W), in the animals' own units."""
    bars = [bone(x, y, *row.view(-1, 6, 1, 1).unbind(1)) for row in torch.cat([bones, ears], dim=1).unbind(1)]
    # From back to front: tail and far legs, body and neck, near legs, ears, head and muzzle.
    layers = [reduce(torch.minimum, bars[start:end]) for start, end in ((0, 3), (3, 5), (5, 7), (9, 11), (7, 9))]
    # Each layer is darker towards its own outline, which sets a leg off from the body behind it.
    shade, depth = torch.full_like(x, 0.8), random.uniform(0.2, 0.45)
    for distance, brightness in zip(layers, (0.85, 1.0, 1.02, 0.8, 1.05), strict=True):
        layer = brightness * (1 - depth * torch.exp(distance.clamp(max=0) / 0.09))
        shade = torch.lerp(shade, layer, cover(distance, 0.04))
    look = draw_coat(random, x, y, textures, fur=1) * (shade * (1 - 0.16 * y)).unsqueeze(1)

    dark = torch.full((3, 1, 1), 0.06)
    iris = torch.tensor([0.62, 0.56, 0.22]).view(3, 1, 1) + random.normal(0.12, 3, 1, 1)
    head_x, head_y, radius = (bones[:, HEAD, part].view(-1, 1, 1) for part in (0, 1, 4))
    nose_x, nose_y, nose_radius = (bones[:, MUZZLE, part].view(-1, 1, 1) for part in (2, 3, 5))
    for side in (-0.40, 0.40):
        away = disc(x, y, head_x + 0.45 * (nose_x - head_x) + side * radius, head_y - 0.10 * radius, 0)
        look = paint_over(look, iris, cover(away - 0.20 * radius, 0.03))
        look = paint_over(look, dark, cover(away - 0.12 * radius, 0.03))
    look = paint_over(look, dark, cover(disc(x, y, nose_x, nose_y, 0.45 * nose_radius), 0.04))
    return look, reduce(torch.minimum, layers)


# Digits: a few control points, moved a little, and smooth strokes through them, written by a hand of their own.

DIGIT_CLASSES = tuple("0123456789")
# Strokes, which list points by number (in hexadecimal), and the points, x,y in hundredths. A stroke runs smoothly
# through its points; two that share one meet there in a corner.
GLYPHS = (
    ("0123456701", "10,-100 -50,-60 -62,10 -40,80 5,100 50,70 62,0 45,-75"),
    ("01 12", "-38,-62 2,-100 2,100"),
    ("012345 56", "-55,-60 -10,-100 45,-70 40,-15 -10,45 -60,95 65,92"),
    ("01234 45678", "-50,-75 0,-100 45,-60 25,-15 -12,-5 40,12 55,55 10,100 -55,75"),
    ("01 12 34", "-40,-100 -55,15 65,10 35,-80 30,100"),
    ("01 12 234567", "55,-95 -40,-95 -48,-15 10,-30 55,10 45,70 0,100 -55,80"),
    ("012345678", "40,-100 -20,-55 -52,20 -35,85 10,100 50,60 30,10 -10,10 -45,50"),
    ("01 123", "-55,-92 55,-95 20,-20 -10,100"),
    ("0123456789a01", "40,-75 -5,-100 -45,-60 -20,-15 30,20 50,60 10,100 -45,70 -30,20 25,-20 50,-60"),
    ("0123401 567", "45,-60 0,-100 -48,-60 -25,-10 25,-20 48,-65 42,20 30,100"),
)
MAX_POINTS, MAX_SPANS = 11, 12


def digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digits, white on black, every class about as often: uint8 (count, 1, 28, 28), and labels, int64 (count,)."""
    return draw_in_chunks(draw_digits, count, 250, seed)


def trace(strokes: str, places: str) -> tuple[Tensor, Tensor]:
    """One of `GLYPHS`: its points, (MAX_POINTS, 2), and for each span of its curves the four points that shape it.

    The spans, int64 (MAX_SPANS, 4), are a Catmull–Rom spline's: a point before, the two that the span joins, one
    behind. Short glyphs repeat their last span, which changes nothing in the picture.
    """
    points, spans = [[int(value) / 100 for value in place.split(",")] for place in places.split()], []
    for stroke in strokes.split():
        numbers = [int(number, 16) for number in stroke[0] + stroke + stroke[-1]]
        spans += [numbers[at : at + 4] for at in range(len(stroke) - 1)]
    points += [[0.0, 0.0]] * (MAX_POINTS - len(points))
    return torch.tensor(points), torch.tensor(spans + spans[-1:] * (MAX_SPANS - len(spans)))


POINTS, SPANS = (torch.stack(part) for part in zip(*(trace(*glyph) for glyph in GLYPHS), strict=True))
T = torch.arange(5) / 4  # a span is drawn as four straight pieces
CATMULL_ROM = torch.stack([-T + 2 * T**2 - T**3, 2 - 5 * T**2 + 3 * T**3, T + 4 * T**2 - 3 * T**3, T**3 - T**2], 1) / 2


def draw_digits(random: Random) -> tuple[Tensor, Tensor]:
    """Images, in [0, 1], and labels of a chunk."""
    labels = random.labels(10)
    points = POINTS[labels] + random.normal(0.06, MAX_POINTS, 2)
    controls = points[torch.arange(random.count).view(-1, 1, 1), SPANS[labels]]  # (N, spans, 4, 2)
    curve_x, curve_y = (CATMULL_ROM @ controls).permute(3, 1, 2, 0)[..., None, None]  # each (spans, 5, N, 1, 1)
    slant, height = random.normal(0.25), random.uniform(0.58, 0.76)
    curve_x = height * (random.uniform(0.8, 1.15) * curve_x - slant * curve_y) + random.normal(0.06)
    curve_y = height * curve_y + random.normal(0.06)
    x, y = plane(28)
    distance = torch.full((random.count, 28, 28), 9.0)
    for span, step in product(range(MAX_SPANS), range(4)):
        ends = (curve[span, at] for at in (step, step + 1) for curve in (curve_x, curve_y))
        distance = torch.minimum(distance, bone(x, y, *ends, 0, 0))
    pen = random.uniform(0.055, 0.14)  # radius in halves of the picture: strokes 1.5 to 4 pixels wide
    return (cover(distance - pen, random.uniform(0.08, 0.14)) * random.uniform(0.85, 1)).unsqueeze(1), labels


# Objects: a kind's parts, from back to front: the paint and a signed distance, of coordinates (N, H, W) in which the
# kind reaches from about −1 to 1.

MAIN, SECOND, DARK, PALE = range(4)
KINDS = {
    "house": lambda x, y: [
        (MAIN, box(x, y - 0.35, 0.62, 0.5)),
        (SECOND, taper(x, y, -0.9, -0.1, 0, 0.85)),
        (DARK, box(x - 0.2, y - 0.6, 0.15, 0.25)),
        (PALE, box(x + 0.25, y - 0.4, 0.13, 0.13)),
    ],
    "tree": lambda x, y: [
        (DARK, box(x, y - 0.6, 0.12, 0.4)),
        (MAIN, torch.minimum(disc(x, y, 0, -0.45, 0.48), disc(x.abs(), y, 0.38, -0.1, 0.48))),
    ],
    "car": lambda x, y: [
        (MAIN, taper(x + 0.1, y, -0.6, 0.05, 0.35, 0.62)),
        (PALE, taper(x + 0.1, y, -0.48, 0, 0.27, 0.46)),
        (MAIN, box(x, y - 0.2, 0.92, 0.25, 0.14)),
        (DARK, disc(x.abs(), y, 0.5, 0.45, 0.24)),
        (PALE, disc(x.abs(), y, 0.5, 0.45, 0.1)),
    ],
    "boat": lambda x, y: [
        (PALE, torch.maximum(taper(x, y, -0.95, 0.3, 0, 0.7), 0.06 - x)),
        (SECOND, torch.maximum(taper(x, y, -0.95, 0.3, 0, 0.7), x + 0.06)),
        (MAIN, taper(x, y, 0.4, 0.85, 0.85, 0.5)),
    ],
    "fish": lambda x, y: [
        (SECOND, taper(y, x + 1, 0, 0.6, 0.42, 0)),
        (MAIN, bone(x, y, -0.35, 0, 0.45, 0, 0.15, 0.4)),
        (SECOND, torch.maximum(bone(x, y, -0.35, 0, 0.45, 0, 0.15, 0.4), (x - 0.05).abs() - 0.1)),
        (PALE, disc(x, y, 0.5, -0.12, 0.12)),
        (DARK, disc(x, y, 0.5, -0.12, 0.06)),
    ],
    "flower": lambda x, y: [
        (DARK, torch.minimum(box(x, y - 0.4, 0.07, 0.6), bone(x, y, 0, 0.75, 0.4, 0.5, 0.07, 0.13))),
        (MAIN, disc(x, y, 0, -0.35, 0.46) - 0.15 * torch.cos(6 * torch.atan2(y + 0.35, x))),
        (SECOND, disc(x, y, 0, -0.35, 0.2)),
    ],
    "mug": lambda x, y: [
        (MAIN, disc(x, y, 0.38, 0.05, 0.3).abs() - 0.09),
        (MAIN, box(x + 0.15, y - 0.05, 0.5, 0.62, 0.1)),
        (SECOND, box(x + 0.15, y - 0.2, 0.5, 0.13)),
        (DARK, torch.hypot((x + 0.15) * 0.4, y + 0.55) - 0.16),
    ],
    "aeroplane": lambda x, y: [
        (SECOND, bone(x, y.abs(), 0.15, 0, -0.2, 0.88, 0.2, 0.07)),
        (SECOND, bone(x, y.abs(), -0.75, 0, -0.92, 0.35, 0.12, 0.06)),
        (MAIN, bone(x, y, -0.85, 0, 0.8, 0, 0.09, 0.16)),
        (DARK, disc(x, y, 0.75, 0, 0.1)),
    ],
    "umbrella": lambda x, y: [
        (DARK, box(x, y + 0.1, 0.055, 0.85)),
        (DARK, torch.maximum(disc(x, y, 0.17, 0.75, 0.17).abs() - 0.055, 0.75 - y)),
        (MAIN, torch.maximum(disc(x, y, 0, 0.05, 0.9), y + 0.12 * torch.cos(x * 10.5).abs())),
        (SECOND, torch.maximum(disc(x, y, 0, 0.05, 0.9), y + 0.1 + (2 * x.abs() - 0.5).clamp(min=0) * 9)),
    ],
    "ladder": lambda x, y: [
        *((SECOND, box(x, y + 0.65 - 0.43 * rung, 0.45, 0.08)) for rung in range(4)),
        (MAIN, bone(x.abs(), y, 0.4, -0.95, 0.55, 0.95, 0.1, 0.1)),
    ],
}
OBJECT_CLASSES = tuple(KINDS)


def objects(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Objects before scenery, every class about as often: uint8 (count, 3, 32, 32), and labels, int64 (count,)."""
    return draw_in_chunks(draw_objects, count, 250, seed)


def draw_objects(random: Random) -> tuple[Tensor, Tensor]:
    """Images, in [0, 1], and labels of a chunk."""
    labels = random.labels(len(KINDS))
    x, y = plane(32)
    above, below = (
        torch.lerp(random.uniform(0.15, 0.9, 1, 1, 1), random.uniform(0, 1, 3, 1, 1), 0.5) for _ in range(2)
    )
    horizon = random.uniform(-0.6, 1.1) + random.normal(0.15) * x + 0.08 * random.noise(5, 32)
    grain = random.uniform(0, 0.08) * random.noise(14, 32)
    scene = paint_over(above, below, cover(horizon - y, 0.15)) + grain.unsqueeze(1)
    paints = draw_paints(random, scene)

    scale, mirror = random.uniform(0.58, 0.92), random.chance(0.5) * 2 - 1
    room = 1.05 - scale
    local_x, local_y = turn(x - room * random.uniform(-1, 1), y - room * random.uniform(-1, 1), random.normal(0.2))
    local_x, local_y = local_x * mirror / (scale * random.uniform(0.8, 1)), local_y / (scale * random.uniform(0.8, 1))
    for label, kind in enumerate(KINDS.values()):
        rows = labels == label
        picture = scene[rows]
        for paint, distance in kind(local_x[rows], local_y[rows]):
            distance = distance * scale[rows]
            shade = 1 - 0.12 * local_y[rows] - 0.3 * torch.exp(distance.clamp(max=0) / 0.06)
            picture = paint_over(picture, paints[rows, paint] * shade.unsqueeze(1), cover(distance, 0.08))
        scene[rows] = picture
    return scene * (1 + random.normal(0.08, 1, 1, 1)) + 0.02 * random.normal(1, 3, 32, 32), labels


def draw_paints(random: Random, scene: Tensor) -> Tensor:
    """The four paints of each picture, (N, 4, 3, 1, 1); the first two stand out from scene and each other."""
    taken = [scene.mean(dim=(2, 3))]
    for _ in range(2):
        candidates = random.uniform(0.05, 0.98, 5, 3)
        contrast = torch.cdist(candidates, torch.stack(taken, dim=1)).amin(dim=2)
        taken.append(candidates[torch.arange(random.count), contrast.argmax(dim=1)])
    return torch.stack([*taken[1:], random.uniform(0, 0.28, 3), random.uniform(0.78, 1, 3)], dim=1)[..., None, None]
