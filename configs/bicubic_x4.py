# MATLAB's bicubic without a network, to check the protocols.
#
#   python tools/test.py configs/bicubic_x4.py none
#
# On the common benchmark files this gives Set5 26.665 / 0.7739 (RGB), 28.397 / 0.8115 (Y) and
# Set14 24.463 / 0.6641 (RGB), 26.088 / 0.7050 (Y).
_base_ = ['_base_/default_runtime.py', '_base_/datasets/div2k_x4.py']

reference_model = 'bicubic'
model = dict(type='SRModel', generator=dict(type='Bicubic', upscale_factor=4))

train_dataloader = val_dataloader = val_evaluator = val_cfg = None
