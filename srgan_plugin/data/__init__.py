"""LR/HR pairs: resizing, sampling, augmentation, and the training set in GPU memory.

Images are RGB, uint8, (H, W, 3). Nothing here depends on mmengine, MMagic or BasicSR.
"""
