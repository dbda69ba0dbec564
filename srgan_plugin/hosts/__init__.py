"""Adapters for toolboxes: `mmengine` (with MMagic) and `basicsr`."""
