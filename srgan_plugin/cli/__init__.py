"""Command lines: one module for each command, and modules for errors, configs and progress."""
