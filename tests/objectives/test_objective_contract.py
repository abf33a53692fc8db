"""What holds for every objective: options with defaults, training that repeats itself, and resumes to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stages import check, encoders, params, training
from stages.errors import InputProblem
from stages.objectives import OBJECTIVES, chosen
from stages.params import PretrainWeights

CPU = torch.device("cpu")
RECIPE = training.Recipe(epochs=3, batch_size=8, learning_rate=3e-3, weight_decay=0.05)
N = 28  # images: 4 batches an epoch


class Plain:
    """A preprocessing that may be interrupted at one of its calls."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen, self.fail_at = 0, fail_at

    def normalise(self, batch: Tensor) -> Tensor:
        self.seen += 1
        if self.seen == self.fail_at:
            raise KeyboardInterrupt
        return (batch.float() - 128) / 64


def trained(name: str, checkpoints: Path | None = None, preprocess: Plain | None = None, seed: int = 0) -> dict[str, Tensor]:
    objective = OBJECTIVES[name]
    draws = np.random.default_rng(0)
    pixels = torch.from_numpy(draws.integers(0, 256, (N, 1, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(draws.integers(0, 3, N))
    model = encoders.build("test_byobnet", {"in_chans": 1}, num_classes=3 if objective.has_head else 0, seed=0)
    training.train(
        objective.wrap(model, seed), pixels, labels, preprocess or Plain(), RECIPE, seed=seed, device=CPU,
        loss=objective.loss(objective.options()), checkpoints=checkpoints,
    )  # fmt: skip
    assert not model.training
    return model.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_repeats_itself_and_an_interrupted_one_resumes_to_the_same_bytes(name: str, project: Path) -> None:
    whole = Plain()
    state = trained(name, preprocess=whole)
    torch.manual_seed(5)
    assert same(state, trained(name))
    assert not same(state, trained(name, seed=1))
    an_epoch = whole.seen // RECIPE.epochs
    for fail_at in (an_epoch + 2, whole.seen):  # early in the second epoch, in the last step of the third
        checkpoints = project / f"work-{fail_at}"
        with pytest.raises(KeyboardInterrupt):
            trained(name, checkpoints, Plain(fail_at))
        resumed = Plain()
        assert same(state, trained(name, checkpoints, resumed))
        assert resumed.seen == whole.seen - an_epoch * ((fail_at - 1) // an_epoch)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_moves_every_weight_of_the_encoder(name: str) -> None:
    head = 3 if OBJECTIVES[name].has_head else 0
    fresh = encoders.build("test_byobnet", {"in_chans": 1}, num_classes=head, seed=0).state_dict()
    state = trained(name)
    assert [key for key in fresh if fresh[key].is_floating_point() and torch.equal(fresh[key], state[key])] == []


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_option_has_a_default_and_a_bound(name: str) -> None:
    options = OBJECTIVES[name].options()
    for option, value in options.model_dump().items():
        if isinstance(value, bool):
            continue
        with pytest.raises(InputProblem, match=rf"weights: {option}: "):
            chosen(PretrainWeights(pretrain="x", objective=name, **{option: -1}), "encoders.a.weights")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"objective": "simcrl"}, [r"encoders.a.weights.objective", "no objective named 'simcrl'", "simclr"]),
        ({"objectve": "simclr"}, ["encoders.a.weights", "supervised has no option 'objectve'", "objective"]),
        ({"objective": "simclr", "temprature": 1}, ["simclr has no option 'temprature'", "temperature"]),
        ({"objective": "adversarial", "epsilon": 0}, ["epsilon", "greater than 0"]),
        ({"objective": "adversarial", "epsilon": "far"}, ["epsilon", "valid number"]),
    ],
)
def test_a_mistake_is_named_before_anything_runs(
    write_params: Callable[..., Path], written: dict[str, object], told: list[str]
) -> None:
    mine = {"arch": "test_byobnet", "arch_args": {"in_chans": 1}, "weights": {"pretrain": "digits", **written}}
    write_params(encoders={"a": mine})
    with pytest.raises(InputProblem) as caught:
        check.check(params.load())
    assert all(part in str(caught.value) for part in told), str(caught.value)
