"""Pictures of rasters and detections."""
