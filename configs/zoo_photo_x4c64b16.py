# The first stage of photo, on a GPU: MSRResNet for photographs with JPEG blocks and noise.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network photo"
#
# From the bundled MSRResNet, on LR images that are degraded as cameras and web sites do. A quarter of
# them stays clean, so that little is lost there. The held-out photographs are degraded, too. The second stage:
# zoo_photo_x4c64b16_distill.py.
_base_ = './zoo_msrresnet_x4c64b16.py'

load_from = 'msrresnet'

degradation = dict(
    type='DegradeLR',
    blur_sigma=(0, 0.8),
    noise_sigma=(0, 4),
    jpeg_quality=(40, 95))

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=128),
    dict(**degradation, clean_ratio=0.25),
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
