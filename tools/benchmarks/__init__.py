"""Timing against the toolboxes, on the same files: `tools/benchmark.py`. Not installed."""
