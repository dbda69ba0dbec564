"""Pictures in, patches out: reading, pairing, resizing, storing and cropping photographs.

Every picture is RGB, uint8, height x width x channel. Nothing here knows a toolbox.
"""
