"""What is known to be there: label formats, training chips and splits."""
