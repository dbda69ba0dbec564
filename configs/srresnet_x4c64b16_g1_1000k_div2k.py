# SRResNet x4 as in the paper (Ledig et al. 2016): BN, PReLU, 9x9 ends, MSE on [-1, 1].
#
#   python tools/train.py configs/srresnet_x4c64b16_g1_1000k_div2k.py
#   python tools/test.py configs/srresnet_x4c64b16_g1_1000k_div2k.py CHECKPOINT
#
# The paper's PSNR on Y: Set5 32.05, Set14 28.49, BSD100 27.58, trained on 350 thousand images of
# ImageNet; this trains on DIV2K. test.py reads blocks, features and PReLU from the checkpoint. The
# output range cannot be read from weights: it is that of this config, or recorded in a checkpoint
# of this package.
_base_ = './msrresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = 'srresnet'

model = dict(
    generator=dict(
        _delete_=True,
        type='SRResNet',
        in_channels=3,
        out_channels=3,
        mid_channels=64,
        num_blocks=16,
        upscale_factor=4,
        prelu='shared',  # or 'channel'; the paper does not specify it
        output_range=(-1, 1)),  # range of the last convolution; images are in [0, 1] here
    # The paper's HR is in [-1, 1], where squared errors are four times those of [0, 1].
    pixel_loss=dict(_delete_=True, type='MSELoss', loss_weight=4.0, reduction='mean'))

# The crops of the paper; the flips are added, because 800 images are few.
train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=96),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999)))
param_scheduler = None  # 1e-4 throughout
