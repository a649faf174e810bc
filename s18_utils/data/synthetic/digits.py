"""Handwritten-looking digits, a stand-in for MNIST.

A glyph is a few control points and the strokes through them. Each picture moves the points a little, writes
the strokes as smooth curves and gives them a hand: slant, width of the pen, size, place. The hand is drawn
independently of the class, so that it can survive when the class is changed.
"""

from collections.abc import Callable
from itertools import starmap

import torch
from torch import Tensor

from s18_utils.data.synthetic._drawing import Dice, bone, cover, in_chunks, plane, to_bytes

SIZE = 28
CHUNK = 250
DIGIT_CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

# For each class some ways to write it: strokes, and the points that they list by number (in hexadecimal): x,y
# in hundredths, x to the right and y down. A stroke runs smoothly through its points; two that share one meet
# there in a corner.
GLYPHS = (
    (  # 0
        ("012345670", "10,-100 -50,-60 -62,10 -40,80 5,100 50,70 62,0 45,-75"),
        ("01234567", "30,-92 -30,-90 -64,-20 -50,70 10,100 60,40 55,-50 10,-100"),
    ),
    (  # 1
        ("0123", "0,-100 0,-30 0,40 0,100"),
        ("01 123", "-38,-62 2,-100 2,0 2,100"),
        ("01 12 34", "-38,-62 2,-100 2,100 -40,100 42,100"),
    ),
    (  # 2
        ("012345 56", "-55,-60 -10,-100 45,-70 40,-15 -10,45 -60,95 65,92"),
        ("012345678", "-50,-65 0,-100 45,-65 25,0 -20,65 -55,90 -45,60 -5,75 65,95"),
    ),
    (  # 3
        ("01234 45678", "-50,-75 0,-100 45,-60 25,-15 -12,-5 40,12 55,55 10,100 -55,75"),
        ("01 12 23456", "-50,-95 50,-95 -5,-20 45,0 55,50 10,98 -55,75"),
    ),
    (  # 4
        ("01 12 34", "-40,-100 -55,15 65,10 35,-80 30,100"),
        ("01 12 03", "30,-100 -65,30 70,30 30,100"),
        ("0123 435", "-45,-90 -50,-20 -10,8 40,-10 45,-95 38,100"),
    ),
    (  # 5
        ("01 12 234567", "55,-95 -40,-95 -48,-15 10,-30 55,10 45,70 0,100 -55,80"),
        ("01 12 23456", "60,-100 -25,-90 -42,-25 10,-20 45,25 20,85 -55,85"),
    ),
    (  # 6
        ("012345678", "40,-100 -20,-55 -52,20 -35,85 10,100 50,60 30,10 -10,10 -45,50"),
        ("01234567", "5,-100 -40,-30 -50,40 -10,98 45,75 40,25 0,15 -45,45"),
    ),
    (  # 7
        ("01 123", "-55,-92 55,-95 20,-20 -10,100"),
        ("01 123 45", "-55,-90 55,-95 15,0 -10,100 -25,0 50,-5"),
        ("01 12 234", "-55,-55 -50,-92 55,-95 15,0 -5,100"),
    ),
    (  # 8
        ("0123456789a0", "40,-75 -5,-100 -45,-60 -20,-15 30,20 50,60 10,100 -45,70 -30,20 25,-20 50,-60"),
        ("01230 24562", "0,-100 -42,-60 0,-12 42,-60 -52,45 0,100 52,45"),
    ),
    (  # 9
        ("012340 567", "45,-60 0,-100 -48,-60 -25,-10 25,-20 48,-65 42,20 30,100"),
        ("012340 5678", "45,-70 0,-100 -45,-55 -20,-10 25,-20 50,-75 45,30 10,95 -45,80"),
    ),
)
POINTS = 11
SEGMENTS = 44


def digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws digits, white on black, in every class about as often.

    Args:
        count: how many, at least 1.
        seed: any integer; the same one gives the same bytes.

    Returns:
        Images, uint8 (count, 1, 28, 28), and labels, int64 (count,), 0 to 9.

    Raises:
        InputError: `count` is too small.
    """
    return in_chunks(draw_chunk, count, CHUNK, seed)


def trace(strokes: str, places: str) -> tuple[Tensor, Tensor, Tensor]:
    """One of `GLYPHS`: its points, and two matrices that take points to where its segments start and end.

    A smooth stroke is a Catmull–Rom spline, so each place on it is a weighted sum of control points. Short
    glyphs repeat their last segment, which changes nothing in the picture.

    Returns:
        Points, (POINTS, 2), and matrices, both (SEGMENTS, POINTS).
    """
    points = [[int(value) / 100 for value in place.split(",")] for place in places.split()]
    paths = [[int(number, 16) for number in stroke] for stroke in strokes.split()]
    spans = sum(len(stroke) - 1 for stroke in paths)
    steps = SEGMENTS // spans
    starts, ends = [], []
    for stroke in paths:
        if stroke[0] == stroke[-1]:  # closed: its neighbours go round
            padded = [stroke[-2], *stroke, stroke[1]]
        else:
            padded = [stroke[0], *stroke, stroke[-1]]
        weights = []
        for at in range(1, len(padded) - 2):
            for t in torch.arange(steps + 1) / steps:
                row = torch.zeros(POINTS)
                basis = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
                for point, weight in zip(padded[at - 1 : at + 3], basis, strict=True):
                    row[point] += weight / 2
                weights.append(row)
            starts += weights[-steps - 1 : -1]
            ends += weights[-steps:]
    fill = SEGMENTS - len(starts)
    table = torch.zeros(POINTS, 2)
    table[: len(points)] = torch.tensor(points)
    return table, torch.stack(starts + starts[-1:] * fill), torch.stack(ends + ends[-1:] * fill)


TABLE = [[torch.stack(part) for part in zip(*starmap(trace, ways), strict=True)] for ways in GLYPHS]


def draw_chunk(dice: Dice) -> tuple[Tensor, Tensor]:
    """Images and labels of a chunk, as `digits` returns them."""
    labels = dice.labels(len(DIGIT_CLASSES))
    way = dice.uniform(0, 1, 1).squeeze(1)
    points, starts, ends = (torch.empty(dice.count, *part.shape[1:]) for part in TABLE[0])
    for label, parts in enumerate(TABLE):
        rows = labels == label
        chosen = (way[rows] * len(parts[0])).long()
        points[rows], starts[rows], ends[rows] = (part[chosen] for part in parts)
    points += dice.normal(0.05, POINTS, 2)

    write = hand(dice)
    ax, ay = write(starts @ points)
    bx, by = write(ends @ points)
    x, y = plane(SIZE)
    # The pen's radius in halves of the picture, 0.055 to 0.14: strokes 1.5 to 4 pixels wide.
    pen = dice.uniform(0.055, 0.14)
    distance = torch.full((dice.count, SIZE, SIZE), 9.0)
    for segment in range(SEGMENTS):
        a_x, a_y, b_x, b_y = (v[:, segment].view(-1, 1, 1) for v in (ax, ay, bx, by))
        distance = torch.minimum(distance, bone(x, y, a_x, a_y, b_x, b_y, 0, 0))
    ink = cover(distance - pen, dice.uniform(0.08, 0.14)) * dice.uniform(0.85, 1)
    return to_bytes(ink.unsqueeze(1)), labels


def hand(dice: Dice) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function that takes places on a glyph, (N, S, 2), to x and y in the picture, both (N, S)."""
    slant, tilt = dice.normal(0.22, 1), dice.normal(0.08, 1)
    height = dice.uniform(0.58, 0.76, 1)
    width = height * dice.uniform(0.8, 1.15, 1)
    shift_x, shift_y = dice.normal(0.06, 1), dice.normal(0.06, 1)
    wobble = dice.normal(0.035, 4)
    phase = dice.uniform(0, 6.3, 4)

    def write(places: Tensor) -> tuple[Tensor, Tensor]:
        x, y = places.unbind(-1)
        waves = torch.stack([2 * x, 3 * y, 3 * x, 2 * y], dim=-1) + phase.unsqueeze(1)
        waves = wobble.unsqueeze(1) * waves.sin()
        x, y = x + waves[..., 0] + waves[..., 1], y + waves[..., 2] + waves[..., 3]
        x, y = width * x - slant * height * y, height * y
        return x - tilt * y + shift_x, y + tilt * x + shift_y

    return write
