# SRGAN x4: MSRResNet generator, VGG-style discriminator, VGG-19 conv5_4 content loss.
#
#   python tools/train.py configs/srgan_x4c64b16_g1_1000k_div2k.py \
#       --cfg-options load_from=work_dirs/msrresnet_x4c64b16_g1_1000k_div2k/iter_1000000.pth
#   python tools/test.py configs/srgan_x4c64b16_g1_1000k_div2k.py CHECKPOINT
#
# Published: Set5 27.9499 / 0.7846, Set14 24.7383 / 0.6491, DIV2K 26.5697 / 0.7365, RGB.
#
# Name and schedule disagree, as in MMagic: the name and the published file have 1000 k, but the
# published config trains 400 k iterations and halves the rate at 50, 100, 200 and 300 k. The
# schedule is that config's; the name is kept for papers and downstream configs that refer to it.
#
# The content loss needs VGG-19 weights: those of torchvision are downloaded on first use; offline
# set a file by --cfg-options model.perceptual_loss.pretrained=FILE.
_base_ = './msrresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = 'srgan_x4c64b16_1x16_1000k_div2k'

# The generator starts from a trained MSRResNet; give its checkpoint here or on the command line.
load_from = None
custom_hooks = [
    dict(
        type='RandomInitWarningHook',
        advice='SRGAN is meant to start from a trained MSRResNet. Train '
        'configs/msrresnet_x4c64b16_g1_1000k_div2k.py first, then add '
        '--cfg-options load_from=CHECKPOINT')
]

model = dict(
    type='SRGAN',
    discriminator=dict(type='ModifiedVGG', in_channels=3, mid_channels=64),
    pixel_loss=dict(loss_weight=1e-2),
    perceptual_loss=dict(
        type='PerceptualLoss',
        layer_weights={'conv5_4': 1.0},  # before the ReLU; MMagic calls it '34'
        vgg_type='vgg19',
        perceptual_weight=1.0,
        style_weight=0,
        norm_img=False,
        pretrained='torchvision://vgg19'),
    gan_loss=dict(
        type='GANLoss',
        gan_type='vanilla',
        loss_weight=5e-3,
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

param_scheduler = dict(
    _delete_=True,
    type='MultiStepLR',
    by_epoch=False,
    milestones=[50_000, 100_000, 200_000, 300_000],
    gamma=0.5)

train_cfg = dict(max_iters=400_000)
