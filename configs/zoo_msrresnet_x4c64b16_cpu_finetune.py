# The second stage of the bundled MSRResNet: an hour on two cores of an AMD EPYC (Zen 4), which multiply
# in bfloat16. The third is zoo_msrresnet_x4c64b16_cpu_distill.py.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network msrresnet --cpu --finetune"
#
# Twice the batch and larger crops, of which less is near a padded border; a constant learning rate
# with averaged weights.
_base_ = './zoo_msrresnet_x4c64b16_cpu.py'

load_from = 'msrresnet'

optim_wrapper = dict(
    type='AmpOptimWrapper', dtype='bfloat16', optimizer=dict(lr=2e-4))

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=128),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=8, dataset=dict(pipeline=train_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=500),
]
train_cfg = dict(max_iters=7_618, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=3))
