"""Building timm models: names, arguments, seeds, data configs."""

from __future__ import annotations

import random
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config

from stages.encoders import build, data_config
from stages.errors import InputProblem
from stages.params import Encoder


def encoder(**fields: Any) -> Encoder:
    return Encoder(**{"arch": "test_byobnet", "weights": "random", **fields})


def test_an_unknown_model_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(InputProblem, match=r"timm has no model 'resnet1t'; nearest valid: .*resnet1.* more\)"):
        build("resnet1t", {}, num_classes=2)


def test_an_unknown_tag_is_answered_with_the_tags_of_the_model() -> None:
    with pytest.raises(InputProblem, match=r"no weights 'r160_in1kk' for test_byobnet; nearest valid: r160_in1k"):
        build("test_byobnet.r160_in1kk", {}, num_classes=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"no_such": 1}, "no_such"), ({"patch_size": "many"}, "test_vit cannot be built"), ({"depth": -1.5}, "cannot be built")],
)
def test_wrong_arguments_are_the_users_problem(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputProblem, match=said):
        build("test_vit", arguments, num_classes=2)


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained", "num_classes", "pretrained_cfg"])
def test_arguments_cannot_bring_weights_around_the_safe_reader(argument: str) -> None:
    with pytest.raises(InputProblem, match=f"arch_args.{argument}"):
        build("test_byobnet", {argument: "evil.pth"}, num_classes=2)


def test_a_seed_decides_the_weights_and_leaves_the_global_streams_alone() -> None:
    before = torch.get_rng_state(), random.getstate()
    first = build("test_vit", {"in_chans": 1}, num_classes=3, seed=7).state_dict()
    again = build("test_vit", {"in_chans": 1}, num_classes=3, seed=7).state_dict()
    other = build("test_vit", {"in_chans": 1}, num_classes=3, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_a_model_on_the_meta_device_takes_no_memory() -> None:
    model = build("vit_large_patch16_224", {}, num_classes=0, device="meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert not model.training


def test_without_overrides_timm_decides() -> None:
    model = build("resnet50.a1_in1k", {}, num_classes=0, device="meta")
    ours, timms = data_config(encoder(arch="resnet50.a1_in1k"), model), resolve_model_data_config(model)
    assert ours.input_size == timms["input_size"]
    assert (ours.mean, ours.std) == (timms["mean"], timms["std"])
    assert (ours.interpolation, ours.crop_pct) == (timms["interpolation"], timms["crop_pct"])


def test_overrides() -> None:
    model = build("test_byobnet", {}, num_classes=0)
    config = data_config(encoder(input_size=32, mean=0.5, std=(0.1, 0.2, 0.3), interpolation="nearest"), model)
    assert config.input_size == (3, 32, 32)
    assert config.mean == (0.5, 0.5, 0.5)
    assert config.std == (0.1, 0.2, 0.3)
    assert config.interpolation == "nearest"
    assert config.crop_pct == 1.0
    own_size = timm.data.resolve_model_data_config(model)["input_size"][1]
    assert data_config(encoder(input_size=own_size), model).crop_pct == timm.data.resolve_model_data_config(model)["crop_pct"]


def test_grey_models_get_the_mean_of_the_statistics() -> None:
    arguments = {"in_chans": 1}
    model = build("resnet18", arguments, num_classes=0, device="meta")
    config = data_config(encoder(arch="resnet18", arch_args=arguments), model)
    assert config.input_size == (1, 224, 224)
    assert config.mean == (pytest.approx((0.485 + 0.456 + 0.406) / 3),)  # ImageNet's
    assert config.std == (pytest.approx((0.229 + 0.224 + 0.225) / 3),)


def test_an_image_size_given_to_the_model_is_the_size_of_its_images() -> None:
    arguments = {"img_size": 48}
    model = build("test_vit", arguments, num_classes=0)
    assert data_config(encoder(arch="test_vit", arch_args=arguments), model).input_size == (3, 48, 48)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"mean": (0.1, 0.2)}, "need one value or 3, not 2"), ({"arch_args": {"in_chans": 4}}, r"1 \(grey\) or 3")],
)
def test_impossible_overrides(fields: dict[str, Any], said: str) -> None:
    entry = encoder(**fields)
    model = build("test_byobnet", entry.arch_args, num_classes=0)
    with pytest.raises(InputProblem, match=said):
        data_config(entry, model)
