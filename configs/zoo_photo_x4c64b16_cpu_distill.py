# The second stage of the bundled photo: its texture on degraded LR images, MSRResNet's PSNR on clean ones.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network photo --cpu --distill"
#
# The first stage ends with SRGAN's change of the weights, which costs PSNR on clean images as well. Here
# the targets are outputs of the start on degraded LR, and of MSRResNet on clean LR
# (tools/zoo/distillation.py). All are functions of LR, so that no texture is averaged away. MSE, because
# PSNRLoss counts most where the error is smallest, which is not on clean LR; in 250 iterations of each no
# difference was measured.
_base_ = './zoo_photo_x4c64b16_cpu.py'

load_from = 'photo'

model = dict(pixel_loss=dict(_delete_=True, type='MSELoss'))
optim_wrapper = dict(optimizer=dict(lr=4e-4))

# Of the LR images in the store of targets.
target_degradation = dict(
    type='DegradeLR',
    blur_sigma=(0, 0.8),
    noise_sigma=(0, 4),
    jpeg_quality=(40, 95),
    clean_ratio=0.35)

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=192),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(gt='work_dirs/zoo/targets_store', pipeline=train_pipeline))

max_iters = 3_748
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=40, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=2_400,
        end=max_iters,
        eta_min=4e-6),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
