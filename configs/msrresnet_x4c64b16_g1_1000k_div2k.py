# MSRResNet x4, 64 features, 16 blocks, L1 loss. The MSRResNet SRGAN starts from it.
#
#   python tools/train.py configs/msrresnet_x4c64b16_g1_1000k_div2k.py
#   python tools/test.py configs/msrresnet_x4c64b16_g1_1000k_div2k.py CHECKPOINT
#
# Published (after 300 k of these 1000 k iterations): Set5 30.2252 / 0.8491, Set14 26.7762 / 0.7369,
# DIV2K 28.9748 / 0.8178, RGB. BasicSR's averaged generator: --cfg-options model.ema.decay=0.999
_base_ = ['_base_/default_runtime.py', '_base_/datasets/div2k_x4.py']

reference_model = 'msrresnet_x4c64b16_1x16_300k_div2k'  # row of the published table

model = dict(
    type='SRModel',
    generator=dict(
        type='MSRResNet',
        in_channels=3,
        out_channels=3,
        mid_channels=64,
        num_blocks=16,
        upscale_factor=4),
    pixel_loss=dict(type='L1Loss', loss_weight=1.0, reduction='mean'))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)))

param_scheduler = dict(
    type='CosineRestartLR',
    by_epoch=False,
    periods=[250_000] * 4,
    restart_weights=[1] * 4,
    eta_min=1e-7)

train_cfg = dict(type='SRTrainLoop', max_iters=1_000_000, val_interval=5000)
