"""The tools that train, choose, score and describe, with small networks on synthetic images."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib import pyplot
from zoo import cards, curves, scores
from zoo.training_summary import append_stage

from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.cli.configs import read_config
from srgan_plugin.data import benchmark_sets
from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics import psnr
from srgan_plugin.networks import MSRResNet
from srgan_plugin.networks.vgg import random_vgg19_state_dict

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MODELS = ("msrresnet", "srgan", "photo")


def through_jpeg(lr, quality):
    """Compress and decompress an RGB image by Pillow."""
    file = io.BytesIO()
    PIL.Image.fromarray(lr).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(PIL.Image.open(file))


def checkpoint(path, seed=0):
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": MSRResNet(mid_channels=4, num_blocks=1).state_dict()}, path)
    return path


@pytest.fixture
def benchmarks(tmp_path, textured, monkeypatch):
    monkeypatch.setattr(benchmark_sets, "SIZES", {})
    root = tmp_path / "data"
    for name in ("Set5", "Set14", "B100"):
        for n in range(2 if name == "Set5" else 1):
            write_image(root / name / f"{n}.png", textured(204, 312, seed=n))
    for n in (7, 21, 23):
        write_image(root / "Kodak24" / f"{n}.png", textured(336, 588, seed=n))
    return root


@pytest.fixture
def checkout(tmp_path):
    """A checkout with small networks as weights, and what was noted when they were trained."""
    root = tmp_path / "checkout"
    for seed, name in enumerate(MODELS):
        target = root / f"srgan_plugin/checkpoints/weights/{name}.safetensors"
        convert(checkpoint(tmp_path / f"{name}.pth", seed), target, to="plugin", half=True)
    shutil.copy(ROOT / "README.md", root)
    model = {
        "config": "c_cpu.py", "gpu_config": "c.py", "cpu": True, "device": "2 CPU cores",
        "seconds": 0.5, "hours": 1.25, "iterations": 9000, "chosen": 8000, "chosen_by": "PSNR",
        "recipe": {"batch": "4 patches"}, "curves": {"loss_pix": [[1, 0.2], [2, 0.1]]},
    }  # fmt: skip
    summary = {
        "photographs": {"training": 33, "held_out": 16, "about": "All mine."},
        "note": "Trained in the cellar.",
        "models": dict.fromkeys(MODELS, model),
    }
    (root / "docs/zoo").mkdir(parents=True)
    (root / "docs/zoo/training.json").write_text(json.dumps(summary))
    return root


def test_cards_and_readme_tell_what_was_measured_and_measure_it_once(
    checkout, benchmarks, tool, calculate_niqe, monkeypatch
):
    options = ["--root", str(checkout), "--benchmarks", str(benchmarks)]
    models_read, read = [], scores.pristine_model
    monkeypatch.setattr(scores, "pristine_model", lambda: models_read.append(1) or read())
    tool("zoo_cards").main(options)
    assert len(models_read) == 2 * len(scores.SETS)  # for a set and its JPEG, not for each image
    weights, docs = checkout / "srgan_plugin/checkpoints/weights", checkout / "docs/zoo"
    pairs = find_benchmark("Set5", benchmarks).pairs
    upscale = Upscaler(open_model(str(weights / "srgan.safetensors")))
    made = [(upscale(np.asarray(pairs[n].lr)), np.asarray(pairs[n].gt)) for n in range(2)]
    mean = np.mean([psnr(sr, gt, border=4) for sr, gt in made])
    niqe = np.mean([calculate_niqe(sr[..., ::-1], 4) for sr, _ in made])
    shift = max(np.abs((sr.astype(float) - gt).mean((0, 1))).max() for sr, gt in made)
    recorded = json.loads((docs / "results.json").read_text())["sets"]["Set5"]["srgan"]
    assert recorded["PSNR"] == pytest.approx(mean, abs=1e-4)
    assert recorded["NIQE"] == pytest.approx(niqe, abs=1e-4)
    assert recorded["colour_shift"] == pytest.approx(shift, abs=1e-4)
    results = json.loads((docs / "results.json").read_text())
    upscale = Upscaler(open_model(str(weights / "photo.safetensors")))
    blocks = [upscale(through_jpeg(np.asarray(pairs[n].lr), 60)) for n in range(2)]
    blind = np.mean([psnr(blocks[n], np.asarray(pairs[n].gt), border=4) for n in range(2)])
    assert results["jpeg"]["Set5"]["photo"]["PSNR"] == pytest.approx(blind, abs=1e-4)
    natural = np.mean([calculate_niqe(sr[..., ::-1], 4) for sr in blocks])
    assert results["jpeg"]["Set5"]["photo"]["NIQE"] == pytest.approx(natural, abs=1e-4)
    assert f"| photo | {blind:.3f} / {natural:.2f} |" in (weights / "photo.md").read_text()
    readme, card = (checkout / "README.md").read_text(), (weights / "srgan.md").read_text()
    assert f"| SRGAN | {mean:.3f} / {niqe:.2f} |" in readme
    assert f"| Set5 | SRGAN | {mean:.3f} |" in card
    assert "33 photographs" in card
    assert "All mine." in card
    assert "Trained in the cellar." in card
    assert "2 CPU cores for 1.2 hours (9,000 iterations)" in card
    assert "not the published schedule" in card
    (repeat,) = re.findall(r'`make train-zoo ARGS="(.+?)"` repeats the recipe', card)
    words = repeat.replace("FILE", str(checkout / "README.md")).split()
    given = tool("train_zoo").parse_args(words)
    assert (given.network, given.cpu) == ("srgan", True)
    files = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    drawn = {"srgan.svg", "msrresnet.svg", "photo.svg", "before_after.webp", "photo.webp"}
    assert drawn <= {path.name for path in files}
    monkeypatch.setattr(scores, "measure", None)
    tool("zoo_cards").main(options)
    assert {path: path.read_bytes() for path in files} == files


def test_the_card_of_photo_says_which_aims_were_reached():
    clean = {"Set5": {"msrresnet": {"PSNR": 30.0}, "photo": {"PSNR": 29.75}}}
    jpeg = {
        "Set5": {
            "bicubic": {"PSNR": 24.0, "NIQE": 7.0},
            "msrresnet": {"PSNR": 23.0, "NIQE": 5.0},
            "photo": {"PSNR": 25.0, "NIQE": 6.0},
        }
    }
    lines = cards._against_clean(clean, jpeg)
    assert [line.rpartition(": ")[2] for line in lines] == [
        "reached.", "reached.", "reached.", "reached.", "not reached.",
    ]  # fmt: skip
    found = [
        word for line in lines for word in line.split() if re.fullmatch(r"[-+]?\d\.\d\d", word)
    ]
    assert found == ["0.25", "+1.00", "+2.00", "-1.00", "+1.00"]
    clean["Set5"]["photo"]["PSNR"] = 29.5
    assert cards._against_clean(clean, jpeg)[0].endswith("not reached.")


def test_a_readme_without_the_marks_is_left_alone(tmp_path, tool):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md.*<!-- zoo"):
        tool("zoo_cards").put_between_marks("text", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.fixture
def train_zoo(tool, tmp_path, monkeypatch):
    """The tool with a checkout of its own, where a training only writes its files."""
    module, done = tool("train_zoo"), []
    shutil.copytree(ROOT / "configs", tmp_path / "checkout/configs")
    (tmp_path / "checkout/docs/zoo").mkdir(parents=True)
    (tmp_path / "vgg.pth").touch()
    (tmp_path / "about.md").write_text("All mine.")
    (tmp_path / "note.md").write_text("In goes.\n")
    monkeypatch.setattr(module, "check", lambda *arguments: None)

    def run(name, *arguments):
        done.append((name, *map(str, arguments)))
        if name == "create_store.py":
            Path(arguments[-1]).mkdir()
        if name == "train.py":
            work = Path(arguments[2])
            last = read_config(arguments[0]).train_cfg.max_iters
            checkpoint(work / f"iter_{last}.pth", seed=1)
            checkpoint(work / f"best_HeldOut_PSNR_iter_{last - 1}.pth", seed=2)
            (work / "1/vis_data").mkdir(parents=True)
            line = {"loss": 1.0, "loss_pix": 1.0, "time": 0.5, "step": last}
            validation = {"HeldOut/PSNR": 20.0, "step": last}
            lines = [json.dumps(line), json.dumps(validation)]
            (work / "1/vis_data/scalars.json").write_text("\n".join(lines))

    monkeypatch.setattr(module, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr(module, "run", run)
    return module, done


def test_training_is_followed_by_choosing_shipping_and_noting_and_is_not_done_twice(
    train_zoo, tmp_path, textured, calculate_niqe, capsys
):
    module, done = train_zoo
    for n in range(33):
        write_image(tmp_path / f"photographs/{n}.png", textured(252, 252, seed=n))
    line = ["--photographs", "photographs", "--vgg", "vgg.pth", "--cpu", "--work-dir", "work"]
    line += ["--dataset-card", "about.md", "--training-notes", "note.md"]
    module.main(line)
    names = [name for name, *_ in done]
    assert names == [
        "create_store.py",
        *["train.py"] * 2,
        "create_store.py",
        "train.py",
        "zoo_cards.py",
    ]
    last = read_config(ROOT / "configs/zoo_msrresnet_x4c64b16_cpu.py").train_cfg.max_iters
    start = f"work/zoo_msrresnet_x4c64b16_cpu/best_HeldOut_PSNR_iter_{last - 1}.pth"
    began = {name: Path(f"work/zoo_{name}_x4c64b16_cpu/start.pth") for name in ("srgan", "photo")}
    assert f"load_from={began['srgan']}" in done[2]
    assert began["srgan"].read_bytes() == began["photo"].read_bytes() == Path(start).read_bytes()
    assert "model.perceptual_loss.pretrained=vgg.pth" in done[2]
    assert "train_dataloader.dataset.gt=work/data/pieces_store" in done[2]
    assert f"load_from={began['photo']}" in done[4]
    assert "train_dataloader.dataset.gt=work/data/soap_store" in done[4]
    summary = json.loads((tmp_path / "checkout/docs/zoo/training.json").read_text())
    assert summary["note"] == "In goes."
    assert summary["photographs"] == {"training": 17, "held_out": 16, "about": "All mine."}
    shipped = open_model(
        str(tmp_path / "checkout/srgan_plugin/checkpoints/weights/msrresnet.safetensors")
    )
    chosen = open_model(start).state_dict()
    assert all(torch.equal(w, chosen[k].half().float()) for k, w in shipped.state_dict().items())
    assert summary["models"]["msrresnet"]["chosen"] == last - 1
    assert summary["models"]["srgan"]["chosen"] == summary["models"]["srgan"]["iterations"]
    photo = summary["models"]["photo"]
    assert photo["chosen"] == photo["iterations"]
    assert photo["recipe"]["degradation of LR"].startswith("DegradeLR, blur_sigma (0, 0.8), noise")
    module.main(line)
    assert [name for name, *_ in done[6:]] == ["zoo_cards.py"]
    began["srgan"].write_bytes(b"other weights")
    with pytest.raises(SystemExit):
        module.main(line)
    assert "got one from other weights" in capsys.readouterr().err
    began["srgan"].write_bytes(began["photo"].read_bytes())
    (tmp_path / "photographs").rename(tmp_path / "moved")
    line[1] = "moved"
    module.main(line)
    assert (tmp_path / "work/data/photographs/1.png").resolve() == tmp_path / "moved/1.png"
    (tmp_path / "moved").rename(tmp_path / "again")
    line[1] = "again"
    (tmp_path / "again/0.png").rename(tmp_path / "again/another.png")
    with pytest.raises(SystemExit):
        module.main(line)
    assert "--work-dir" in capsys.readouterr().err


def test_one_network_is_trained_alone_from_the_bundled_weights_and_the_other_one_stays(
    train_zoo, tmp_path, textured, calculate_niqe, capsys
):
    module, done = train_zoo
    for n in range(33):
        write_image(tmp_path / f"photographs/{n}.png", textured(252, 252, seed=n))
    weights = tmp_path / "checkout/srgan_plugin/checkpoints/weights/msrresnet.safetensors"
    convert(checkpoint(tmp_path / "m.pth", 5), weights, to="plugin", half=True)
    bundled = weights.read_bytes()
    earlier = {"note": "In goes.", "models": {"msrresnet": 1}}
    earlier["photographs"] = {"training": 17, "held_out": 16, "about": "All mine."}
    records = tmp_path / "checkout/docs/zoo/training.json"
    line = ["--photographs", "photographs", "--vgg", "vgg.pth", "--cpu", "--work-dir", "work"]
    other = {**earlier, "photographs": {**earlier["photographs"], "training": 99}}
    records.write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        module.main([*line, "--network", "srgan"])
    refused = capsys.readouterr().err
    assert [w for w in ("training 99", "training 17", "--dataset-card") if w not in refused] == []
    assert json.loads(records.read_text()) == other
    records.write_text(json.dumps(earlier))
    module.main([*line, "--network", "srgan"])
    assert [name for name, *_ in done] == ["create_store.py", "train.py", "zoo_cards.py"]
    begun = Path("work/zoo_srgan_x4c64b16_cpu/start.safetensors")
    assert f"load_from={begun}" in done[1]
    assert begun.read_bytes() == weights.read_bytes()
    assert weights.read_bytes() == bundled
    summary = json.loads((tmp_path / "checkout/docs/zoo/training.json").read_text())
    assert summary["photographs"] == {"training": 17, "held_out": 16, "about": "All mine."}
    assert summary["note"] == "In goes."
    assert summary["models"]["msrresnet"] == 1
    assert summary["models"]["srgan"]["config"] == "zoo_srgan_x4c64b16_cpu.py"
    assert {"interpolation", "colours"} <= summary["models"]["srgan"]["recipe"].keys()
    records.write_text(json.dumps(other))
    (tmp_path / "both.md").write_text("Hers and mine.")
    module.main([*line, "--network", "srgan", "--dataset-card", "both.md"])
    summary = json.loads(records.read_text())
    assert summary["photographs"] == {"training": 17, "held_out": 16, "about": "Hers and mine."}


def test_a_bundled_network_is_trained_further_and_its_card_has_both_stages(
    train_zoo, tmp_path, textured, calculate_niqe, capsys
):
    module, done = train_zoo
    for n in range(33):
        write_image(tmp_path / f"photographs/{n}.png", textured(252, 252, seed=n))
    line = ["--photographs", "photographs", "--vgg", "vgg.pth", "--cpu", "--work-dir", "work"]
    with pytest.raises(SystemExit):
        module.main([*line, "--finetune"])
    assert "--network" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        module.main([*line, "--network", "srgan", "--finetune"])
    assert "zoo_srgan_x4c64b16_cpu_finetune.py" in capsys.readouterr().err
    assert done == []
    first = {"chosen": 80, "hours": 1.0, "iterations": 90, "curves": {"loss_pix": [[50, 3.0]]}}
    first |= {
        "config": "first.py",
        "recipe": {},
        "seconds": 1,
        "device": "CPU",
        "chosen_by": "PSNR",
    }
    about = {"training": 17, "held_out": 16, "about": "All mine."}
    before = {"note": "", "photographs": about, "models": {"msrresnet": first, "srgan": 1}}
    records = tmp_path / "checkout/docs/zoo/training.json"
    records.write_text(json.dumps(before))
    weights = tmp_path / "checkout/srgan_plugin/checkpoints/weights/msrresnet.safetensors"
    convert(checkpoint(tmp_path / "m.pth", 5), weights, to="plugin", half=True)
    records.write_text(json.dumps({**before, "models": {}}))
    with pytest.raises(SystemExit):
        module.main([*line, "--network", "msrresnet", "--finetune"])
    assert re.search(r"training\.json: expected .*msrresnet", capsys.readouterr().err)
    assert done == []
    records.write_text(json.dumps(before))
    began = weights.read_bytes()
    module.main([*line, "--network", "msrresnet", "--finetune"])
    assert "configs/zoo_msrresnet_x4c64b16_cpu_finetune.py" in done[-2][1]
    start = Path("work/zoo_msrresnet_x4c64b16_cpu_finetune/start.safetensors")
    assert f"load_from={start}" in done[-2]
    assert start.read_bytes() == began != weights.read_bytes()
    # Again, as after an interruption behind the bundling: the same weights and records.
    made, recorded = weights.read_bytes(), json.loads(records.read_text())
    module.main([*line, "--network", "msrresnet", "--finetune"])
    assert weights.read_bytes() == made
    assert json.loads(records.read_text()) == recorded
    assert [name for name, *_ in done] == [
        "create_store.py",
        "train.py",
        "zoo_cards.py",
        "zoo_cards.py",
    ]
    weights.write_bytes(b"of another training")
    with pytest.raises(SystemExit):
        module.main([*line, "--network", "msrresnet", "--finetune"])
    assert "got one from other weights" in capsys.readouterr().err
    weights.write_bytes(made)
    after = json.loads(records.read_text())
    assert after["models"]["srgan"] == 1
    both = after["models"]["msrresnet"]
    assert both["config"] == "zoo_msrresnet_x4c64b16_cpu_finetune.py"
    assert both["gpu_config"] == "zoo_msrresnet_x4c64b16.py"
    assert both["start"] == first["chosen"]
    assert both["earlier"] == [{k: v for k, v in first.items() if k != "curves"}]
    text = cards.how("msrresnet", both)
    assert f"(stages of {first['iterations']:,} and {both['iterations']:,} iterations)" in text
    (tmp_path / "work/data/pieces_store").rmdir()
    write_image(tmp_path / "pieces/0.png", textured(32, 32))
    create_store(tmp_path / "pieces", tmp_path / "work/data/pieces_store", workers=1)
    module.main([*line, "--network", "msrresnet", "--distill"])
    # Of this start only: its hash is in the name.
    (targets,) = Path("work/zoo_msrresnet_x4c64b16_cpu_distill").glob("targets_*_store")
    assert f"train_dataloader.dataset.gt={targets}" in done[-2]
    held_out = "val_dataloader.0.dataset.data_root=work/data"
    assert all(held_out in call for call in done if call[0] == "train.py")
    third = json.loads(records.read_text())["models"]["msrresnet"]
    assert [stage["iterations"] for stage in third["earlier"]] == [90, both["iterations"]]
    assert "`--finetune` and `--distill`" in cards._training("msrresnet", third, "")
    write_image(tmp_path / "work/data/augment_pieces/0.png", textured(32, 32))
    module.main([*line, "--network", "msrresnet", "--augment"])
    assert done[-3][:2] == ("create_store.py", "work/data/augment_pieces")
    assert "train_dataloader.dataset.gt=work/data/augment_store" in done[-2]
    fourth = json.loads(records.read_text())["models"]["msrresnet"]
    flags = "`--finetune`, `--distill` and `--augment`"
    text = cards._training("msrresnet", fourth, "")
    assert flags in text
    assert "by PSNR on the held-out photographs (the start " in text
    assert fourth["chosen"] == fourth["iterations"]
    write_image(tmp_path / "work/data/soap_pieces/0.png", textured(32, 32))
    assert module.COPIES["soap"] == {"count": 15, "originals": True}  # as the card states
    module.main([*line, "--network", "msrresnet", "--soap"])
    assert "train_dataloader.dataset.gt=work/data/soap_store" in done[-2]
    fifth = json.loads(records.read_text())["models"]["msrresnet"]
    assert fifth["recipe"]["optimiser"].startswith("SOAP, lr 0.0003")
    assert "their mean" in fifth["recipe"]["bundled"]


def test_photo_is_distilled_to_its_own_outputs_and_on_clean_lr_to_those_of_msrresnet(
    train_zoo, tmp_path, textured, calculate_niqe
):
    module, done = train_zoo
    for n in range(33):
        write_image(tmp_path / f"photographs/{n}.png", textured(252, 252, seed=n))
        write_image(tmp_path / f"pieces/{n}.png", textured(32, 32, seed=n))
    create_store(tmp_path / "pieces", tmp_path / "work/data/soap_store", workers=1)
    weights = tmp_path / "checkout/srgan_plugin/checkpoints/weights"
    for seed, name in enumerate(("photo", "msrresnet")):
        target = weights / f"{name}.safetensors"
        convert(checkpoint(tmp_path / f"{seed}.pth", seed), target, to="plugin", half=True)
    restore, upscale = (Upscaler(str(weights / f"{n}.safetensors")) for n in ("photo", "msrresnet"))
    first = {"chosen": 80, "iterations": 90, "curves": {"loss_pix": [[50, 3.0]]}, "recipe": {}}
    about = {"training": 17, "held_out": 16, "about": "All mine."}
    records = tmp_path / "checkout/docs/zoo/training.json"
    earlier = {"note": "", "photographs": about, "models": {"photo": first}}
    records.write_text(json.dumps(earlier))
    line = ["--photographs", "photographs", "--vgg", "vgg.pth", "--cpu", "--work-dir", "work"]
    module.main([*line, "--network", "photo", "--distill"])
    (targets,) = Path("work/zoo_photo_x4c64b16_cpu_distill").glob("targets_*_store")
    assert f"train_dataloader.dataset.gt={targets}" in done[-2]
    before, after = ImagePairs(tmp_path / "work/data/soap_store"), ImagePairs(targets)
    kinds = []
    for old, new in zip(before, after, strict=True):
        lr = np.asarray(new.lr)
        kinds.append(np.array_equal(lr, np.asarray(old.lr)))
        assert np.array_equal(np.asarray(new.gt), (upscale if kinds[-1] else restore)(lr))
    assert {True, False} == set(kinds)
    second = json.loads(records.read_text())["models"]["photo"]
    assert second["chosen"] == second["iterations"]
    assert [stage["iterations"] for stage in second["earlier"]] == [90]
    assert "detail" not in second["recipe"]
    recipe = read_config(ROOT / "configs/zoo_photo_x4c64b16_cpu_distill.py")
    share = recipe.target_degradation.clean_ratio
    assert f"for a share of {share:g} that is clean" in second["recipe"]["targets"]
    assert second["curves"]["loss_pix"] == [[50, 3.0]]
    assert "loss_pix (MSELoss, other targets)" in second["curves"]
    # With another share of clean images there are other targets.
    config = tmp_path / "checkout/configs/zoo_photo_x4c64b16_cpu_distill.py"
    config.write_text(config.read_text().replace(f"={share}", "=0.9"))
    module.main([*line, "--network", "photo", "--distill"])
    assert len([*Path("work/zoo_photo_x4c64b16_cpu_distill").glob("targets_*_store")]) == 2


def test_the_curves_of_two_stages_go_on_from_the_weights_that_were_chosen():
    before = {"chosen": 20, "hours": 1, "curves": {"loss_pix": [[10, 3.0], [20, 2.0], [30, 9.0]]}}
    last = {"chosen": 5, "hours": 2, "curves": {"loss_pix": [[5, 1.0]], "held-out PSNR": [[5, 7]]}}
    both = append_stage(before, last)
    assert both["curves"] == {
        "held-out PSNR": [(25, 7)],
        "loss_pix": [(10, 3.0), (20, 2.0), (25, 1.0)],
    }
    mse = append_stage(before, {**last, "recipe": {"pixel loss": "MSELoss, loss_weight 1"}})
    assert mse["curves"]["loss_pix"] == [(10, 3.0), (20, 2.0)]
    assert mse["curves"]["loss_pix (MSELoss)"] == [(25, 1.0)]
    psnr = {**last, "recipe": {"pixel loss": "PSNRLoss, eps 1"}, "chosen": 5}
    twice = append_stage(append_stage(before, psnr), psnr)
    many = {**last, "curves": {"loss_pix": [[n, 1.0] for n in range(1, 300)]}, "chosen": 299}
    many |= {"config": "b.py", "start_sha256": "2"}
    two = append_stage({**many, "config": "a.py"}, many)
    assert append_stage(two, many) == two
    assert twice["curves"]["loss_pix"] == [(10, 3.0), (20, 2.0)]
    assert twice["curves"]["loss_pix (PSNRLoss)"] == [(25, 1.0), (30, 1.0)]
    again = {**psnr, "config": "a.py", "start_sha256": "1"}
    assert append_stage(append_stage(before, again), again) == append_stage(before, again)
    third = append_stage(both, {**last, "chosen": 1})
    assert [stage["chosen"] for stage in third["earlier"]] == [20, 5]
    assert third["start"] == 25
    assert third["curves"]["loss_pix"] == [(10, 3.0), (20, 2.0), (25, 1.0), (30, 1.0)]


def test_losses_in_db_are_drawn_on_a_linear_axis_of_their_own(tmp_path, monkeypatch):
    figures, close = [], pyplot.close
    monkeypatch.setattr(pyplot, "close", figures.append)
    positive, negative = [(1, 0.2), (2, 0.1)], [(3, -29.0), (4, -29.5)]
    both = {"loss_pix": positive, "loss_pix (PSNRLoss)": negative, "held-out PSNR": [(4, 28.0)]}
    curves.draw(both, 2, tmp_path / "curve.svg")
    curves.draw({"loss_pix": negative}, 2, tmp_path / "curve.svg")
    found = [
        [(axes.get_yscale(), axes.lines[0].get_label()) for axes in figure.axes]
        for figure in figures
    ]
    assert found == [
        [("log", "loss_pix"), ("linear", "loss_pix (PSNRLoss)"), ("linear", "held-out PSNR")],
        [("linear", "loss_pix")],
    ]
    assert list(figures[1].axes[0].lines[0].get_ydata()) == [-29.0, -29.5]
    for figure in figures:
        close(figure)


def test_what_is_needed_at_the_end_is_looked_for_at_the_start(tool, tmp_path, calculate_niqe):
    torch.save(random_vgg19_state_dict(depth="conv1_2"), tmp_path / "shallow.pth")
    with pytest.raises(ValueError, match=r"shallow\.pth"):
        tool("train_zoo").check(tmp_path / "shallow.pth", tmp_path)
    torch.save(random_vgg19_state_dict(depth="conv2_2"), tmp_path / "vgg.pth")
    with pytest.raises(FileNotFoundError, match="Set5"):
        tool("train_zoo").check(tmp_path / "vgg.pth", tmp_path)


def test_cards_are_not_made_of_a_test_set_that_is_not_whole(
    tool, tmp_path, textured, calculate_niqe
):
    torch.save(random_vgg19_state_dict(depth="conv2_2"), tmp_path / "vgg.pth")
    for n in range(4):
        write_image(tmp_path / f"Set5/{n}.png", textured(48, 48, seed=n))
    with pytest.raises(ValueError, match=r"Set5.*4 of 5"):
        tool("train_zoo").check(tmp_path / "vgg.pth", tmp_path)


@pytest.mark.parametrize("flag", ["--vgg", "--dataset-card", "--training-notes"])
def test_a_missing_file_ends_it_before_anything_is_done(tool, tmp_path, capsys, flag):
    (tmp_path / "vgg.pth").touch()
    with pytest.raises(SystemExit) as stop:
        tool("train_zoo").main(["--photographs", ".", "--vgg", "vgg.pth", flag, "nowhere"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert flag in last
    assert "nowhere" in last
