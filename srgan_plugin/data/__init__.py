"""LR/HR pairs: resizing, sampling, augmentation, and the training set in GPU memory.

Every image is RGB, uint8, height x width x channel. Nothing here knows a toolbox.
"""
