"""In the helper: a page as the tensor that a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image

from paddock_extraction.facts import Preprocessor

_FLIP = PIL.Image.Transpose.ROTATE_270
MAX_SIDE = 8192  # pixels; more is a lie in the model's files

MAX_GROWN = 64 * 1024 * 1024  # pixels; a receipt 70 times as long as wide has them for the published models


def target_size(config: Preprocessor, usual: int = 224) -> tuple[int, int]:
    """Height and width. Lists are width and height, as older files have them. Raises ValueError."""
    size = config.size
    if isinstance(size, dict):
        height, width = size.get("height", usual), size.get("width", usual)
    elif isinstance(size, list) and len(size) == 2:
        width, height = size
    else:
        height = width = size if isinstance(size, int) else usual
    if not (isinstance(height, int) and isinstance(width, int) and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError("preprocessor_config.json names no size")
    return height, width


def donut_pixels(image: PIL.Image.Image, config: Preprocessor) -> Any:
    """A page for Donut, shape (1, 3, height, width): its long side as the model has it, fitted in, the rest black.

    It is fitted in by cubic interpolation whatever `resample` says: so do transformers 4 and the code that the published models
    were trained with (transformers 5 takes `resample`).
    """
    height, width = target_size(config)
    image = image.convert("RGB")
    resample = PIL.Image.Resampling(config.resample)
    if config.do_align_long_axis and (image.width - image.height) * (width - height) < 0:
        image = image.transpose(_FLIP)
    shortest = min(height, width)
    grown = (int(shortest * image.width / min(image.size)), int(shortest * image.height / min(image.size)))
    # An endless strip would grow beyond all bounds before it is fitted in: then it is fitted in at once.
    if config.do_resize and grown[0] * grown[1] <= MAX_GROWN:
        image = image.resize(grown, resample)
    if config.do_thumbnail:
        image = _fitted(image, height, width)
    if config.do_pad:
        image = _padded(image, height, width)
    return _tensor(image.resize((width, height), resample) if image.size != (width, height) else image, config)


def _fitted(image: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    tall, wide = min(image.height, height), min(image.width, width)
    if (tall, wide) == (image.height, image.width):
        return image
    if image.height > image.width:
        wide = int(image.width * tall / image.height)
    elif image.width > image.height:
        tall = int(image.height * wide / image.width)
    return image.resize((max(1, wide), max(1, tall)), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)


def _padded(image: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    page = PIL.Image.new("RGB", (width, height))
    page.paste(image, (max(0, (width - image.width) // 2), max(0, (height - image.height) // 2)))
    return page


def layout_pixels(image: PIL.Image.Image, config: Preprocessor) -> Any:
    """A page for LayoutLMv3, shape (1, 3, height, width): stretched whatever `do_resize` says, because a graph takes one size."""
    height, width = target_size(config)
    return _tensor(image.convert("RGB").resize((width, height), PIL.Image.Resampling(config.resample)), config)


def _tensor(image: PIL.Image.Image, config: Preprocessor) -> Any:
    pixels: Any = np.asarray(image, dtype=np.float32)
    if config.do_rescale:
        pixels = pixels * np.float32(config.rescale_factor)
    if config.do_normalize:
        pixels = (pixels - np.asarray(config.image_mean, np.float32)) / np.asarray(config.image_std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
