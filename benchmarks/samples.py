"""Owns the benchmark pictures and sentences: photographs and faces that packages ship, and plain English."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

__all__ = [
    "CALIBRATION_PHOTOS",
    "CALIBRATION_SENTENCES",
    "EVALUATION_PHOTOS",
    "EVALUATION_SENTENCES",
    "astronaut_faces",
    "crops",
    "labelled_patches",
    "package_folder",
    "photo",
]

Inputs = tuple[torch.Tensor, ...]

# No photograph is in both lists: what was calibrated on is never evaluated.
CALIBRATION_PHOTOS = ("china", "astronaut", "coffee", "hubble_deep_field", "ihc")
EVALUATION_PHOTOS = ("flower", "chelsea", "rocket", "motorcycle_left", "camera")

_SKLEARN_PHOTOS = frozenset({"china", "flower"})


def package_folder(package: str) -> Path:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{package} is not installed; install both requirements files of benchmarks/", name=package
        )
    return Path(spec.origin).parent


@functools.cache
def photo(name: str) -> Image.Image:
    """A photograph that ships inside scikit-learn or scikit-image, as RGB."""
    if name in _SKLEARN_PHOTOS:
        folder = package_folder("sklearn") / "datasets" / "images"
    else:
        folder = package_folder("skimage") / "data"
    [path] = folder.glob(f"{name}.*")
    return Image.open(path).convert("RGB")


def _pixels(
    image: Image.Image, size: int, mean: float | Sequence[float], std: float | Sequence[float]
) -> torch.Tensor:
    resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32)
    values = (resized - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def crops(
    names: Sequence[str],
    *,
    size: int,
    count: int,
    seed: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    least: float = 0.5,
) -> list[Inputs]:
    """Random square crops of the photographs in turn, float32 of shape (1, 3, size, size).

    A crop's side is uniform in [``least``, 1] of the photograph's short side; a value is
    (pixel - ``mean``) / ``std`` with the pixel in 0..255.
    """
    draw = np.random.default_rng(seed)
    batches: list[Inputs] = []
    for index in range(count):
        image = photo(names[index % len(names)])
        side = int(min(image.size) * draw.uniform(least, 1.0))
        left, top = (int(draw.integers(0, extent - side + 1)) for extent in image.size)
        batches.append((_pixels(image.crop((left, top, left + side, top + side)), size, mean, std),))
    return batches


_ASTRONAUT_FACE = (224, 118, 120)
"""Centre (x, y) and side in pixels of the face in scikit-image's astronaut photograph."""

# The scaling that the MTCNN weights were trained with: (pixel - 127.5) / 128.
_MTCNN = {"mean": 127.5, "std": 128.0}


def astronaut_faces(*, size: int, count: int, seed: int) -> list[Inputs]:
    """Crops around one real face, moved by up to 8 % and scaled by 0.85 to 1.25; (1, 3, size, size)."""
    draw = np.random.default_rng(seed)
    x, y, side = _ASTRONAUT_FACE
    batches: list[Inputs] = []
    for _ in range(count):
        half = side * draw.uniform(0.85, 1.25) / 2
        dx, dy = draw.uniform(-0.08, 0.08, size=2) * side
        box = tuple(round(v) for v in (x + dx - half, y + dy - half, x + dx + half, y + dy + half))
        batches.append((_pixels(photo("astronaut").crop(box), size, **_MTCNN),))
    return batches


def labelled_patches(*, size: int, start: int, step: int = 8) -> tuple[list[Inputs], list[int]]:
    """Grey 25×25 patches of faces and of background from scikit-image; (1, 3, size, size) and 1 or 0.

    The file holds 100 faces, then 100 patches without one; ``start`` and ``step`` pick disjoint parts.
    """
    patches = np.load(package_folder("skimage") / "data" / "lfw_subset.npy")
    batches: list[Inputs] = []
    labels: list[int] = []
    for index in range(start, len(patches), step):
        grey = Image.fromarray(np.round(patches[index] * 255).astype(np.uint8)).convert("RGB")
        batches.append((_pixels(grey, size, **_MTCNN),))
        labels.append(int(index < len(patches) // 2))
    return batches, labels


CALIBRATION_SENTENCES = (
    "The train to the coast leaves at half past seven.",
    "Interest rates rose for the third month in a row.",
    "She soldered the last wire and switched the amplifier on.",
    "How do I change the language of my phone?",
    "A convolution slides a small filter over the image.",
    "Boil the lentils for twenty minutes, then add salt and cumin.",
    "The contract ends on the last day of June unless either party objects.",
    "Whales sleep with one half of the brain at a time.",
    "Please restart the router and try again.",
    "He scored twice in the second half.",
    "Proteins fold into shapes that decide what they do.",
    "No.",
    "The museum is closed on Mondays, but the garden stays open to visitors all week long.",
    "Rain is expected in the north, with strong winds along the western hills tonight.",
    "My grandmother kept her letters in a blue tin box.",
    "Sorting a list of n items by comparison takes on the order of n log n steps.",
)

EVALUATION_SENTENCES = (
    "Where is the nearest pharmacy?",
    "The bridge was rebuilt after the flood of 1954.",
    "Quantization stores a network's weights in eight bits.",
    "Two eggs, a cup of flour and a little milk make a good batter.",
    "The court dismissed the appeal without a hearing.",
    "Our flight was delayed because of fog over the runway.",
    "Glaciers carve valleys as they move.",
    "I can't log in to my account.",
    "The violinist tuned her instrument while the hall slowly filled with people.",
    "Shares of the company fell by four percent after the announcement.",
    "Yes, of course!",
    "Bees tell one another where the flowers are by dancing.",
)
