# The bundled SRGAN: the SRGAN-VGG22 objective (Ledig et al. 2016) with the MSRResNet generator, on
# a GPU; minutes on a large one.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE"
#
# The content loss is on phi_2,2, which needs VGG-19 only down to conv2_2; conv5_4 would need the
# file of torchvision. Checkpoints are chosen by NIQE on the held-out photographs.
_base_ = './zoo_msrresnet_x4c64b16.py'

load_from = None
custom_hooks = [
    dict(
        type='RandomInitWarningHook',
        advice='tools/train_zoo.py starts it from the MSRResNet that it trained before')
]

model = dict(
    type='SRGAN',
    discriminator=dict(type='ModifiedVGG', in_channels=3, mid_channels=64),
    pixel_loss=None,
    perceptual_loss=dict(
        type='PerceptualLoss',
        layer_weights={'relu2_2': 1.0},
        vgg_type='vgg19',
        perceptual_weight=1.0,
        style_weight=0,
        norm_img=False,  # images are in [0, 1] here
        criterion='mse',  # eq. 5
        feature_scale=1 / 12.75,
        pretrained='torchvision://vgg19'),
    gan_loss=dict(
        type='GANLoss',
        gan_type='vanilla',
        loss_weight=1e-3,
        real_label_val=1.0,
        fake_label_val=0.0),
    train_cfg=dict(
        disc_steps=1, disc_repeat=1, disc_init_steps=0, share_fake_logits=True))

optim_wrapper = dict(
    _delete_=True,
    constructor='MultiOptimWrapperConstructor',
    generator=dict(
        type='AmpOptimWrapper',
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999))),
    discriminator=dict(
        type='AmpOptimWrapper',
        optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999))))

max_iters = 60_000
param_scheduler = dict(
    _delete_=True,
    type='MultiStepLR',
    by_epoch=False,
    milestones=[30_000, 50_000],
    gamma=0.5)
train_cfg = dict(max_iters=max_iters)
# The checkpoint is chosen by NIQE after the training.
val_dataloader = val_evaluator = val_cfg = None
default_hooks = dict(
    checkpoint=dict(interval=5000, max_keep_ckpts=-1, save_best=None))
