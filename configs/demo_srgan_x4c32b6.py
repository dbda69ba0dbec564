# Second part of the demo: SRGAN from the small MSRResNet. `make demo` runs it, without the content
# loss if VGG-19 weights are missing.
_base_ = './srgan_x4c64b16_g1_1000k_div2k.py'

reference_model = None
model = dict(
    generator=dict(mid_channels=32, num_blocks=6),
    discriminator=dict(mid_channels=16))

train_dataloader = dict(num_workers=0, persistent_workers=False, batch_size=8)
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

max_iters = 30
param_scheduler = dict(milestones=[20])
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=max_iters, save_best=None))
