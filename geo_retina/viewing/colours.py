"""Colours of classes, the same in pictures and on maps."""

_GOLDEN_ANGLE = 137.508
_CHOSEN = ("#ffd60a", "#00c8ff", "#ff5aa0", "#96ff50", "#ff8c00", "#b48cff", "#00e6b4", "#ffffff")


def colour_of(class_id: int) -> str:
    """Colour of a class as CSS and Pillow read it; after the chosen ones a golden angle apart.

    Args:
        class_id: From 0.
    """
    if class_id < len(_CHOSEN):
        return _CHOSEN[class_id]
    return f"hsl({class_id * _GOLDEN_ANGLE % 360:.0f},90%,{60 + 15 * (class_id % 2)}%)"
