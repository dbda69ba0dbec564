"""Thin adapters for toolboxes: `mmengine` (with MMagic) and `basicsr`."""
