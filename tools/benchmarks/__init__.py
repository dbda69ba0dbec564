"""How fast ours and the toolboxes are, side by side, on the same files: `tools/benchmark.py`."""
