# MSRResNet x2: as x4, with the same LR crops of 32x32, so GT is 64x64.
#
#   python tools/train.py configs/msrresnet_x2c64b16_g1_1000k_div2k.py
#
# There are no published results under this protocol.
_base_ = './msrresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = None
scale = 2
model = dict(generator=dict(upscale_factor=scale))

train_pipeline = _base_.train_pipeline
train_pipeline[0].gt_patch_size = 32 * scale
train_dataloader = dict(dataset=dict(scale=scale, pipeline=train_pipeline))

test_dataloader = _base_.test_dataloader
for loader in test_dataloader:
    loader.dataset.scale = scale
del loader
val_dataloader = test_dataloader[:2]
val_evaluator = test_evaluator = dict(crop_border=scale)
