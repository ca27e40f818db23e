"""Small objects for search networks to look for: drawn ones, and pieces cut out of other pictures.

A sprite is RGBA in a square whose middle half it fills, so that it can be turned, scaled to any size and set down
between pixels in one resampling.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CANVAS_PX = 128
FILLED_PX = CANVAS_PX // 2


@dataclass(frozen=True)
class Sprite:
    """A picture of an object."""

    rgba: Image.Image
    """CANVAS_PX square."""

    @property
    def fill_wh(self) -> tuple[float, float]:
        """Width and height of what is opaque, as shares of the canvas."""
        left, top, right, bottom = self.rgba.getchannel("A").getbbox() or (0, 0, 1, 1)
        return (right - left) / CANVAS_PX, (bottom - top) / CANVAS_PX


def draw_sprite(random: np.random.Generator) -> Sprite:
    """A plain shape of one to three colours."""
    canvas = Image.new("RGBA", (CANVAS_PX, CANVAS_PX))
    mask = _shape(random)
    colour = Image.new("RGBA", canvas.size, _colour(random))
    if random.random() < 0.7:  # a second colour over a part of it
        pen = ImageDraw.Draw(colour)
        for _ in range(random.integers(1, 3)):
            x0, y0 = random.integers(0, CANVAS_PX, 2)
            wide, high = random.integers(12, CANVAS_PX, 2)
            pen.rectangle((int(x0), int(y0), int(x0 + wide), int(y0 + high)), fill=_colour(random))
    canvas.paste(colour, mask=mask)
    return Sprite(canvas)


def cut_sprite(random: np.random.Generator, picture: np.ndarray) -> Sprite:
    """A piece of ``picture`` uint8 [H, W, 3] with the outline of a shape."""
    side = int(random.integers(8, min(48, *picture.shape[:2])))
    y, x = (int(random.integers(0, n - side + 1)) for n in picture.shape[:2])
    piece = Image.fromarray(picture[y : y + side, x : x + side]).resize(
        (FILLED_PX, FILLED_PX), Image.Resampling.BICUBIC
    )
    canvas, edge = Image.new("RGBA", (CANVAS_PX, CANVAS_PX)), (CANVAS_PX - FILLED_PX) // 2
    canvas.paste(piece, (edge, edge))
    canvas.putalpha(_shape(random))
    return Sprite(canvas)


def recoloured(random: np.random.Generator, sprite: Sprite) -> Sprite:
    """The same shape in other colours: a distractor that only colour tells apart."""
    rgb = np.asarray(sprite.rgba).astype(np.int16)
    order = random.permutation(3)
    mixed = rgb[..., :3][..., order] + random.integers(-90, 91, 3)
    return Sprite(Image.fromarray(np.dstack([np.clip(mixed, 0, 255), rgb[..., 3]]).astype(np.uint8), "RGBA"))


def place(
    picture: np.ndarray,
    sprite: Sprite,
    xy: tuple[float, float],
    size: float,
    *,
    turn_deg: float,
    gain: float,
    blur: float,
) -> np.ndarray:
    """Set a sprite down on ``picture`` (changed) at ``xy``; its box [4] as centre x, y, width, height.

    ``size`` is sqrt(width * height) in px before turning; ``gain`` scales its light; ``blur`` is a sigma in px.
    """
    turned = sprite.rgba.rotate(turn_deg, Image.Resampling.BILINEAR) if turn_deg else sprite.rgba
    wide, high = Sprite(turned).fill_wh
    scale = size / (CANVAS_PX * np.sqrt(wide * high))  # px of the picture per px of the sprite
    reach = int(np.ceil(CANVAS_PX * scale / 2)) + 2
    column, row = (round(value) for value in xy)
    # The output pixel (column, row) is the middle of a window; shift the source by what rounding took.
    middle = CANVAS_PX / 2 - (np.array(xy) - (column, row)) / scale
    half = (reach + 0.5) / scale
    side = 2 * reach + 1
    margin = int(np.ceil(max(0.0, half - CANVAS_PX / 2 + 2 / scale))) + 1
    padded = Image.new("RGBA", (CANVAS_PX + 2 * margin,) * 2)
    padded.paste(turned, (margin, margin))
    x, y = middle + margin
    small = padded.resize((side, side), Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR,
                          box=(x - half, y - half, x + half, y + half))  # fmt: skip
    if blur > 0.05:
        small = small.filter(ImageFilter.GaussianBlur(blur))
    _blend(picture, np.asarray(small).astype(np.float32), column - reach, row - reach, gain)
    left, top, right, bottom = turned.getchannel("A").getbbox() or (0, 0, 1, 1)
    centre = (np.array([left + right, top + bottom]) / 2 - CANVAS_PX / 2) * scale + np.array(xy)
    return np.array([*centre, (right - left) * scale, (bottom - top) * scale], np.float32)


def _blend(picture: np.ndarray, rgba: np.ndarray, left: int, top: int, gain: float) -> None:
    height, width = picture.shape[:2]
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(width, left + rgba.shape[1]), min(height, top + rgba.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha, under = part[..., 3:] / 255, picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = np.clip(under * (1 - alpha) + part[..., :3] * gain * alpha, 0, 255).astype(np.uint8)


def _colour(random: np.random.Generator) -> tuple[int, int, int, int]:
    red, green, blue = (int(value) for value in random.integers(0, 256, 3))
    return red, green, blue, 255


def _shape(random: np.random.Generator) -> Image.Image:
    """A mask in the middle half of the canvas: an ellipse, a polygon, or two that overlap."""
    mask = Image.new("L", (CANVAS_PX, CANVAS_PX))
    pen = ImageDraw.Draw(mask)
    for _ in range(random.integers(1, 3)):
        half_w, half_h = random.uniform(0.35, 1.0, 2) * FILLED_PX / 2
        x, y = CANVAS_PX / 2 + random.uniform(-0.15, 0.15, 2) * FILLED_PX
        if random.random() < 0.5:
            pen.ellipse((x - half_w, y - half_h, x + half_w, y + half_h), fill=255)
        else:
            angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(4, 8)))
            corners = [(float(x + half_w * np.cos(a)), float(y + half_h * np.sin(a))) for a in angles]
            pen.polygon(corners, fill=255)
    if mask.getbbox() is None or mask.histogram()[255] < 200:  # a polygon may be a sliver
        pen.ellipse((48, 48, 80, 80), fill=255)
    return mask
