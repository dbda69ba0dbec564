"""Targets of distillation are what networks make of the LR images beside them."""

import numpy as np
import torch
from zoo.distillation import make_target, write_restored_targets, write_targets

from srgan_plugin.data.degradation import DegradationParams
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.io.writers import write_image
from srgan_plugin.networks import MSRResNet


def test_a_target_is_the_mean_of_gt_and_of_eight_transformed_outputs(textured):
    torch.manual_seed(0)
    network = MSRResNet(mid_channels=8, num_blocks=1).eval()
    gt, lr = textured(48, 32), textured(12, 8, seed=1)
    outputs = []
    for turns in range(4):
        for mirror in (lambda image: image, np.fliplr):
            image = np.rot90(mirror(lr), turns).astype(np.float32) / 255
            with torch.inference_mode():
                sr = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
            outputs.append(mirror(np.rot90(sr[0].permute(1, 2, 0).numpy(), -turns)))
    expected = 0.5 * 255 * np.mean(outputs, axis=0).clip(0, 1) + 0.5 * gt
    target = make_target(network, lr, gt)
    assert target.dtype == np.uint8
    assert np.abs(target - expected).max() < 1.5  # rounding, and bfloat16


def test_the_store_has_the_same_keys_and_lr_images_and_other_gt(tmp_path, textured):
    for n in range(3):
        write_image(tmp_path / f"hr/{n}.png", textured(32, 32, seed=n))
    create_store(tmp_path / "hr", tmp_path / "store", workers=1)
    network = MSRResNet(mid_channels=8, num_blocks=1).eval()
    write_targets(network, tmp_path / "store", tmp_path / "targets")
    before, after = (ImagePairs(tmp_path / name) for name in ("store", "targets"))
    assert [pair.key for pair in after] == [pair.key for pair in before]
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(np.asarray(new.lr), np.asarray(old.lr))
        target = make_target(network, np.asarray(old.lr), np.asarray(old.gt))
        assert np.array_equal(np.asarray(new.gt), target)


def test_targets_of_degraded_and_of_clean_lr_are_of_two_networks(tmp_path, textured):
    for n in range(30):
        write_image(tmp_path / f"hr/{n:02}.png", textured(64, 64, seed=n))
    create_store(tmp_path / "hr", tmp_path / "store", workers=1)
    params = DegradationParams(clean_ratio=0.5, jpeg_quality=(10, 10))

    def larger(lr, level):
        return np.clip(lr.repeat(4, 0).repeat(4, 1).astype(int) + level, 0, 255).astype(np.uint8)

    def restore(lr):
        return larger(lr, 1)

    def upscale(lr):
        return larger(lr, 2)

    for name in ("targets", "again"):
        write_restored_targets(restore, upscale, params, tmp_path / "store", tmp_path / name)
    before, after, again = (ImagePairs(tmp_path / name) for name in ("store", "targets", "again"))
    kinds = []
    for old, new, repeated in zip(before, after, again, strict=True):
        lr = np.asarray(new.lr)
        is_clean = np.array_equal(lr, np.asarray(old.lr))
        kinds.append(is_clean)
        assert np.array_equal(np.asarray(new.gt), (upscale if is_clean else restore)(lr))
        assert np.array_equal(np.asarray(repeated.lr), lr)
    assert 5 < sum(kinds) < 25
