"""Pictures of a dataset: files in its folder, opened upright, each fault told of its own picture.

Nothing outside the folder is opened, and no picture that would not fit in memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llm_relabel.config.job import DataSection
from llm_relabel.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# More pixels than any camera's picture has; a file of a few kB can claim billions.
MOST_PIXELS = 200_000_000
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


class Pictures:
    """The pictures that the rows of a dataset name, relative to its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.size = lru_cache(maxsize=4096)(self._size)

    def path(self, name: str) -> Path:
        """The file of this name. Raises DataError where it is not in the folder, or not there."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise DataError(f"the picture {name!r} lies outside of the dataset's folder")
        if not path.is_file():
            raise DataError(f"the picture {name!r} is not in {str(self.folder)!r}")
        return path

    def digest(self, name: str) -> str:
        """The hash of the file's bytes. Raises DataError."""
        return hashlib.sha256(self.path(name).read_bytes()).hexdigest()

    def _size(self, name: str) -> tuple[int, int]:
        """Width and height of the upright picture, from its header. Raises DataError."""
        with _opened(self.path(name), name) as image:
            width, height = image.size
            if _orientation(image) in _TURNED:
                width, height = height, width
            return width, height

    def upright(self, name: str) -> Image.Image:
        """The picture in RGB, turned as EXIF says; of an animation the first. Raises DataError."""
        from PIL import ImageOps

        with _opened(self.path(name), name) as image:
            try:
                if image.mode.startswith("I") or image.mode == "F":
                    return _eight_bit(image)
                return ImageOps.exif_transpose(image).convert("RGB")
            except Exception as error:  # Pillow's plugins raise whatever a damaged file makes them
                raise DataError(f"the picture {name!r} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of one row."""

    pictures: Pictures
    name: str

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the upright picture; None where it cannot be read."""
        try:
            return self.pictures.size(self.name)
        except DataError:
            return None

    def upright(self) -> Image.Image:
        """The picture in RGB. Raises DataError."""
        return self.pictures.upright(self.name)

    def digest(self) -> str:
        """The hash of its file. Raises DataError."""
        return self.pictures.digest(self.name)


def pictures_of(section: DataSection) -> Pictures:
    """The pictures of a dataset; its paths are whole."""
    if section.image_folder is not None:
        return Pictures(Path(section.image_folder))
    path = Path(section.path)
    return Pictures(path if path.is_dir() else path.parent)


def _opened(path: Path, name: str) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(path)
    except Exception as error:
        raise DataError(f"the picture {name!r} cannot be read: {error}") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise DataError(
            f"the picture {name!r} claims {width} x {height} pixels, which is more than "
            f"{MOST_PIXELS:,}"
        )
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits and more, spread over those that are there."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    spread = np.nan_to_num((values - low) / max(high - low, 1e-9) * 255)
    return Image.fromarray(spread.astype(np.uint8)).convert("RGB")
