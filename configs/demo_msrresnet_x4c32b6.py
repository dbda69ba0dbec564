# First part of the demo: a small MSRResNet, minutes on two CPU cores. `make demo` runs it:
#
#   python tools/train.py configs/demo_msrresnet_x4c32b6.py \
#       --cfg-options train_dataloader.dataset.gt=work_dirs/demo/store
_base_ = './msrresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = None
model = dict(generator=dict(mid_channels=32, num_blocks=6))

train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = [
    dict(
        num_workers=0,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BenchmarkDataset',
            name='test',
            data_root='work_dirs/demo/photographs',
            pipeline=[dict(type='PackInputs')]))
]

max_iters = 320
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    by_epoch=False,
    T_max=max_iters,
    eta_min=1e-7)
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=max_iters, save_best=None))
