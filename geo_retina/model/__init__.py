"""The RetinaNet. Pure torch and torchvision; knows no raster."""
