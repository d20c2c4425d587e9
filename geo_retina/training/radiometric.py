"""Changes of light, air and optics as albumentations transforms: any number of bands, no clipping.

Images are float32, 0 and 1 are the ends of the card's value range. albumentations' own versions cut
floats off at 0 and 1, while detection shows the network values beyond that range as they are.
"""

from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

_AIRLIGHT = (0.7, 1.0)
_THICKEST = 0.4
"""Share of the light that a veil of haze may hide."""
_SIGMA_PX = (0.3, 1.0)
_MOST_BANDS_AT_ONCE = 4  # of OpenCV

Image = NDArray[np.float32]


class Light(A.ImageOnlyTransform):  # type: ignore[misc]
    """Another exposure: a gain and a shift of all bands alike."""

    def __init__(self, *, brightness: float, contrast: float, p: float) -> None:
        super().__init__(p=p)
        self.brightness = brightness
        self.contrast = contrast

    def get_params(self) -> dict[str, Any]:
        """Draw the gain and the shift."""
        return {
            "gain": 1 + self.py_random.uniform(-self.contrast, self.contrast),
            "shift": self.py_random.uniform(-self.brightness, self.brightness),
        }

    def apply(self, img: Image, gain: float, shift: float, **_: Any) -> Image:  # noqa: ANN401
        """Change one image."""
        return img * np.float32(gain) + np.float32(shift)


class Haze(A.ImageOnlyTransform):  # type: ignore[misc]
    """A veil of scattered light that is thicker on one side: I = J t + A (1 - t).

    The model of Koschmieder as in He et al., "Single Image Haze Removal Using Dark Channel Prior"
    (CVPR 2009), equation 1, with a transmission t that changes evenly across the chip.
    """

    def get_params(self) -> dict[str, Any]:
        """Draw the veil's two ends, its direction and its brightness."""
        return {
            "ends": [self.py_random.uniform(0, _THICKEST) for _ in range(2)],
            "turn": self.py_random.uniform(0, 2 * np.pi),
            "airlight": self.py_random.uniform(*_AIRLIGHT),
        }

    def apply(
        self,
        img: Image,
        ends: tuple[float, float],
        turn: float,
        airlight: float,
        **_: Any,  # noqa: ANN401
    ) -> Image:
        """Change one image."""
        y, x = np.mgrid[-0.5 : 0.5 : img.shape[0] * 1j, -0.5 : 0.5 : img.shape[1] * 1j]
        along = (x * np.cos(turn) + y * np.sin(turn)) / np.sqrt(2) + 0.5  # in 0..1
        veil = (ends[0] + (ends[1] - ends[0]) * along).astype(np.float32)[..., None]
        hazy: Image = img * (1 - veil) + np.float32(airlight) * veil
        return hazy


class Blur(A.ImageOnlyTransform):  # type: ignore[misc]
    """A slight Gaussian blur: other optics, motion, an orthophoto's resampling."""

    def get_params(self) -> dict[str, Any]:
        """Draw the width of the kernel."""
        return {"sigma": self.py_random.uniform(*_SIGMA_PX)}

    def apply(self, img: Image, sigma: float, **_: Any) -> Image:  # noqa: ANN401
        """Change one image."""
        blurred: Image = np.zeros_like(img)  # OpenCV would drop the axis of a single band
        cv2.GaussianBlur(img, (0, 0), sigma, dst=blurred)
        return blurred


class CoarserGsd(A.ImageOnlyTransform):  # type: ignore[misc]
    """The detail of a coarser raster: averaged down, then interpolated up as detection does."""

    def __init__(self, *, most: float, p: float) -> None:
        super().__init__(p=p)
        self.most = most

    def get_params(self) -> dict[str, Any]:
        """Draw how many times coarser."""
        return {"times": self.py_random.uniform(1, self.most)}

    def apply(self, img: Image, times: float, **_: Any) -> Image:  # noqa: ANN401
        """Change one image."""
        height, width = img.shape[:2]
        coarse = max(round(height / times), 1), max(round(width / times), 1)
        return resized(resized(img, *coarse), height, width)


def resized(image: Image, height: int, width: int) -> Image:
    """Resample (rows, columns, bands): by averaging to fewer pixels, bilinear to more."""
    method = (
        cv2.INTER_AREA if height * width < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    )
    parts = []
    for first in range(0, image.shape[2], _MOST_BANDS_AT_ONCE):
        bands = np.ascontiguousarray(image[:, :, first : first + _MOST_BANDS_AT_ONCE])
        changed = cv2.resize(bands, (width, height), interpolation=method)
        parts.append(np.asarray(changed, np.float32).reshape(height, width, -1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
