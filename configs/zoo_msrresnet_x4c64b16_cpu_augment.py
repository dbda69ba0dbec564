# The fourth stage of the bundled MSRResNet: on downscaled and rotated copies of the photographs too.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network msrresnet --cpu --augment"
#
# PSNR of training images is 0.4 dB above that of others (gain over bicubic); copies of other scales
# and angles, with permuted channels (tools/zoo/augmentation.py), are new to the network. The mean of
# the weights at its end and of those at its start is bundled (tools/zoo/finishing.py). In float32, for
# processors that do not multiply in bfloat16.
_base_ = './zoo_msrresnet_x4c64b16_cpu_finetune.py'

model = dict(pixel_loss=dict(type='MSELoss'))

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=1.0))

train_dataloader = dict(dataset=dict(gt='work_dirs/zoo/data/augment_store'))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=100,
        end=5_000,
        eta_min=1e-6),
]
train_cfg = dict(max_iters=3_500, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=250))
