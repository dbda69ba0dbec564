# SRGAN of this package with MMagic's data pipeline, preprocessor and metrics. Needs
# pip install -e ".[mmagic]".
#
#   python tools/train.py configs/mmagic/srgan_x4c64b16_g1_1000k_div2k_mmagic.py
#   python tools/test.py configs/mmagic/srgan_x4c64b16_g1_1000k_div2k_mmagic.py CHECKPOINT
#
# MMagic measures clamped floats, while BenchmarkMetric rounds to 8 bits first: its values are a few
# thousandths of a dB higher. Data are in MMagic's layout: DIV2K as 480x480 sub-images.
_base_ = '../srgan_x4c64b16_g1_1000k_div2k.py'

# Names without a prefix are classes of this package, or of MMagic inside an MMagic class.
load = [
    dict(type='mmagic.LoadImageFromFile', key=key, color_type='color', channel_order='rgb')
    for key in ('img', 'gt')
]
data_root = '{{$SRGAN_DATA:data}}'

model = dict(data_preprocessor=dict(type='mmagic.DataPreprocessor', mean=[0.] * 3, std=[255.] * 3))

train_dataloader = dict(
    _delete_=True,
    num_workers=8,
    batch_size=16,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmagic.BasicImageDataset',
        ann_file='meta_info_DIV2K800sub_GT.txt',
        metainfo=dict(dataset_type='div2k', task_name='sisr'),
        data_root=data_root + '/DIV2K',
        data_prefix=dict(img='DIV2K_train_LR_bicubic/X4_sub', gt='DIV2K_train_HR_sub'),
        filename_tmpl=dict(img='{}', gt='{}'),
        pipeline=[
            *load,
            dict(type='mmagic.SetValues', dictionary=dict(scale=4)),
            dict(type='mmagic.PairedRandomCrop', gt_patch_size=128),
            dict(type='mmagic.Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='horizontal'),
            dict(type='mmagic.Flip', keys=['img', 'gt'], flip_ratio=0.5, direction='vertical'),
            dict(type='mmagic.RandomTransposeHW', keys=['img', 'gt'], transpose_ratio=0.5),
            dict(type='mmagic.PackInputs'),
        ]))

test_dataloader = [
    dict(
        num_workers=2,
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='mmagic.BasicImageDataset',
            metainfo=dict(dataset_type=name.lower(), task_name='sisr', dataset_name=name),
            data_root=f'{data_root}/{name}',
            data_prefix=dict(img='LRbicx4', gt='GTmod12'),
            pipeline=[*load, dict(type='mmagic.PackInputs')])) for name in ('Set5', 'Set14')
]
val_dataloader = test_dataloader
test_evaluator = [dict(type='mmagic.' + metric, crop_border=4) for metric in ('PSNR', 'SSIM')]
val_evaluator = test_evaluator
train_cfg = dict(type='IterBasedTrainLoop')
