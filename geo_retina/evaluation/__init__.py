"""How good a model is, measured on the ground."""
