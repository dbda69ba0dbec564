# The bundled SRGAN, trained on a CPU: a quarter of an hour on two cores.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --cpu"
#
# As zoo_srgan_x4c64b16.py, with small batches of small crops, a discriminator of half the width, and
# three times the adversarial weight, because there are few updates. A pixel loss limits the drift
# of colours, and a long average of the weights reduces the noise of small batches.
_base_ = './zoo_srgan_x4c64b16.py'

model = dict(
    ema=dict(decay=0.998),
    discriminator=dict(mid_channels=32, input_size=96),
    pixel_loss=dict(
        _delete_=True, type='L1Loss', loss_weight=5e-2, reduction='mean'),
    gan_loss=dict(loss_weight=3e-3))

optim_wrapper = dict(
    generator=dict(type='OptimWrapper'),
    discriminator=dict(type='OptimWrapper'))

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=96),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    batch_size=4,
    dataset=dict(gt='work_dirs/zoo/data/pieces_store', pipeline=train_pipeline))

max_iters = 1200
param_scheduler = dict(milestones=[800, 1050])
train_cfg = dict(max_iters=max_iters, cuda_graph=False)
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=300))
