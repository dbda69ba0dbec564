"""Command lines: one module for each command, one for errors, one for configs."""
