# The first stage of the bundled MSRResNet, on a CPU: eleven hours on two cores with torch's
# convolutions. The bundled weights took less, by a faster convolution that is not part of this
# package (their card).
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --cpu"
#
# Small batches of small crops; two decays of a high learning rate, each of which ends with a good
# network if there is no more time; then a nearly constant rate, because averaged weights are as
# good as those after a decay, and a last decay. On a GPU use zoo_msrresnet_x4c64b16.py.
_base_ = './zoo_msrresnet_x4c64b16.py'

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

max_iters = 100_000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(lr=4e-4),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineRestartLR',
        by_epoch=False,
        begin=200,
        periods=[9_800, 14_000, 200_000],
        restart_weights=[1, 0.75, 0.6],
        eta_min=1e-7),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.01,
        by_epoch=False,
        begin=96_500,
        end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=4000, cuda_graph=False)
default_hooks = dict(checkpoint=dict(interval=500, max_keep_ckpts=3))
