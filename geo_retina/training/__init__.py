"""From labelled rasters to a checkpoint."""
