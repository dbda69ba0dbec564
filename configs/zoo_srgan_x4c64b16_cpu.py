# The bundled SRGAN, trained on a CPU: 2.7 hours on two cores of an AMD EPYC (Zen 4), which multiply
# in bfloat16. On a processor without such instructions set `type='OptimWrapper'` for both.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network srgan --cpu"
#
# The objective and the batch of zoo_srgan_x4c64b16.py on the paper's crops of 96 pixels, for a
# tenth of its iterations. A pixel loss limits the drift of colours.
_base_ = './zoo_srgan_x4c64b16.py'

model = dict(
    ema=dict(decay=0.998),
    discriminator=dict(input_size=96),
    pixel_loss=dict(
        _delete_=True, type='L1Loss', loss_weight=1e-2, reduction='mean'))

optim_wrapper = dict(
    generator=dict(dtype='bfloat16'), discriminator=dict(dtype='bfloat16'))

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
    dataset=dict(gt='work_dirs/zoo/data/pieces_store', pipeline=train_pipeline))

max_iters = 6000
param_scheduler = dict(milestones=[4000, 5400])
train_cfg = dict(max_iters=max_iters, cuda_graph=False)
default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(interval=250))
