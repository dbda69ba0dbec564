# The bundled MSRResNet: the published recipe on the photographs of `make train-zoo`, on a GPU.
#
#   make train-zoo ARGS="--photographs FOLDER --vgg FILE"
#
# Sixteen photographs are held out (HeldOut), by which the checkpoint is chosen. The training ends
# with the first of the four decays of the learning rate in the published schedule.
_base_ = './msrresnet_x4c64b16_g1_1000k_div2k.py'

reference_model = None
data_root = 'work_dirs/zoo/data'  # written by tools/train_zoo.py

model = dict(ema=dict(decay=0.999), channels_last='auto')
optim_wrapper = dict(type='AmpOptimWrapper')

train_dataloader = dict(dataset=dict(gt=f'{data_root}/train'))
val_dataloader = [
    dict(
        num_workers=0,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BenchmarkDataset',
            name='HeldOut',
            data_root=data_root,
            pipeline=[dict(type='PackInputs')]))
]
test_dataloader = val_dataloader

train_cfg = dict(max_iters=250_000, cuda_graph=True)
