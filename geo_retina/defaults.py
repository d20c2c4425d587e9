"""Defaults that several rooms and the command line share."""

MODEL = "tree-crowns"
"""The bundled model that is used where none is named."""
MATCH_IOU = 0.4
"""Least overlap of a detection and the label it matches: usual for tree crowns; others take 0.5."""
