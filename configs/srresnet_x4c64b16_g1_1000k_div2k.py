# SRResNet x4 as the paper has it (Ledig et al. 2016): BN, PReLU, 9x9 ends, MSE on [-1, 1].
#
#   python tools/train.py configs/srresnet_x4c64b16_g1_1000k_div2k.py
#   python tools/test.py configs/srresnet_x4c64b16_g1_1000k_div2k.py CHECKPOINT
#
# The paper's PSNR on Y: Set5 32.05, Set14 28.49, BSD100 27.58, trained on 350 thousand images of
# ImageNet; this trains on DIV2K. test.py reads blocks, features and PReLU from the checkpoint. The
# output range is in no weights: it is what this config (or a file of ours) says.
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
        prelu='shared',  # or 'channel'; the paper does not say
        output_range=(-1, 1)),  # what the last convolution learns; images stay in [0, 1] here
    # The paper's HR is in [-1, 1], where squared errors are four times those of [0, 1].
    pixel_loss=dict(_delete_=True, type='MSELoss', loss_weight=4.0, reduction='mean'))

# The paper's crops; the flips are ours, 800 photographs are few.
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
