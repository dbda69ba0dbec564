# The fine-tuned MSRResNet, trained on: the targets are means of GT and of its own self-ensemble.
#
# The mean over flips and transpositions has 0.15 dB more than one output, and gradients towards it
# have less noise than towards GT alone (tools/zoo/distillation.py).
_base_ = './zoo_msrresnet_x4c64b16_cpu_finetune.py'

model = dict(pixel_loss=dict(type='MSELoss'))

train_dataloader = dict(dataset=dict(gt='work_dirs/zoo/data/targets_store'))

max_iters = 11_000
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=200),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.01,
        by_epoch=False,
        begin=6_000,
        end=max_iters),
]
train_cfg = dict(max_iters=max_iters)
