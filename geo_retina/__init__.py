"""Detect dense, small objects in large georeferenced rasters with a focal-loss RetinaNet."""
