# What every experiment shares: scope, logs, checkpoints, environment.
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
        save_best='auto',  # the first measure of the first test set that is there
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # A run that was stopped goes on as if it had not been.
    random_state=dict(type='RandomStateHook'),
    interrupt=dict(type='InterruptHook'),
    # With several processes: one that has stopped ends the run, by name, after the timeout below.
    heartbeat=dict(type='HeartbeatHook'),
    discriminator_monitor=dict(type='DiscriminatorMonitorHook'),
    val_images=dict(type='ValidationImagesHook'))

# Each network in its own wrapper when training is distributed.
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel')

env_cfg = dict(
    cudnn_benchmark=True,
    # Elsewhere a fork of a process with threads may crash, or does not exist.
    mp_cfg=dict(
        mp_start_method='fork' if __import__('sys').platform == 'linux' else 'spawn',
        opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=600))  # seconds

# What --auto-scale-lr divides the global batch by: the published one.
auto_scale_lr = dict(enable=False, base_batch_size=16)

log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=100, by_epoch=False)
# For Weights & Biases add dict(type='WandbVisBackend'); it logs in by itself.
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='Visualizer', vis_backends=vis_backends)

load_from = None
resume = False
