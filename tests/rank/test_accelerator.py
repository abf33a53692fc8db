"""The torch route of the heavy computations gives what the CPU route gives; here on torch's CPU device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.rank import METRICS, Statistics
from stages.rank.accelerator import Accelerator

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 200)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_the_same_value(name: str, dtype: type, n: int, d: int, device: str) -> None:
    stream = np.random.default_rng(n)
    labels = np.arange(n) % 4
    features = (5 + 2 * stream.normal(size=(n, d)) + stream.normal(size=(4, d))[labels]).astype(dtype)
    probabilities = stream.dirichlet(np.ones(5), n)
    accelerator = Accelerator(torch.device(device))
    plain = METRICS[name].rows(name, Statistics(features, labels, probabilities))
    rows = METRICS[name].rows(name, Statistics(features, labels, probabilities, accelerator=accelerator))
    assert rows.keys() == plain.keys()
    for key, score in rows.items():
        assert score.value == pytest.approx(plain[key].value, rel=1e-5 if dtype is np.float32 else 1e-9)
        assert score.warning == plain[key].warning
