# Settings of all experiments: scope, logs, checkpoints, environment.
default_scope = 'srgan_plugin'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=5000,
        by_epoch=False,
        max_keep_ckpts=10,
        save_best='auto',  # the first metric of the first test set that exists
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # A stopped run is resumed exactly.
    random_state=dict(type='RandomStateHook'),
    interrupt=dict(type='InterruptHook'),
    # With several processes: if one has stopped, the run ends after the timeout below.
    heartbeat=dict(type='HeartbeatHook'),
    discriminator_monitor=dict(type='DiscriminatorMonitorHook'),
    val_images=dict(type='ValidationImagesHook'))

# A wrapper for each network when training is distributed.
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel')

env_cfg = dict(
    cudnn_benchmark=True,
    # On other systems, forking a process with threads may crash or be impossible.
    mp_cfg=dict(
        mp_start_method='fork' if __import__('sys').platform == 'linux' else 'spawn',
        opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=600))  # seconds

# The published batch size, by which --auto-scale-lr divides the global batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)

log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=100, by_epoch=False)
# For Weights & Biases add dict(type='WandbVisBackend').
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

load_from = None
resume = False
