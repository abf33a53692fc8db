"""The edge of a stage: what becomes which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(body: str) -> subprocess.CompletedProcess[str]:
    """Run an entry with this body in a process of its own, in the project folder."""
    code = f"from stages import entry\ndef body(settings, name):\n    {body}\nentry.run('toy', body, argv=[])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "body",
    [
        "bytearray(2**62)",
        "import torch; torch.empty(2**55)",  # torch's own text, in a plain RuntimeError
        "import torch; raise torch.OutOfMemoryError('CUDA out of memory')",
        "raise RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.')",  # Windows' text
    ],
)
def test_full_memory_is_to_be_tried_again(write_params: Callable[..., Path], body: str) -> None:
    write_params()
    ended = run(body)
    assert ended.returncode == 75, ended.stderr
    assert ended.stderr.startswith("toy: out of memory (")
    assert "Next: free some memory or lower a batch size in params.yaml, then `dvc repro`" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bug_is_a_traceback_and_exit_code_1(write_params: Callable[..., Path]) -> None:
    write_params()
    ended = run("raise RuntimeError('odd')")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
