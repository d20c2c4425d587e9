"""Where things are: windows, boxes, grids, detections and NMS. Neither torch nor rasterio."""
