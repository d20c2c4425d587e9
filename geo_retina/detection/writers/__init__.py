"""One module a file format: each turns detections into one whole file in a private folder."""
