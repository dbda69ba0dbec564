# The fifth stage of the bundled MSRResNet: by SOAP, on larger crops of more copies.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network msrresnet --cpu --soap"
#
# With Adam and MSE at the same constant rate, PSNR of the averaged weights stayed below that of the start
# (docs/training.md). LR crops of 48x48 have fewer pixels near a padded border than those of 32x32. 15
# copies of each photograph (tools/zoo/augmentation.py). The rate does not fall: the mean of the averaged
# weights of many iterations (tools/zoo/finishing.py) has a higher PSNR than those after a fall. The
# bundled weights had MSE until iteration 4,500 and several rates (their card).
_base_ = './zoo_msrresnet_x4c64b16_cpu_augment.py'

model = dict(
    ema=dict(decay=0.998),
    pixel_loss=dict(_delete_=True, type='PSNRLoss', eps=3e-5))

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='SOAP',
        lr=3e-4,
        betas=(0.95, 0.99),
        shampoo_beta=0.99,
        precondition_frequency=10))

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=192),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(gt='work_dirs/zoo/data/soap_store', pipeline=train_pipeline))

max_iters = 15_000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=40, end=140),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=20))
