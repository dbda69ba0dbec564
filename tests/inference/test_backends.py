"""Test that each backend computes the same as torch, or refuses a network in one line."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from srgan_plugin.__main__ import main
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler, backends, open_model, precision
from srgan_plugin.inference.backends import BACKENDS, open_backend
from srgan_plugin.inference.backends.base import Backend, parse_device
from srgan_plugin.inference.backends.graph import prepare_for_cpu
from srgan_plugin.networks import MSRResNet, SRResNet

SMALL = {"mid_channels": 8, "num_blocks": 1}
CASES = {
    "msrresnet x2": (MSRResNet, {"upscale_factor": 2}),
    "msrresnet x3": (MSRResNet, {"upscale_factor": 3, "activate_after_shuffle": True}),
    "msrresnet x4": (MSRResNet, {"upscale_factor": 4}),
    "srresnet x2": (SRResNet, {"upscale_factor": 2, "output_range": (-1, 1)}),
    "srresnet x4": (SRResNet, {"prelu": "channel", "end_kernels": (3, 5)}),
    "srresnet x8": (SRResNet, {"upscale_factor": 8, "act": "relu", "first_act": "leaky_relu"}),
    "imagenet": (SRResNet, {"input_range": "imagenet", "output_range": "imagenet"}),
    "swish": (SRResNet, {"act": "swish", "upsample_norm": True, "trunk_end": "act"}),
    "depthwise": (SRResNet, {"upscale_factor": 5, "shuffles": (5,), "depthwise": True}),
    "tanh": (SRResNet, {"input_range": (-1, 1), "output_range": (-1, 1), "last_act": "tanh"}),
}
OTHERS = [name for name in BACKENDS if name != "torch"]


def rough(name, seed=0):
    """Return a network with large random weights and batch statistics."""
    cls, options = CASES[name]
    torch.manual_seed(seed)
    network = cls(**SMALL, **options).eval()
    with torch.no_grad():
        for weight in [*network.parameters(), *network.buffers()]:
            if weight.is_floating_point():
                weight.add_((torch.rand_like(weight) - 0.4) * 0.2)
    return network


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def installed(name):
    for package in BACKENDS[name].packages:
        pytest.importorskip(package)
    return name


@pytest.fixture(params=OTHERS)
def backend(request):
    return installed(request.param)


def run(backend, x):
    x = backend.to_device(x)
    return backend.reconstruct(backend.extract_features(x), x).float()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", BACKENDS)
@torch.inference_mode()
def test_the_halves_of_a_network_compute_the_whole_network_at_any_size(name, case):
    network = rough(case)
    opened = open_backend(network, installed(name), device="cpu")
    for size in ((5, 6), (24, 33), (17, 9)):
        x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        before = x.clone()
        torch.testing.assert_close(run(opened, x), network(x), atol=2e-5, rtol=2e-5)
        assert torch.equal(x, before)


@pytest.mark.parametrize("case", CASES)
def test_a_network_prepared_for_a_cpu_is_a_copy_that_computes_the_same(case):
    network, x = rough(case), torch.rand(2, 3, 11, 8)
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    with torch.inference_mode():
        torch.testing.assert_close(prepare_for_cpu(network)(x), network(x), atol=2e-5, rtol=2e-5)
    for key, weight in network.state_dict().items():
        assert torch.equal(weight, before[key])


@pytest.mark.parametrize("options", [{}, {"tta": True}, {"scale": 2.5}], ids=str)
def test_tiles_self_ensemble_and_scale_give_the_result_of_torch(backend, options):
    network, image = rough("msrresnet x4"), noise(37, 41, 3)
    expected = Upscaler(network, device="cpu", **options)(image).astype(int)
    upscaler = Upscaler(network, backend=backend, device="cpu", tile=16, **options)
    assert np.abs(upscaler(image) - expected).max() <= 1
    grey = image[..., :1].repeat(2, axis=2)  # with alpha
    expected = Upscaler(network, device="cpu", **options)(grey).astype(int)
    assert np.abs(upscaler(grey) - expected).max() <= 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_the_tile_is_halved_when_memory_runs_out(backend, error, monkeypatch):
    network, image = rough("msrresnet x2"), noise(40, 40, 3)
    upscaler = Upscaler(network, backend=backend, device="cpu", tile=40)
    extract = upscaler.backend.extract_features

    def limited(x):
        if x.shape[2] > 34:
            raise error
        return extract(x)

    monkeypatch.setattr(upscaler.backend, "extract_features", limited)
    result = upscaler(image).astype(int)
    assert np.abs(result - Upscaler(network, device="cpu")(image)).max() <= 1
    assert upscaler.tile == 20


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "openvino",
            "Exception:\nFailed to allocate 7516192768 bytes of memory\n",
        ),
        (
            "onnxruntime",
            "[ONNXRuntimeError] : Failed to allocate memory for buffer of size 75161",
        ),
        ("torch", "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't alloc"),
    ],
)
def test_the_lack_of_memory_is_known_by_the_message_of_the_runtime(name, said):
    backend = object.__new__(BACKENDS[name])  # without the runtime
    assert backend.is_out_of_memory(RuntimeError(said))
    assert backend.is_out_of_memory(MemoryError())
    assert not backend.is_out_of_memory(RuntimeError("Failed to allocate a register"))


@pytest.fixture
def empty_openvino(monkeypatch):
    """Replace OpenVINO by an empty module, and return it."""
    module = ModuleType("openvino")
    module.__spec__ = ModuleSpec("openvino", None)
    monkeypatch.setitem(sys.modules, "openvino", module)
    monkeypatch.delitem(sys.modules, "openvino.opset13", raising=False)
    return module


@pytest.fixture
def openvino_on(empty_openvino, monkeypatch):
    """Return a function that replaces OpenVINO on a processor with the given capabilities."""

    def replace(*capabilities):
        core = SimpleNamespace(get_property=lambda *_: list(capabilities))
        empty_openvino.Core, empty_openvino.opset13 = lambda: core, None
        monkeypatch.setattr(BACKENDS["openvino"], "__init__", Backend.__init__)
        monkeypatch.setattr(precision, "bfloat16_speedup", lambda _: 2)  # of torch

    return replace


def test_precision_auto_is_float32_on_a_processor_without_bfloat16_in_openvino(openvino_on):
    network = rough("msrresnet x2")
    openvino_on("FP32", "BF16")
    assert open_backend(network, "openvino", precision="auto").dtype == torch.bfloat16
    openvino_on("FP32")
    assert open_backend(network, "openvino", precision="auto").dtype == torch.float32
    said = r"precision: expected float32 for backend openvino on cpu, got bfloat16; .*auto"
    with pytest.raises(UserError, match=said):
        open_backend(network, "openvino", precision="bfloat16")


def test_auto_compares_the_runtimes_in_one_precision(openvino_on, timed):
    openvino_on("FP32")
    opened = open_backend(rough("msrresnet x2"), "auto", device="cpu", precision="auto")
    assert (opened.name, opened.dtype) == ("torch", torch.bfloat16)
    assert "openvino" not in timed


def test_an_openvino_without_the_operations_is_one_line(empty_openvino):
    with pytest.raises(UserError, match=r"openvino: .*set 13.*pip install --upgrade openvino"):
        open_backend(rough("msrresnet x2"), "openvino")


def test_bfloat16_in_openvino_is_more_than_50_db_from_float32():
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    data = pytest.importorskip("skimage.data")
    image = data.astronaut()[100:148, 200:248]
    network = open_model("msrresnet")
    exact = Upscaler(network, device="cpu")(image).astype(float)
    upscaler = Upscaler(network, backend="openvino", precision="bfloat16")
    assert upscaler.dtype == torch.bfloat16
    error = ((upscaler(image) - exact) ** 2).mean()
    assert error > 0
    assert 10 * np.log10(255**2 / error) > 50


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(monkeypatch):
    find = importlib.util.find_spec
    for name in OTHERS:
        packages = BACKENDS[name].packages
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda one, p=packages: None if one in p else find(one)
        )
        with pytest.raises(UserError, match=f"{name}.*pip install {' '.join(packages)}"):
            Upscaler(rough("msrresnet x2"), backend=name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "device.*cuda"),
        ({"precision": "float16", "device": "cpu"}, "precision.*float32.* on cpu, got float16"),
    ],
)
def test_an_unsupported_device_or_precision_is_refused(backend, options, said):
    with pytest.raises(UserError, match=said):
        Upscaler(rough("msrresnet x2"), backend=backend, **options)


def test_only_torch_runs_networks_that_need_the_whole_image(backend):
    network = SRResNet(**SMALL, norm="instance").eval()
    with pytest.raises(UserError, match=f"{backend}.*instance.*torch"):
        Upscaler(network, backend=backend)
    assert Upscaler(network, backend="auto", device="cpu").backend.name == "torch"


def test_an_unknown_backend_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"backend.*torch.*ncnn.*tensorrt"):
        Upscaler(rough("msrresnet x2"), backend="tensorrt")


def test_vulkan_devices_that_do_not_exist_are_refused():
    installed("ncnn")
    for device in ("vulkan:99", "vulkan:x", "gpu", "cpu:7"):
        with pytest.raises(UserError, match=device):
            Upscaler(rough("msrresnet x2"), backend="ncnn", device=device)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("gpu:2", 2, r"expected gpu:0 to gpu:1, got gpu:2; use cpu"),
        ("gpu:1", 1, r"expected gpu:0, got gpu:1; use cpu"),
        ("gpu", 0, r"finds no gpu device, got gpu; use cpu"),
        ("cpu:1", 1, r"expected cpu, got cpu:1"),
        ("gpu:", 1, r"expected auto, cpu, gpu.*got 'gpu:'"),
        ("tpu", 1, r"expected auto, cpu, gpu.*got 'tpu'"),
    ],
)
def test_a_missing_device_is_refused_with_those_that_exist(name, count, said):
    with pytest.raises(UserError, match=f"^device: .*{said}"):
        parse_device(name, {"cpu": 1, "gpu": count}, "runtime")


def test_a_device_may_have_a_number():
    counts = {"cpu": 1, "gpu": 2}
    found = [parse_device(name, counts, "runtime") for name in ("cpu", "gpu", "gpu:1")]
    assert found == [("cpu", None), ("gpu", None), ("gpu", 1)]


@pytest.mark.parametrize(
    ("status", "error", "said"), [(-100, MemoryError, "memory"), (-1, UserError, "-1.*torch")]
)
def test_a_network_that_ncnn_does_not_load_is_refused(monkeypatch, status, error, said):
    ncnn = pytest.importorskip("ncnn")
    monkeypatch.setattr(ncnn.Net, "load_model", lambda *_: status)
    with pytest.raises(error, match=said):
        Upscaler(rough("msrresnet x2"), backend="ncnn", device="cpu")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_ncnn_on_a_vulkan_device_is_at_most_one_level_from_torch(precision):
    ncnn = pytest.importorskip("ncnn")
    if not backends.ncnn_backend._has_vulkan() or not ncnn.get_gpu_count():
        pytest.skip("no Vulkan device (Mesa's llvmpipe is one in software)")
    network, image = open_model("msrresnet"), noise(24, 30, 3)
    expected = Upscaler(network, device="cpu")(image).astype(int)
    upscaler = Upscaler(network, backend="ncnn", device="vulkan", precision=precision, tile=16)
    assert np.abs(upscaler(image) - expected).max() <= (1 if precision == "float32" else 3)


@pytest.fixture
def timed(monkeypatch):
    """Replace the timing by fixed times, and return the list of timed backends."""
    monkeypatch.setattr(backends, "_fastest", {})
    seen = []

    def seconds(backend):
        seen.append(backend.name)
        return {"torch": 2, "onnxruntime": 1, "openvino": 3, "ncnn": 4}[backend.name]

    monkeypatch.setattr(backends, "_seconds", seconds)
    return seen


def test_auto_chooses_the_fastest_installed_backend_and_times_each_once(timed):
    installed("onnxruntime")
    network = rough("msrresnet x4")
    upscalers = [Upscaler(network, backend="auto", device="cpu") for _ in range(2)]
    assert [one.backend.name for one in upscalers] == ["onnxruntime"] * 2
    assert len(timed) == len(set(timed))
    assert {"torch", "onnxruntime"} <= set(timed)


def test_auto_times_nothing_if_only_torch_is_installed(timed, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert Upscaler(rough("swish"), backend="auto", device="cpu").backend.name == "torch"
    assert not timed


def test_the_command_prints_the_backend_that_auto_chose(timed, tmp_path, monkeypatch, capsys):
    installed("onnxruntime")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    torch.save(rough("msrresnet x4").state_dict(), "w.pth")
    Image.fromarray(noise(9, 7, 3)).save("a.png")
    options = ["--model", "w.pth", "--device", "cpu", "--overwrite"]
    main(["upscale", "a.png", "b.png", *options])
    assert "backend" not in capsys.readouterr().err
    main(["upscale", "a.png", "c.png", *options, "--backend", "auto"])
    assert "backend: onnxruntime" in capsys.readouterr().err
    results = [np.asarray(Image.open(name)).astype(int) for name in ("b.png", "c.png")]
    assert np.abs(results[0] - results[1]).max() <= 1
