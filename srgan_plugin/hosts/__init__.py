"""Thin adapters that hand the rooms to the toolboxes: `mm` to mmengine and MMagic."""
