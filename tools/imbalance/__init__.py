"""The parts of `tools/imbalance_study.py`."""
