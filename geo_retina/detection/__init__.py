"""The main job: a raster in, georeferenced detections out."""
