"""Tapped layers against timm's own forward passes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from stages.encoders import Tapped, build, check_input, depths, layer_names
from stages.errors import InputProblem

# All small models that timm makes for tests, and one small shape of each odd layout: channels last (Swin), class token
# behind the blocks (CaiT, XCiT), two outputs a block (TNT, PiT), tokens in stages (LeViT, MViT), window blocks (NesT).
ODD: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7_224": {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
    "cait_xxs24_224": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "xcit_nano_12_p16_224": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "tnt_s_legacy_patch16_224": {"embed_dim": 32, "depth": 2, "inner_dim": 8, "num_heads_inner": 2, "num_heads_outer": 2},
    "pit_ti_224": {},
    "levit_128s": {},
    "mvitv2_tiny": {},
    "nest_tiny": {},
    "deit_tiny_distilled_patch16_224": {"depth": 2},
}
MODELS = {**{name: {} for name in timm.list_models("test_*")}, **ODD}


def images_for(model: Any, n: int = 2) -> Tensor:
    size = timm.data.resolve_model_data_config(model)["input_size"]
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(0))


def calls(model: Any) -> list[int]:
    """Count the runs of the model's first layer with weights."""
    counted: list[int] = []
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda *_: counted.append(1))
    return counted


@pytest.mark.parametrize("arch", sorted(MODELS))
def test_every_stage_is_what_timm_says_it_is(arch: str) -> None:
    model: Any = build(arch, MODELS[arch], num_classes=5, seed=0)
    images = images_for(model)
    with torch.inference_mode():
        body = model.forward_features(images)
        pooled, logits = model.forward_head(body, pre_logits=True), model.forward_head(body)
        maps = model.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    layers = layer_names(model)
    counted = calls(model)
    features, ours = Tapped(model, layers)(images)
    assert len(counted) == 1  # one forward pass for all layers and the head
    torch.testing.assert_close(features["pooled"], pooled.flatten(1))
    assert ours is not None
    torch.testing.assert_close(ours, logits)
    assert all(value.ndim == 2 and len(value) == len(images) for value in features.values())
    assert len(maps) >= 2
    for index, expected in enumerate(output.mean(dim=(2, 3)) for output in maps):
        found = [name for name, value in features.items() if value.shape == expected.shape]
        same = [name for name in found if torch.allclose(features[name], expected, rtol=1e-4, atol=1e-4)]
        assert same, f"map {index}"
        # Of one of these layers, all positions and the generalised mean, from timm's map alone.
        same = [name for name in same if name != "pooled"]
        whole, _ = Tapped(model, [f"{name}@gem" for name in same], same)(images)
        positions = maps[index].permute(0, 2, 3, 1).flatten(1, 2)
        cubes = maps[index].clamp(min=1e-6).double().pow(3).mean(dim=(2, 3)).pow(1 / 3)
        fits = [name for name in same if _near(whole[f"{name}@grid"].flatten(1, -2), positions)]
        assert fits, f"grid {index}"
        assert any(_near(whole[f"{name}@gem"].double(), cubes) for name in fits), f"generalised mean {index}"


def _near(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arch", sorted(MODELS))
def test_what_the_last_layer_puts_out(arch: str) -> None:
    """Timm's `forward_features`: its positions, its class token where it has one, and the mean that no head has changed."""
    model: Any = build(arch, MODELS[arch], num_classes=0, seed=0)
    images = images_for(model)
    with torch.inference_mode():
        body = model.forward_features(images)
    body = body[0] if isinstance(body, tuple) else body
    found, _ = Tapped(model, ["unpooled"], ["unpooled"])(images)
    positions = found["unpooled@grid"]
    torch.testing.assert_close(found["unpooled"], positions.flatten(1, -2).mean(dim=1))
    if body.ndim == 4:
        channels_first = body.shape[1] == model.num_features
        torch.testing.assert_close(positions, body.permute(0, 2, 3, 1) if channels_first else body)
        return
    leading = body.shape[1] - positions.flatten(1, -2).shape[1]
    torch.testing.assert_close(positions.flatten(1, -2), body[:, leading:])
    if getattr(model, "cls_token", None) is None or not getattr(model, "num_prefix_tokens", 0):
        with pytest.raises(InputProblem, match="'unpooled' has no class token here"):
            Tapped(model, ["unpooled@class"])(images)
    else:
        assert leading >= 1
        torch.testing.assert_close(Tapped(model, ["unpooled@class"])(images)[0]["unpooled@class"], body[:, 0])


def test_any_module_is_kept_as_it_was_when_it_ran() -> None:
    """A residual block adds to its last normalisation in place."""
    model = build("test_resnet", {}, num_classes=0, seed=0)
    images, seen = images_for(model), []
    layer = "layer1.0.bn2"
    hook = model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    found, _ = Tapped(model, [layer], [layer])(images)
    hook.remove()
    torch.testing.assert_close(found[layer], seen[0].mean(dim=(2, 3)), rtol=0, atol=0)
    torch.testing.assert_close(found[f"{layer}@grid"], seen[0].permute(0, 2, 3, 1), rtol=0, atol=0)


@pytest.mark.parametrize(("arch", "early", "late"), [("test_vit", "blocks.2", "blocks.3"), ("test_resnet", "layer2", "layer3")])
def test_a_pass_stops_behind_the_last_layer(arch: str, early: str, late: str) -> None:
    model = build(arch, {}, num_classes=0, seed=0)
    tapped, images, ran = Tapped(model, [early, early + "@gem"]), images_for(model), []
    hook = model.get_submodule(late).register_forward_hook(lambda *_: ran.append(1))
    first, _ = tapped(images)
    assert len(ran) == 1
    again, _ = tapped(images)
    assert len(ran) == 1
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)
    Tapped(model, [early, "pooled"])(images)
    hook.remove()
    assert len(ran) == 2
    with_head = Tapped(build(arch, {}, num_classes=3, seed=0), [early])
    assert [with_head(images)[1] is None for _ in range(2)] == [False, False]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("blocks.3@gm", "asks for no pooling that there is; nearest valid: gem"),
        ("pooled@gem", "`pooled` is a vector already"),
        ("blocks.3.attn.qvk", "no layer"),
    ],
)
def test_a_pooling_that_there_is_not(layer: str, said: str) -> None:
    with pytest.raises(InputProblem, match=said):
        Tapped(build("test_vit", {}, num_classes=0, device="meta"), [layer])


def test_names_of_params_mean_timms_stages() -> None:
    for arch, layer, index in (
        ("test_byobnet", "stages.1", 2),
        ("test_resnet", "layer3", 3),
        ("test_convnext2", "stages.2", 2),
    ):
        model: Any = build(arch, {}, num_classes=0, seed=0)
        info = model.feature_info if isinstance(model.feature_info, list) else model.feature_info.info
        images = images_for(model)
        with torch.inference_mode():
            expected = model.forward_intermediates(images, indices=[index], intermediates_only=True)[0].mean(dim=(2, 3))
        features, logits = Tapped(model, [layer])(images)
        assert logits is None
        assert info[index]["num_chs"] == features[layer].shape[1]
        torch.testing.assert_close(features[layer], expected)


def test_tokens_are_pooled_without_the_class_token() -> None:
    model: Any = build("test_vit", {"in_chans": 1, "img_size": 32}, num_classes=0, seed=0)
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []
    hook = model.blocks[3].register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach().clone()))
    features, _ = Tapped(model, ["blocks.3"])(images)
    hook.remove()
    assert seen[0].shape[1] == 2 * 2 + 1
    torch.testing.assert_close(features["blocks.3"], seen[0][:, 1:].mean(dim=1))
    assert not torch.allclose(features["blocks.3"], seen[0].mean(dim=1))


def test_a_square_map_as_wide_as_its_channels_is_read_by_the_models_own_word() -> None:
    model = build("swin_tiny_patch4_window7_224", {"embed_dim": 28, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
                  num_classes=0, seed=0)  # fmt: skip
    seen: list[Tensor] = []
    hook = model.get_submodule("layers.1").register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    features, _ = Tapped(model, ["layers.1"])(images_for(model, 1))
    hook.remove()
    assert seen[0].shape == (1, 28, 28, 56)
    torch.testing.assert_close(features["layers.1"], seen[0].mean(dim=(1, 2)))


def test_the_model_is_left_as_it_was() -> None:
    model = build("test_resnet", {}, num_classes=2, seed=0)
    tapped = Tapped(model, ["layer1", "pooled"])
    tapped(images_for(model))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(RuntimeError):
        tapped(torch.zeros(1, 7, 32, 32))
    assert not any(module._forward_hooks for module in model.modules())


def test_pooled_comes_first_and_names_are_unique() -> None:
    for arch in MODELS:
        names = layer_names(build(arch, {}, num_classes=0, device="meta"))
        assert names[0] == "pooled"
        assert len(set(names)) == len(names) > 3


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    model = build("test_vit", {}, num_classes=0, device="meta")
    with pytest.raises(InputProblem, match=r"no layer 'block\.3'; nearest valid: blocks\.3, .*\(and 3 more\)"):
        Tapped(model, ["pooled", "block.3"])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_input_size_that_the_model_does_not_take(device: str) -> None:
    model = build("vit_tiny_patch16_224", {"depth": 1}, num_classes=0, device=device)
    check_input(model, ["pooled", "blocks.0"], (3, 224, 224), where="here")
    with pytest.raises(InputProblem, match=r"here\.input_size: the model does not take images of 3 x 32 x 32"):
        check_input(model, ["pooled"], (3, 32, 32), where="here")
    with pytest.raises(InputProblem, match="does not take images of 1 x 224 x 224"):
        check_input(model, ["pooled"], (1, 224, 224), where="here")


def test_a_layer_that_the_forward_pass_skips_is_named() -> None:
    model = build("hrnet_w18_small", {}, num_classes=0, device="meta")
    unused = "transition2.0"  # an identity that HRNet's forward pass leaves out
    assert unused in layer_names(model)
    with pytest.raises(InputProblem, match=f"here.layers: the forward pass does not run '{unused}'"):
        check_input(model, [unused], (3, 224, 224), where="here")


def test_the_listing_command() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "stages.encoders", "test_resnet"], capture_output=True, text=True, check=True
    ).stdout
    shown = listed.split()
    assert {"pooled", "layer1", "layer4", "layer2.0"} <= set(shown)
    line = next(line for line in listed.splitlines() if line.startswith("layer4 "))
    assert line.split() == ["layer4", "96", "0.4", "MB", "5", "x", "5", "x", "96", "9.6", "MB", "@gem"]  # 160 px, 1 in 32
    wrong = subprocess.run(
        [sys.executable, "-m", "stages.encoders", "test_resnit"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "test_resnet" in wrong.stderr


@pytest.mark.parametrize("arch", sorted(MODELS))
def test_depth_goes_with_the_order_of_the_forward_pass(arch: str) -> None:
    """Stages of timm's own list are run one after the other, and each is at least as deep as its blocks."""
    model: Any = build(arch, MODELS[arch], num_classes=5, seed=0)
    found = depths(model)
    assert list(found) == layer_names(model)
    assert found["pooled"] == 1
    assert all(0 < depth <= 1 for depth in found.values())
    stages = (
        [entry["module"] for entry in model.feature_info if entry["module"] in found] if hasattr(model, "feature_info") else []
    )
    order = [found[stage] for stage in stages]
    assert order == sorted(order)
    for layer in found:
        parent = layer.rpartition(".")[0]
        if parent in found:
            assert found[layer] <= found[parent]


def test_depth_counts_weights() -> None:
    """A ViT of two blocks: class token, positions and patches, then four matrices a block."""
    model = build("deit_tiny_patch16_224", {"depth": 2}, num_classes=5, seed=0)
    assert depths(model) == {"pooled": 1.0, "unpooled": 11 / 12, "blocks.0": 7 / 12, "blocks.1": 11 / 12}
