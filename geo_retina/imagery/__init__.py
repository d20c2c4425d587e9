"""What is read: rasters, masks and radiometry. rasterio."""
