# SRGAN-MSE x4 (Ledig et al. 2016): the paper's networks, pixel MSE plus the adversarial loss.
#
#   python tools/train.py configs/srgan_mse_x4c64b16_g1_200k_div2k.py \
#       --cfg-options load_from=work_dirs/srresnet_x4c64b16_g1_1000k_div2k/iter_1000000.pth
#
# 100 k updates at 1e-4, 100 k at 1e-5. The discriminator gets images in [0, 1], in the paper in
# [-1, 1]: the bias of its first convolution can learn the difference, except at the zero padding.
_base_ = './srresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = None  # the paper has no PSNR of this variant

load_from = None
custom_hooks = [
    dict(
        type='RandomInitWarningHook',
        advice='The paper starts SRGAN from its MSE-trained SRResNet. Train '
        'configs/srresnet_x4c64b16_g1_1000k_div2k.py first, then add '
        '--cfg-options load_from=CHECKPOINT')
]

model = dict(
    type='SRGAN',
    discriminator=dict(
        type='SRGANDiscriminator', in_channels=3, mid_channels=64, input_size=96),
    gan_loss=dict(
        type='GANLoss',
        gan_type='vanilla',  # -log D(G(x)), eq. 6
        loss_weight=1e-3,
        real_label_val=1.0,
        fake_label_val=0.0),
    train_cfg=dict(disc_steps=1, disc_repeat=1, disc_init_steps=0))

optim_wrapper = dict(
    _delete_=True,
    constructor='MultiOptimWrapperConstructor',
    generator=dict(
        type='OptimWrapper',
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999))),
    discriminator=dict(
        type='OptimWrapper',
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999))))

# A wrapper for each network when training is distributed.
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel')

param_scheduler = dict(
    _delete_=True,
    type='MultiStepLR', by_epoch=False, milestones=[100_000], gamma=0.1)
train_cfg = dict(max_iters=200_000)
