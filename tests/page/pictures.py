"""The files that the tests send."""

import io
import pathlib
import random

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "actors" / "tests" / "fixtures"


def drawing(seed, size=(600, 400)):
    """A picture that differs for each seed."""
    from PIL import Image, ImageDraw

    dice = random.Random(seed)

    def colour():
        return tuple(dice.randrange(256) for _ in range(3))

    image = Image.new("RGB", size, colour())
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, r = dice.randrange(size[0]), dice.randrange(size[1]), dice.randrange(8, max(9, size[0] // 3))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour())
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return data.getvalue()


def small(count, first=0):
    """So many small drawings, as (name, bytes)."""
    return [(f"{n}.jpg", drawing(n, (40, 30))) for n in range(first, first + count)]


def cat():
    return (FIXTURES / "cat.jpg").read_bytes()


def damaged():
    """A picture with a sound header whose pixels are noise: no row of it can be decoded."""
    from PIL import Image

    data = io.BytesIO()
    Image.effect_noise((400, 300), 90).convert("RGB").save(data, "PNG")
    whole = data.getvalue()
    start = whole.index(b"IDAT") + 4
    return whole[:start] + b"\xff" * 2000
