# DIV2K for training, Set5 and Set14 for validation, the test sets of the published table.
# The data root is `data/`, or `$SRGAN_DATA` if it is set. For other images:
#   --cfg-options train_dataloader.dataset.gt=FOLDER_OR_STORE
scale = 4
data_root = '{{$SRGAN_DATA:data}}'

train_pipeline = [
    dict(type='PairedRandomCrop', gt_patch_size=128),
    dict(type='Flip', flip_ratio=0.5, direction='horizontal'),
    dict(type='Flip', flip_ratio=0.5, direction='vertical'),
    dict(type='RandomTransposeHW', transpose_ratio=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

# The first of these that exists: the stores DIV2K/train (tools/prepare_div2k.py) or DIV2K/train_x4
# (tools/create_store.py), MMagic's 480x480 sub-images, the 800 HR images.
train_dataloader = dict(
    num_workers=8,
    batch_size=16,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='srgan_plugin.stack_pairs'),
    sampler=dict(type='StreamSampler', shuffle=True),
    dataset=dict(
        type='PairedImageDataset',
        gt='',
        lr='',
        scale=scale,
        data_root=data_root,
        pipeline=train_pipeline))


test_sets = ['Set5', 'Set14', 'B100', 'DIV2K']
test_dataloader = [
    dict(
        num_workers=2,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BenchmarkDataset',
            name=name,
            scale=scale,
            data_root=data_root,
            pipeline=test_pipeline)) for name in test_sets
]
val_dataloader = test_dataloader[:2]

val_evaluator = dict(type='BenchmarkMetric', crop_border=scale)
test_evaluator = val_evaluator

val_cfg = dict(type='MultiValLoop')
test_cfg = dict(type='MultiTestLoop')
