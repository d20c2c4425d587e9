import numpy as np
from PIL import Image

from geo_retina.labels.pictures import Outline, draw_outlines
from geo_retina.space.windows import Window


def test_boxes_under_a_pixel_of_a_shrunken_picture_are_drawn() -> None:
    """As in reports on images of thousands of pixels with objects of some pixels."""
    outline = Outline(np.array([[400.0, 400, 404, 402], [0, 0, 1, 1]]), (255, 0, 0))
    black = Image.new("RGB", (800, 800))
    shown = draw_outlines(black, [outline], window=Window(0, 0, 800, 800), zoom=0.1)
    red = np.asarray(shown)[..., 0] == 255
    assert red[0, 0]
    assert red[40, 40]
    assert red.sum() <= 4, "Pillow draws some rectangles of one pixel two high"
