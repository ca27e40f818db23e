"""The scene around the ball in a rendered video: camera, court, stands, boards and people, as pixels.

A hall is a box: a floor with court lines and four walls with boards, crowd or trees. Its picture, the plate, is made
once per camera; per frame only people, ball and noise are added.
"""

import string
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from specktrack.datasets.flight import Sport

PALETTES = (  # court, surround, texture, outdoor
    ((46, 140, 78), (30, 66, 160), "mat", False),
    ((58, 128, 104), (196, 26, 30), "mat", False),
    ((70, 158, 160), (24, 48, 128), "mat", False),
    ((92, 148, 62), (72, 122, 52), "grass", True),
    ((186, 98, 58), (170, 88, 52), "clay", True),
    ((60, 96, 170), (40, 110, 80), "hard", True),
    ((196, 150, 96), (150, 104, 60), "wood", False),
    ((214, 190, 148), (204, 178, 134), "sand", True),
    ((168, 66, 62), (56, 104, 70), "hard", True),
    ((104, 80, 150), (60, 62, 70), "hard", False),
)
_SKIN = ((236, 196, 164), (198, 146, 108), (140, 96, 66), (92, 62, 44))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; picture coordinates in px, an integer is a pixel's centre."""

    position_m: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    focal_px: float
    centre_px: tuple[float, float]

    @classmethod
    def aim(
        cls, position_m: np.ndarray, target_m: np.ndarray, focal_px: float, centre_px: tuple[float, float]
    ) -> "Camera":
        """The upright camera at ``position_m`` whose ``centre_px`` shows ``target_m``."""
        forward = (target_m - position_m) / np.linalg.norm(target_m - position_m)
        right = np.array([forward[1], -forward[0], 0.0])
        right /= np.linalg.norm(right)
        return cls(position_m, right, np.cross(right, forward), forward, focal_px, centre_px)

    def project(self, xyz_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points [..., 3] to picture px [..., 2] and px per metre [...] there."""
        offset = xyz_m - self.position_m
        px_per_m = self.focal_px / np.maximum(offset @ self.forward, 0.2)
        x = self.centre_px[0] + (offset @ self.right) * px_per_m
        y = self.centre_px[1] - (offset @ self.up) * px_per_m
        return np.stack([x, y], axis=-1), px_per_m

    def rays(self, wh_px: tuple[int, int], margin_px: int) -> np.ndarray:
        """Directions [H, W, 3] float32 (not normalised) through the pixels of a picture with a margin around it."""
        x = np.arange(-margin_px, wh_px[0] + margin_px) - self.centre_px[0]
        y = self.centre_px[1] - np.arange(-margin_px, wh_px[1] + margin_px)
        rays = (
            self.forward * self.focal_px
            + x[None, :, None] * self.right[None, None]
            + y[:, None, None] * self.up[None, None]
        )
        return rays.astype(np.float32)


def broadcast_camera(random: np.random.Generator, sport: Sport, wh_px: tuple[int, int]) -> Camera:
    """A camera high behind the near side that shows the whole court."""
    width, length = sport.court_wl_m
    height = random.uniform(0.25, 0.65) * length
    position = np.array([random.normal(0, 0.1) * width, -length * random.uniform(0.95, 1.7), height])
    target = np.array([random.normal(0, 0.04) * width, random.uniform(-0.08, 0.06) * length, 0.6])
    centre = ((wh_px[0] - 1) / 2, (wh_px[1] - 1) / 2)
    unit = Camera.aim(position, target, 1.0, (0.0, 0.0))
    corners = np.array([[x * width / 2, y * length / 2, 0] for x in (-1, 1) for y in (-1, 1)] + [[0, length / 2, 3.0]])
    xy, _ = unit.project(corners)
    fill = random.uniform(0.62, 0.95)
    focal = min(fill * wh_px[0] / (2 * np.abs(xy[:, 0]).max()), fill * wh_px[1] / (2 * np.abs(xy[:, 1]).max()))
    return Camera.aim(position, target, float(focal), centre)


def close_camera(random: np.random.Generator, sport: Sport, wh_px: tuple[int, int]) -> Camera:
    """A low camera beside the court that looks at people: the cutaways of a broadcast."""
    width, length = sport.court_wl_m
    side = random.choice([-1, 1])
    position = np.array(
        [side * width * random.uniform(0.8, 1.2), -length * random.uniform(0.3, 0.6), random.uniform(1, 2)]
    )
    target = np.array([random.uniform(-0.3, 0.3) * width, random.uniform(-0.2, 0.4) * length, 1.2])
    focal = wh_px[0] * random.uniform(0.8, 2.0)
    return Camera.aim(position, target, focal, ((wh_px[0] - 1) / 2, (wh_px[1] - 1) / 2))


def paint_plate(
    random: np.random.Generator, camera: Camera, sport: Sport, palette: int, wh_px: tuple[int, int], margin_px: int
) -> np.ndarray:
    """The still picture of the hall with a margin on all sides: uint8 [H + 2m, W + 2m, 3]."""
    court, surround, texture, outdoor = PALETTES[palette]
    width, length = sport.court_wl_m
    rays = camera.rays(wh_px, margin_px)
    reach = np.array([width * 1.6 + 3, length * 0.5 + random.uniform(2.5, 7)])
    distance, which = _first_hit(rays, camera.position_m, reach)
    point = camera.position_m.astype(np.float32) + rays * distance[..., None]
    picture = np.empty(rays.shape, np.float32)
    floor = which == 0
    picture[:] = _walls(random, point, which, outdoor=outdoor)
    picture[floor] = _floor(random, point, sport, (court, surround, texture))[floor]
    light = 1 + random.uniform(-0.25, 0.25) * np.linspace(-1, 1, rays.shape[1])[None, :, None]
    picture *= light * random.uniform(0.7, 1.1)
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    _letter(random, image, camera, sport, margin_px, reach[1])
    _stray_spots(random, image, camera, sport, margin_px)
    if not outdoor or random.random() < 0.3:
        _lamps(random, image, camera, margin_px, reach[1])
    _net(image, camera, sport, margin_px)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.8))))


def _first_hit(rays: np.ndarray, origin_m: np.ndarray, reach_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameter and index of the first surface hit: 0 floor, 1 side wall, 2 back wall, 3 nothing."""
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 2] < -1e-6, -origin_m[2] / rays[..., 2], np.inf)
        sides = np.maximum((reach_m[0] - origin_m[0]) / rays[..., 0], (-reach_m[0] - origin_m[0]) / rays[..., 0])
        back = np.where(rays[..., 1] > 1e-6, (reach_m[1] - origin_m[1]) / rays[..., 1], np.inf)
    each = np.stack([floor, np.where(sides > 0, sides, np.inf), back, np.full_like(back, 1e6)])
    which = each.argmin(axis=0)
    return np.take_along_axis(each, which[None], axis=0)[0].astype(np.float32), which


def _band(value: np.ndarray, centre: float, width_m: float) -> np.ndarray:
    """Share of each pixel that a stripe ``width_m`` wide around ``value == centre`` covers (box-filtered)."""
    rise, run = np.gradient(value)
    pixel = np.maximum(np.abs(rise) + np.abs(run), 1e-4)
    offset = value - centre
    low, high = np.maximum(offset - pixel / 2, -width_m / 2), np.minimum(offset + pixel / 2, width_m / 2)
    return np.clip(high - low, 0, None) / pixel


def _cloud(random: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """Smooth noise in about [-1, 1], float32 [H, W], with ``cells`` cells along the longer side."""
    ratio = cells / max(shape[:2])
    small = random.standard_normal((max(2, int(shape[0] * ratio)), max(2, int(shape[1] * ratio)))).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _floor(
    random: np.random.Generator, point: np.ndarray, sport: Sport, look: tuple[tuple[int, ...], tuple[int, ...], str]
) -> np.ndarray:
    """Colours of the floor: court and surround with their texture, and the lines."""
    court, surround, texture = look
    width, length = sport.court_wl_m
    x, y = point[..., 0], point[..., 1]
    apron = random.uniform(0.6, 2.2)
    inside = (np.abs(x) < width / 2 + apron) & (np.abs(y) < length / 2 + apron * 1.3)
    colour = np.where(inside[..., None], np.array(court, np.float32), np.array(surround, np.float32))
    colour += random.normal(0, 10, 3).astype(np.float32)
    tile = random.standard_normal((256, 256)).astype(np.float32)
    grain = tile[(y * 14).astype(int) & 255, (x * 14).astype(int) & 255]
    strength = {"mat": 1.5, "hard": 2.5, "wood": 2.0, "grass": 7.0, "clay": 6.0, "sand": 11.0}[texture]
    shade = grain * strength + 6 * _cloud(random, x.shape, 5) + (strength * 0.7) * _cloud(random, x.shape, 60)
    if texture == "grass":
        shade += 7 * np.sign(np.sin(y * np.pi / random.uniform(1.5, 3)))
    if texture == "wood":
        shade += 9 * tile[(x * 9).astype(int) & 255, (y * 0.6).astype(int) & 255]
    colour += shade[..., None]
    return _lines(random, colour, x, y, sport)


def _lines(random: np.random.Generator, colour: np.ndarray, x: np.ndarray, y: np.ndarray, sport: Sport) -> np.ndarray:
    """Paint the court's lines over the floor."""
    width, length = sport.court_wl_m
    cover = np.zeros(x.shape, np.float32)
    line_m = random.uniform(0.04, 0.07)
    near = (np.abs(x) <= width / 2 + line_m / 2, np.abs(y) <= length / 2 + line_m / 2)
    along = [-width / 2, width / 2, -width / 2 + 0.12 * width, width / 2 - 0.12 * width, 0.0]
    across = [-length / 2, length / 2, -0.29 * length, 0.29 * length]
    if random.random() < 0.5:
        across += [-0.45 * length, 0.45 * length]
    for position in along:
        cover = np.maximum(cover, _band(x, position, line_m) * near[1])
    for position in across:
        cover = np.maximum(cover, _band(y, position, line_m) * near[0])
    paint = random.choice([[240, 240, 236], [236, 228, 120], [250, 250, 250]]).astype(np.float32)
    return colour + cover[..., None] * random.uniform(0.65, 0.95) * (paint - colour)


def _walls(random: np.random.Generator, point: np.ndarray, which: np.ndarray, *, outdoor: bool) -> np.ndarray:
    """Colours of the walls: boards at the bottom, above them a crowd or trees, above those lights out or sky."""
    along = np.where(which == 1, point[..., 1], point[..., 0])
    height = point[..., 2]
    boards = random.integers(10, 200, (64, 3)).astype(np.float32)
    board_m, top_m = random.uniform(0.8, 1.4), random.uniform(4, 9)
    colour = boards[(along / random.uniform(2, 5)).astype(int) & 63]
    ground = random.uniform(8, 60, 3) if not outdoor else np.array([38.0, 62, 34]) + random.uniform(-15, 20)
    if outdoor and random.random() < 0.5:
        leaves = _cloud(random, which.shape, 90) * 14 + _cloud(random, which.shape, 20) * 12
        above = ground.astype(np.float32) + leaves[..., None]
    else:
        above = _crowd(random, along, height, ground)
    sky = (np.array([176.0, 196, 222]) if outdoor else random.uniform(2, 26, 3)).astype(np.float32)
    colour = np.where((height > board_m)[..., None], above, colour)
    colour = np.where((height > top_m)[..., None] | (which == 3)[..., None], sky, colour)
    return colour + _cloud(random, which.shape, 150)[..., None] * 2


def _crowd(random: np.random.Generator, along: np.ndarray, height: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Seats with people: a body's colour per cell and a head in most of them."""
    column, row = along / 0.55, height / 0.5
    cell = (row.astype(int) & 63, column.astype(int) & 63)
    clothes = (random.uniform(0, 1, (64, 64, 1)) ** 2 * random.uniform(20, 190, (64, 64, 3))).astype(np.float32)
    heads = np.array(_SKIN, np.float32)[random.integers(len(_SKIN), size=(64, 64))] * random.uniform(0.3, 0.9)
    offset = np.hypot(column - np.floor(column) - 0.5, (row - np.floor(row) - 0.65) * 0.9)
    seated = (random.random((64, 64)) < random.uniform(0.3, 0.95))[cell]
    body = np.where(seated[..., None], clothes[cell] * random.uniform(0.3, 0.9), ground.astype(np.float32))
    return np.where((seated & (offset < 0.22))[..., None], heads[cell], body)


def _letter(
    random: np.random.Generator, image: Image.Image, camera: Camera, sport: Sport, margin_px: int, back_m: float
) -> None:
    """Write made-up names on the boards and on the floor."""
    draw = ImageDraw.Draw(image)
    width, length = sport.court_wl_m
    spots = [(x, back_m - 0.05, 0.6, 0.5) for x in np.arange(-1.4 * width, 1.4 * width, 3.2)]
    spots += [(0.0, random.uniform(-0.3, 0.3) * length, 0.0, 0.9), (width * 0.3, -0.56 * length, 0.0, 0.6)]
    for x, y, z, size_m in spots:
        xy, px_per_m = camera.project(np.array([x, y, z]))
        size = float(np.clip(px_per_m * size_m, 4, 120))
        name = "".join(random.choice(list(string.ascii_uppercase), int(random.integers(3, 8))))
        ink = tuple(int(v) for v in random.choice([[240, 240, 240], [240, 220, 60], [20, 20, 30]]))
        draw.text(tuple(xy + margin_px), name, fill=ink, font=ImageFont.load_default(size), anchor="mm")


def _stray_spots(random: np.random.Generator, image: Image.Image, camera: Camera, sport: Sport, margin_px: int) -> None:
    """Things that look like a ball and lie still: spare balls, bottles, towels, marks."""
    draw = ImageDraw.Draw(image)
    width, length = sport.court_wl_m
    for _ in range(int(random.integers(2, 14))):
        place = np.array([random.uniform(-1.2, 1.2) * width, random.uniform(-0.7, 0.7) * length, sport.ball_m / 2])
        if random.random() < 0.4:
            place[2] = random.uniform(0.5, 5)
        xy, px_per_m = camera.project(place)
        radius = np.clip(px_per_m * sport.ball_m, 1.0, 9.0) * random.uniform(0.5, 1.0)
        ink = random.choice([[250, 250, 250], [214, 232, 60], [240, 190, 60], [30, 30, 30]])
        ink = tuple(int(v) for v in ink * random.uniform(0.7, 1.0))
        x, y = xy + margin_px
        draw.ellipse((x - radius, y - radius * random.uniform(0.6, 1.1), x + radius, y + radius), fill=ink)


def _lamps(random: np.random.Generator, image: Image.Image, camera: Camera, margin_px: int, back_m: float) -> None:
    """Rows of lamps high above the far end."""
    draw = ImageDraw.Draw(image)
    height = random.uniform(3.5, 8)
    for x in np.arange(-14, 14, random.uniform(1.2, 4)):
        xy, px_per_m = camera.project(np.array([x, back_m - 0.1, height]))
        radius = max(1.0, px_per_m * 0.12)
        x_px, y_px = xy + margin_px
        draw.ellipse((x_px - radius, y_px - radius, x_px + radius, y_px + radius), fill=(255, 252, 240))


def _net(image: Image.Image, camera: Camera, sport: Sport, margin_px: int) -> None:
    """The net: a translucent band with a white tape and two posts."""
    half = sport.court_wl_m[0] / 2 + 0.4
    low = 0.75 if sport.net_m > 1.2 else 0.05
    corners = np.array([[-half, 0, sport.net_m], [half, 0, sport.net_m], [half, 0, low], [-half, 0, low]])
    xy, px_per_m = camera.project(corners)
    xy = xy + margin_px
    band = Image.new("L", image.size, 0)
    ImageDraw.Draw(band).polygon([tuple(point) for point in xy], fill=70)
    image.paste((20, 22, 26), mask=band)
    draw = ImageDraw.Draw(image)
    tape = max(1, round(float(px_per_m[0]) * 0.06))
    draw.line([tuple(xy[0]), tuple(xy[1])], fill=(235, 235, 235), width=tape)
    for x in (-half, half):
        foot, _ = camera.project(np.array([[x, 0, 0], [x, 0, sport.net_m]]))
        draw.line([tuple(point) for point in foot + margin_px], fill=(60, 62, 66), width=max(1, tape))


@dataclass(frozen=True)
class Clothes:
    """Colours of one person, RGB."""

    shirt: tuple[int, int, int]
    shorts: tuple[int, int, int]
    shoes: tuple[int, int, int]
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Clothes":
        """A random outfit; shoes are often white."""

        def any_colour() -> tuple[int, int, int]:
            base = random.choice(
                [[240, 240, 240], [24, 24, 28], [200, 30, 40], [30, 60, 170], [230, 200, 40], [40, 150, 90]]
            )
            red, green, blue = (int(np.clip(v + random.normal(0, 18), 0, 255)) for v in base)
            return red, green, blue

        shoes = (238, 238, 236) if random.random() < 0.6 else any_colour()
        return cls(any_colour(), any_colour(), shoes, _SKIN[random.integers(len(_SKIN))], (30, 24, 20))


def place_officials(
    random: np.random.Generator, plate: np.ndarray, camera: Camera, sport: Sport, margin_px: int
) -> np.ndarray:
    """The plate with line judges, coaches and ball kids standing around the court."""
    picture = plate.astype(np.float32)
    width, length = sport.court_wl_m
    for _ in range(int(random.integers(1, 7))):
        x = random.choice([-1, 1]) * width * random.uniform(0.7, 1.2)
        ground = np.array([x, random.uniform(-0.3, 0.7) * length, 0.0])
        foot, px_per_m = camera.project(ground)
        patch, (left, top) = draw_person(
            foot + margin_px, float(px_per_m), Clothes.draw(random), height_m=random.uniform(1.2, 1.85),
            stride=0.0, phase=0.0, swing=0.2, handed=1, racket=False,
        )  # fmt: skip
        bottom, right = top + patch.shape[0], left + patch.shape[1]
        if left >= 0 and top >= 0 and bottom <= picture.shape[0] and right <= picture.shape[1]:
            behind = picture[top:bottom, left:right]
            picture[top:bottom, left:right] = patch[..., :3] + behind * (1 - patch[..., 3:] / 255)
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def draw_person(
    foot_xy_px: np.ndarray, px_per_m: float, clothes: Clothes, *, height_m: float, stride: float, phase: float,
    swing: float, handed: int, racket: bool,
) -> tuple[np.ndarray, tuple[int, int]]:  # fmt: skip
    """A person as limbs: premultiplied RGBA float32 [h, w, 4] in 0..255 and the patch's top-left px.

    ``stride`` 0..1 opens the legs, ``phase`` (rad) moves them, ``swing`` (rad, 0 hanging, pi straight up) lifts the
    racket arm.
    """
    unit = px_per_m * height_m
    zoom = 2 if unit < 200 else 1  # supersampling; large figures have few edge pixels for their area
    left, top = int(np.floor(foot_xy_px[0] - unit * 0.95)), int(np.floor(foot_xy_px[1] - unit * 1.65))
    wide, tall = int(unit * 1.9) + 3, int(unit * 1.8) + 3
    canvas = Image.new("RGBA", (wide * zoom, tall * zoom))
    draw = ImageDraw.Draw(canvas)

    def at(x: float, z: float) -> tuple[float, float]:
        return (
            (foot_xy_px[0] + 0.5 - left + x * unit) * zoom,
            (foot_xy_px[1] + 0.5 - top - z * unit) * zoom,
        )

    def limb(points: list[tuple[float, float]], thick: float, colour: tuple[int, int, int]) -> None:
        joints = [at(*point) for point in points]
        size = max(1.0, thick * unit * zoom)
        draw.line(joints, fill=(*colour, 255), width=max(1, round(size)), joint="curve")
        for x, y in (joints[0], joints[-1]):
            draw.ellipse((x - size / 2, y - size / 2, x + size / 2, y + size / 2), fill=(*colour, 255))

    hip, neck = 0.5 - 0.07 * stride, 0.82 - 0.08 * stride
    lean = 0.05 * stride * np.sin(phase * 0.3)
    for sign in (-1, 1):
        spread = sign * (0.06 + 0.16 * stride * abs(np.cos(phase))) + 0.1 * stride * np.sin(phase)
        lift = 0.16 * stride * max(0.0, sign * np.sin(phase))
        knee = (spread * 0.75, hip * 0.52 + lift)
        limb([(0.04 * sign, hip), knee], 0.085, clothes.shorts if stride > 0.2 else clothes.skin)
        limb([knee, (spread, 0.05 + lift)], 0.06, clothes.skin)
        limb([(spread, 0.02 + lift), (spread + 0.05 * sign, 0.02 + lift)], 0.05, clothes.shoes)
    limb([(-0.03, hip), (0.03, hip)], 0.15, clothes.shorts)
    limb([(0.0, hip + 0.08), (lean, neck - 0.05)], 0.19, clothes.shirt)
    limb([(lean, neck), (lean * 1.2, neck + 0.1)], 0.1, clothes.skin)
    limb([(lean * 1.2, neck + 0.12), (lean * 1.2, neck + 0.125)], 0.1, clothes.hair)
    off = -handed
    elbow = (lean + off * 0.15, neck - 0.17)
    limb([(lean + off * 0.09, neck - 0.02), elbow], 0.05, clothes.shirt)
    limb([elbow, (elbow[0] + off * 0.1, elbow[1] + 0.06 * np.sin(phase))], 0.04, clothes.skin)
    reach = (np.sin(swing) * handed, -np.cos(swing))
    shoulder = (lean + handed * 0.09, neck - 0.02)
    elbow = (shoulder[0] + 0.16 * reach[0], shoulder[1] + 0.16 * reach[1])
    hand = (elbow[0] + 0.15 * reach[0], elbow[1] + 0.15 * reach[1])
    limb([shoulder, elbow], 0.05, clothes.shirt)
    limb([elbow, hand], 0.04, clothes.skin)
    if racket:
        head = (hand[0] + 0.26 * reach[0], hand[1] + 0.26 * reach[1])
        limb([hand, head], 0.012, (40, 40, 44))
        x, y = at(*head)
        size = 0.07 * unit * zoom
        draw.ellipse(
            (x - size, y - size, x + size, y + size), outline=(225, 225, 225, 200), width=max(1, round(size / 7))
        )
    x0, y0, x1, y1 = canvas.getbbox() or (0, 0, zoom, zoom)
    x0, y0, x1, y1 = x0 // zoom, y0 // zoom, -(-x1 // zoom), -(-y1 // zoom)  # the arms' reach is mostly empty
    drawn = canvas.crop((x0 * zoom, y0 * zoom, x1 * zoom, y1 * zoom)).convert("RGBa").reduce(zoom)
    return np.asarray(drawn, np.float32), (left + x0, top + y0)
