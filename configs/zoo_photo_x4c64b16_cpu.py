# The first stage of the bundled photo, on a CPU: MSRResNet for photographs with JPEG blocks and noise.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network photo --cpu"
#
# As in the last stage of the bundled MSRResNet, on LR images that are degraded as in
# zoo_photo_x4c64b16.py; more of them stay clean. The second: zoo_photo_x4c64b16_cpu_distill.py.
_base_ = './zoo_msrresnet_x4c64b16_cpu_soap.py'

degradation = dict(
    type='DegradeLR',
    blur_sigma=(0, 0.8),
    noise_sigma=(0, 4),
    jpeg_quality=(40, 95))

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=192),
    dict(**degradation, clean_ratio=0.3),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = [
    dict(
        num_workers=0,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BenchmarkDataset',
            name='HeldOut',
            data_root='work_dirs/zoo/data',
            pipeline=[
                dict(type='LoadPair'),
                dict(**degradation, clean_ratio=0),
                dict(type='PackInputs'),
            ]))
]
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=5e-4))
max_iters = 3_147
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=40, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=1_800,
        end=max_iters,
        eta_min=5e-6),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
