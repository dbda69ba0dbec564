# The third stage of the bundled MSRResNet: targets are means of GT and of the network's own
# self-ensemble. Half an hour on two cores of an AMD EPYC (Zen 4).
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE --network msrresnet --cpu --distill"
#
# The mean of the outputs over flips and transpositions has a higher PSNR than one output (--tta in
# docs/upscale.md), and gradients towards it have less noise than towards GT
# (tools/zoo/distillation.py).
_base_ = './zoo_msrresnet_x4c64b16_cpu_finetune.py'

model = dict(pixel_loss=dict(type='MSELoss'))

train_dataloader = dict(dataset=dict(gt='work_dirs/zoo/data/targets_store'))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
]
train_cfg = dict(max_iters=4_000)
