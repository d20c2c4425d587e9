"""What the fixtures of `conftest` are, for the tests that take them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geo_retina.card import ModelCard

WriteRaster = Callable[..., Path]
Noise = Callable[..., NDArray[Any]]
MakeCard = Callable[..., ModelCard]
BlobModel = Callable[..., Any]
