"""The pictures of a question about boxes: numbered places on the whole, and each one enlarged.

Coordinates are never asked for, since vision models place them badly; they tell well what a marked
crop shows (Set-of-Mark, arXiv 2310.11441; ClipGrader, 2503.02897).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_relabel.data.boxes import Box, box_at
from llm_relabel.errors import DataError
from llm_relabel.images import ImagePart
from llm_relabel.tasks.posed import LETTERS, Posed

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# What a drawing looks like; a new look is a new question to a judge.
VERSION = "1"
LONGEST = 1024  # pixels of the longer side of the whole picture
CROP = 224  # pixels of a crop's side
AROUND = 0.6  # of the box's longer side: what is shown around it
LEAST_CROP = 24  # pixels of the picture that a crop shows at least
COLUMNS = 2  # places beside each other on the sheet of crops
COLOURS = ((230, 25, 75), (0, 130, 200))  # of A, or of the one box, and of B
MARGIN, LINE = 6, 20
# In a report: a place of a changed box, and the colours of boxes there.
SHOWN = 160
CAME, GONE, TURNED, OTHER = (20, 160, 60), (220, 30, 30), (240, 140, 0), (255, 255, 255)
QUALITY = 88


def drawn(picture: Any, question: Posed | None) -> tuple[ImagePart, ...]:
    """The picture with the numbered places, and the sheet of crops. Raises DataError."""
    if picture is None or question is None:
        return ()
    from PIL import Image

    whole = picture.upright()
    about = f"{picture.digest()} {VERSION} " + "; ".join(
        " ".join(box.key for box in place) for place in question.places
    )
    overview = _overview(whole, question.places)
    crops = [_crops(whole, number, place) for number, place in enumerate(question.places, start=1)]
    wide = max(each.width for each in crops)
    rows = -(-len(crops) // COLUMNS)
    high = crops[0].height
    columns = min(COLUMNS, len(crops))
    sheet = Image.new("RGB", (columns * wide + (columns - 1) * MARGIN, rows * high), "white")
    for number, each in enumerate(crops):
        at = (number % COLUMNS * (wide + MARGIN), number // COLUMNS * high)
        sheet.paste(each, at)
    return _part(overview, f"whole {about}"), _part(sheet, f"crops {about}")


def changed_place(
    whole: Image.Image, key: str, old: str | None, new: str | None, label: Sequence[Box]
) -> ImagePart:
    """A place of a picture whose box came (green), went (red) or took another class (orange), with
    the other boxes of the `label` that it has now."""
    from PIL import Image, ImageDraw

    box = box_at(key, "").box
    side = max(box[2] - box[0], box[3] - box[1], LEAST_CROP) * (1 + 2 * AROUND)
    x, y = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    frame = (round(x), round(y), round(x + side), round(y + side))
    shown = whole.crop(frame).resize((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    pen, scale = ImageDraw.Draw(shown), SHOWN / (frame[2] - frame[0])
    colour = CAME if old is None else GONE if new is None else TURNED
    others = [each.box for each in label if each.key != key]
    for each, own, width in [*((place, OTHER, 1) for place in others), (box, colour, 3)]:
        corners = [(v - frame[n % 2]) * scale for n, v in enumerate(each)]
        pen.rectangle(corners, outline=own, width=width)
    return _part(shown, f"{key} {old} {new}")


def _part(image: Image.Image, about: str) -> ImagePart:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=QUALITY)
    return ImagePart(held.getvalue(), drawn_from=about)


def _overview(whole: Image.Image, places: Sequence[Sequence[Box]]) -> Image.Image:
    from PIL import Image, ImageDraw

    scale = min(1.0, LONGEST / max(whole.size))
    if min(whole.size) * scale < 1:
        raise DataError(f"a picture of {whole.width} x {whole.height} cannot be shown")
    # Small pictures are enlarged, so that a number is small beside what it marks.
    scale = max(scale, min(3.0, LONGEST / 2 / max(whole.size)))
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    image = whole.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    taken: list[tuple[float, float, float, float]] = []
    for number, place in enumerate(places, start=1):
        for letter, colour, box in zip(LETTERS, COLOURS, place, strict=False):
            corners = [side * scale for side in box.box]
            pen.rectangle(corners, outline=colour, width=2)
            name = f"{number}{letter}" if len(place) > 1 else str(number)
            _name(pen, name, corners, colour, image.size, taken)
    return image


def _name(
    pen: ImageDraw.ImageDraw, name: str, corners: Sequence[float], colour: Any,
    size: tuple[int, int], taken: list[tuple[float, float, float, float]],
) -> None:  # fmt: skip
    """A name beside its box, inside the picture and on no other name."""
    font = _font(15)
    left, top, right, bottom = pen.textbbox((0, 0), name, font=font)
    wide, high = right - left + 6, bottom - top + 6
    x1, y1, x2, y2 = corners
    spots = [(x1, y1 - high), (x2 - wide, y1 - high), (x1, y2), (x2 - wide, y2),
             (x1 - wide, y1), (x2, y1), (x1, y1), (x2 - wide, y2 - high)]  # fmt: skip
    inside = [(min(max(x, 0), size[0] - wide), min(max(y, 0), size[1] - high)) for x, y in spots]
    free = [
        (x, y) for x, y in inside
        if all(x + wide <= a or c <= x or y + high <= b or d <= y for a, b, c, d in taken)
    ]  # fmt: skip
    x, y = (free or inside)[0]
    taken.append((x, y, x + wide, y + high))
    pen.rectangle((x, y, x + wide, y + high), fill=colour)
    pen.text((x + 3 - left, y + 3 - top), name, fill="white", font=font)


def _crops(whole: Image.Image, number: int, place: Sequence[Box]) -> Image.Image:
    """A place enlarged: without marks, and beside it with its boxes; its number above."""
    from PIL import Image, ImageDraw

    left = min(box.box[0] for box in place)
    top = min(box.box[1] for box in place)
    right = max(box.box[2] for box in place)
    bottom = max(box.box[3] for box in place)
    side = max(max(right - left, bottom - top) * (1 + AROUND), LEAST_CROP)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    frame = (round(x), round(y), round(x + side), round(y + side))
    plain = whole.crop(frame).resize((CROP, CROP), Image.Resampling.LANCZOS)
    marked, scale = plain.copy(), CROP / (frame[2] - frame[0])
    pen = ImageDraw.Draw(marked)
    for colour, box in zip(COLOURS, place, strict=False):
        corners = [
            (box.box[0] - frame[0]) * scale, (box.box[1] - frame[1]) * scale,
            (box.box[2] - frame[0]) * scale, (box.box[3] - frame[1]) * scale,
        ]  # fmt: skip
        pen.rectangle(corners, outline=colour, width=2)
    sheet = Image.new("RGB", (2 * CROP + MARGIN, CROP + LINE), "white")
    told = f"{number}" if len(place) == 1 else f"{number}: A red, B blue"
    ImageDraw.Draw(sheet).text((4, 1), told, fill="black", font=_font(15))
    sheet.paste(plain, (0, LINE))
    sheet.paste(marked, (CROP + MARGIN, LINE))
    return sheet


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
