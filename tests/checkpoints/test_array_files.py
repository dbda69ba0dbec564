"""Weights of TensorLayer (.npz) and Keras (.h5) give the images of the repository's network."""

import importlib.util
import json
import os
import pickle
import re
import struct
import sys
import zipfile
from pathlib import Path

import channels_last
import cv2
import numpy as np
import pytest
import torch

from srgan_plugin.checkpoints import load_checkpoint_file, load_generator_weights, open_network
from srgan_plugin.checkpoints.detect import generator_changes
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.io.images import read_image
from srgan_plugin.networks import SRResNet

ROOT = Path(__file__).parents[2]
LR = np.random.default_rng(1).integers(0, 256, (11, 13, 3)).astype(np.uint8)
IMAGE = torch.from_numpy(LR).permute(2, 0, 1)[None] / 255
needs_h5py = pytest.mark.skipif(not importlib.util.find_spec("h5py"), reason="needs h5py")


def single(named):
    return [(layer, name, value.astype("f4")) for layer, name, value in named]


def network(kind):
    """Return a network, its parameters by TensorFlow's names, and its output for `LR`."""
    made = kind()
    expected = made(LR.astype("f8"), kind.steps) / 255
    # Other layers were made before these, as where the discriminator comes first.
    start = {"conv2d": 9, "batchnorm2d": 1, "batch_normalization": 0, "p_re_lu": 7}
    return single(made.named(start)), expected


class TensorLayerX2(channels_last.TensorLayer):
    steps = 1


class TensorLayerX4(channels_last.TensorLayer):
    steps = 2


class OtherBackendX4(channels_last.TensorLayerOfTorch):
    steps = 2


class KerasX2(channels_last.Keras):
    steps = 1


class KerasX4(channels_last.Keras):
    steps = 2


class ForkOfKeras(KerasX4):
    epsilon = 0.1

    def end(self, x):
        return x


def as_dict(path, named):
    np.savez(path, **{f"{layer}/{name}:0": value for layer, name, value in named})


def as_sorted_dict(path, named):
    """Write a file sorted by names as texts: conv2d_10 before conv2d_9."""
    entries = {f"{layer}/{name}:0": value for layer, name, value in named}
    np.savez(path, **{name: entries[name] for name in sorted(entries)})


def as_sorted_numbers(path, named):
    entries = {str(n): value for n, (_, _, value) in enumerate(named)}
    np.savez(path, **{name: entries[name] for name in sorted(entries)})


def as_numbered(path, named):
    np.savez(path, **{str(n): value for n, (_, _, value) in enumerate(named)})


def as_arrays(path, named):
    """Write as np.savez(FILE, *model.get_weights())."""
    np.savez(path, *(value for _, _, value in named))


def as_params(path, named):
    np.savez(path, params=objects(named))


def objects(named):
    params = np.empty(len(named), dtype=object)
    params[:] = [value for _, _, value in named]
    return params


class Python2Pickler(pickle._Pickler):
    """Pickler that writes bytes as Python 2 writes strings."""

    def save_bytes(self, obj):
        self.write(b"T" + struct.pack("<I", len(obj)) + obj)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_bytes}  # noqa: RUF012


def as_params_of_python_2(path, named):
    with zipfile.ZipFile(path, "w") as archive, archive.open("params.npy", "w") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": (len(named),)}
        np.lib.format.write_array_header_1_0(file, header)
        Python2Pickler(file, 2).dump(objects(named))


def as_paddle(path, named):
    turned = ((layer, name, oihw(value)) for layer, name, value in named)
    np.savez(path, **{f"{layer}/{name}": value for layer, name, value in turned})


def as_torch(path, named):
    """Write names of modules, with torch's order of axes."""
    turned = [(layer, name, oihw(value)) for layer, name, value in named]
    modules = {layer: f"residual_block.{n}.{layer[:4]}" for n, (layer, _, _) in enumerate(named)}
    np.savez(path, **{f"{modules[layer]}.{name}": value for layer, name, value in turned})


def oihw(value):
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value


def as_keras_2(path, named, group=""):
    import h5py

    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        layers = list(dict.fromkeys(layer for layer, _, _ in named))
        root.attrs["layer_names"] = [name.encode() for name in ("input_2", *layers)]
        root.create_group("input_2").attrs["weight_names"] = []
        for layer in layers:
            own = {f"{layer}/{name}:0": value for of, name, value in named if of == layer}
            inner = root.create_group(layer)
            inner.attrs["weight_names"] = [name.encode() for name in own]
            for name, value in own.items():
                inner[name] = value


def as_keras_model(path, named):
    as_keras_2(path, named, "model_weights")


def as_keras_3(path, named):
    """Write classes numbered from 0 and sorted as texts."""
    import h5py

    first, count = {}, {}
    with h5py.File(path, "w") as file:
        for layer, _, value in named:
            kind = layer if layer[-1:] == "n" else layer.rpartition("_")[0]
            number = first.setdefault(kind, {}).setdefault(layer, len(first[kind]))
            name = f"{kind}_{number}" if number else kind
            at = count[layer] = count.get(layer, -1) + 1
            file[f"layers/{name}/vars/{at}"] = value
        file["optimizer/vars/0"] = np.zeros(3, "f4")


def as_tensorlayerx_h5(path, named):
    import h5py

    with h5py.File(path, "w") as file:
        for layer, name, value in named:
            file[f"model_parameters/{layer}.{name}:0"] = value


NPZ = [
    (TensorLayerX4, as_dict),
    (TensorLayerX2, as_dict),
    (TensorLayerX4, as_sorted_dict),
    (TensorLayerX4, as_numbered),
    (TensorLayerX4, as_sorted_numbers),
    (TensorLayerX4, as_params),
    (TensorLayerX4, as_params_of_python_2),
    (OtherBackendX4, as_paddle),
    (OtherBackendX4, as_torch),
    (KerasX4, as_arrays),
]
HDF5 = [
    (KerasX4, as_keras_2),
    (KerasX2, as_keras_2),
    (KerasX4, as_keras_model),
    (KerasX4, as_keras_3),
    (TensorLayerX4, as_keras_2),  # TensorLayer 2 writes the same form
    (TensorLayerX4, as_tensorlayerx_h5),
]
CASES = [
    *(pytest.param(*case, "g.npz", id=f"{case[0].__name__} {case[1].__name__}") for case in NPZ),
    *(
        pytest.param(*case, "g.h5", id=f"{case[0].__name__} {case[1].__name__}", marks=needs_h5py)
        for case in HDF5
    ),
]


def gives(made, expected):
    with torch.inference_mode():
        out = made(IMAGE)[0].permute(1, 2, 0).numpy()
    assert expected.std() > 0.02
    assert expected.min() > 0.01
    assert expected.max() < 0.99
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "write", "name"), CASES)
def test_a_file_opens_converts_and_tests_as_the_network_that_wrote_it(
    tool, tmp_path, kind, write, name
):
    named, expected = network(kind)
    path = tmp_path / name
    write(path, named)
    gives(open_network(path), expected)
    told = inspect_checkpoint(path)
    owner = "krasserm/super-resolution" if "Keras" in kind.__name__ else "tensorlayer/SRGAN"
    assert f"SRResNet x{2**kind.steps} (4 features, 4 blocks" in told["holds"]
    assert owner in told["holds"]
    assert told["fits"].endswith("strictly")
    assert "unrecorded" not in told
    tool("convert_checkpoint").main([str(path), "x.safetensors", "--to", "plugin"])
    gives(open_network("x.safetensors"), expected)
    # As `tools/test.py` does it.
    config = {"type": "SRResNet", "upscale_factor": 2**kind.steps, "output_range": (0, 1)}
    changed = config | generator_changes(config, load_checkpoint_file(path))
    follows = SRResNet(**{k: v for k, v in changed.items() if k != "type"}).eval()
    load_generator_weights(follows, path)
    gives(follows, expected)


@pytest.mark.parametrize(("kind", "write", "name"), CASES[:1])
def test_upscale_and_onnx_give_what_the_network_gives(tool, tmp_path, kind, write, name):
    named, expected = network(kind)
    write(tmp_path / name, named)
    cv2.imwrite("lr.png", LR[..., ::-1])
    tool("upscale").main(["lr.png", "sr.png", "--model", name, "--device", "cpu"])
    assert np.abs(cv2.imread("sr.png")[..., ::-1] - expected * 255).max() <= 0.51
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    tool("export").main([name, "x.onnx"])
    session = runtime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(["sr"], {"lr": IMAGE.numpy()})
    np.testing.assert_allclose(out[0].transpose(1, 2, 0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "write", "name"), [CASES[0], CASES[len(NPZ)]])
def test_test_py_measures_the_images_of_the_network_that_wrote_the_file(
    tool, tmp_path, photographs, monkeypatch, fresh_mmengine, kind, write, name
):
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    named, _ = network(kind)
    write(tmp_path / name, named)
    written = kind()
    written(LR.astype("f8"), kind.steps)  # makes its parameters, as `network` did
    config = str(ROOT / "configs/srresnet_x4c64b16_g1_1000k_div2k.py")
    tool("test").main([config, name, "--work-dir", "w", "--out", "r.json"])
    measured = json.loads((tmp_path / "r.json").read_text())
    for dataset in ("Set5", "Set14"):
        values = []
        for path in sorted((photographs / dataset / "GTmod12").iterdir()):
            lr = read_image(photographs / dataset / "LRbicx4" / path.name)
            levels = written(lr.astype("f8"), kind.steps).clip(0, 255).round()
            error = (levels - read_image(path).astype("f8"))[4:-4, 4:-4]
            values.append(10 * np.log10(255**2 / (error**2).mean()))
        assert measured[dataset]["PSNR"] == pytest.approx(np.mean(values), abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (TensorLayerX4, "msrresnet_x4c64b16_g1_1000k_div2k", "expected MSRResNet.*srresnet_x4c64"),
        (TensorLayerX2, "srresnet_x4c64b16_g1_1000k_div2k", "expected x4.*upscale_factor=2"),
    ],
)
def test_a_config_of_another_network_or_scale_is_refused_by_name(
    fails, photographs, monkeypatch, kind, config, message
):
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    as_dict("g.npz", network(kind)[0])
    said = fails("test", ROOT / f"configs/{config}.py", "g.npz", "--work-dir", "w")
    assert re.search(rf"error: g\.npz: {message}", said)


def plain_npz(path, state):
    np.savez_compressed(path, epoch=3, name="best", **state)


def grouped_npz(path, state):
    np.savez(path, generator=state, epoch=3)


def flat_h5(path, state, name="{}"):
    import h5py

    with h5py.File(path, "w") as file:
        for key, value in state.items():
            file[name.format(key)] = value


def grouped_h5(path, state):
    flat_h5(path, state, "state_dict/{}")


def nested_h5(path, state):
    flat_h5(path, {key.replace(".", "/"): value for key, value in state.items()})


@pytest.mark.parametrize(
    "write",
    [
        plain_npz,
        grouped_npz,
        *(pytest.param(w, marks=needs_h5py) for w in (flat_h5, grouped_h5, nested_h5)),
    ],
)
def test_arrays_of_a_torch_state_dict_are_read_as_that_state_dict(tmp_path, rough, write):
    options = {"mid_channels": 4, "num_blocks": 11, "output_range": (-1, 1)}
    made = rough(SRResNet, **options)
    path = tmp_path / ("x.npz" if write in (plain_npz, grouped_npz) else "x.h5")
    write(path, {key: weight.numpy() for key, weight in made.state_dict().items()})
    again = open_network(path, arguments={"output_range": (-1, 1)}).state_dict()
    assert again.keys() == made.state_dict().keys()
    for key, weight in made.state_dict().items():
        assert torch.equal(again[key], weight)


def discriminator(named):
    """Return a discriminator like tensorlayer/SRGAN's, with a dense layer at the end."""
    return [*named, ("linear_1", "weights", np.zeros((9, 1), "f4"))]


def swapped(named):
    """Return a network without normalisation after the trunk."""
    return [entry for entry in named if entry[0] != "batchnorm2d_9"]


def resized(named):
    """Return a network that upsamples by interpolation, without more channels."""
    return [
        (layer, name, value[..., : value.shape[-1] // 4] if value.shape[-1] == 16 else value)
        for layer, name, value in named
    ]


@pytest.mark.parametrize("change", [discriminator, swapped, resized])
def test_another_network_of_the_same_layers_is_unknown(tmp_path, change):
    named, _ = network(TensorLayerX4)
    as_dict(tmp_path / "d.npz", change(named))
    with pytest.raises(ValueError, match=r"d\.npz: .*unknown network of \d+ tensors"):
        open_network(tmp_path / "d.npz")
    told = inspect_checkpoint(tmp_path / "d.npz")
    assert "not a network of srgan_plugin" in told["holds"]


class Calls:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_an_object_array_with_a_call_runs_nothing_and_is_refused(tmp_path):
    mark = tmp_path / "mark"
    params = np.empty(2, dtype=object)
    params[:] = [np.zeros(3, "f4"), Calls(os.system, f"touch {mark}")]
    np.savez(tmp_path / "x.npz", params=params)
    with pytest.raises(ValueError, match=r"x\.npz: .*calls (posix|nt)\.system") as caught:
        load_checkpoint_file(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_arrays_that_claim_more_than_their_file_has_are_refused(tmp_path):
    np.savez_compressed(
        tmp_path / "x.npz", a=np.zeros(50_000_000, "u1"), b=np.zeros(50_000_000, "u1")
    )
    with pytest.raises(ValueError, match=r"x\.npz.*got 100000\d* bytes"):
        load_checkpoint_file(tmp_path / "x.npz")


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_truncated_npz_is_refused(tmp_path, keep):
    as_dict(tmp_path / "x.npz", network(TensorLayerX4)[0])
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"x\.npz.*again") as caught:
        load_checkpoint_file(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_an_hdf5_file_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "gan_generator.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(
        ValueError, match=r'gan_generator\.h5: .*pip install "srgan_plugin\[keras\]"'
    ):
        load_checkpoint_file(tmp_path / "gan_generator.h5")


@needs_h5py
def test_the_configuration_in_a_keras_model_overrides_what_is_assumed_of_the_repository(tmp_path):
    import h5py

    named, expected = network(ForkOfKeras)
    as_keras_model(tmp_path / "x.h5", named)
    layers = [
        {"class_name": "Conv2D", "config": {"activation": "linear"}},
        {"class_name": "BatchNormalization", "config": {"epsilon": 0.1}},
        {"class_name": "Lambda", "config": {}},
        {"class_name": "Conv2D", "config": {"activation": "linear"}},
    ]
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
    made = open_network(tmp_path / "x.h5")
    assert (made.norm_eps, made.last_act) == (0.1, "none")
    with torch.inference_mode():
        out = made(IMAGE)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
    layers[-1]["config"]["activation"] = "sigmoid"
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
    with pytest.raises(ValueError, match=r"x\.h5: .*last_act: expected none or tanh.*sigmoid"):
        open_network(tmp_path / "x.h5")


@needs_h5py
def test_an_hdf5_file_with_datasets_in_another_file_is_refused(tmp_path):
    import h5py

    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset(
            "conv/kernel", (16,), "f4", external=[(str(tmp_path / "secret"), 0, 64)]
        )
    with pytest.raises(ValueError, match=r"x\.h5.*another file"):
        load_checkpoint_file(tmp_path / "x.h5")


@needs_h5py
def test_layers_without_numbers_are_not_put_into_a_guessed_order(tmp_path):
    import h5py

    named, _ = network(TensorLayerX4)
    letters = {layer: chr(97 + n) * 3 for n, layer in enumerate(dict.fromkeys(n[0] for n in named))}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for layer, name, value in named:
            file[f"model_parameters/{letters[layer]}.{name}:0"] = value
    with pytest.raises(ValueError, match=r"x\.h5: .*unknown network"):
        open_network(tmp_path / "x.h5")
