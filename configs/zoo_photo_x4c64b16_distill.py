# The second stage of photo, on a GPU, as zoo_photo_x4c64b16_cpu_distill.py.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network photo --distill"
_base_ = './zoo_photo_x4c64b16.py'

load_from = 'photo'

model = dict(pixel_loss=dict(_delete_=True, type='MSELoss'))

# Of the LR images in the store of targets.
target_degradation = dict(
    type='DegradeLR',
    blur_sigma=(0, 0.8),
    noise_sigma=(0, 4),
    jpeg_quality=(40, 95),
    clean_ratio=0.35)

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=128),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(gt='work_dirs/zoo/targets_store', pipeline=train_pipeline))

max_iters = 50_000
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    by_epoch=False,
    begin=0,
    end=max_iters,
    eta_min=1e-7)
train_cfg = dict(max_iters=max_iters)
