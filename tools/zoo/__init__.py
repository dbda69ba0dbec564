"""The weights that ship: what they learn from, how they are chosen, measured, told of and shown."""
