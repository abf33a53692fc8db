"""A tapped model as one compiled graph: the pools of all layers are inside, and what no layer wants is left out."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.encoders import Tapped
from stages.errors import InputProblem, out_of_memory
from stages.extraction.timing import Gain

WHERE = "params.yaml: extract.compile"
TIMED = 3  # warm passes, of which the fastest counts: what else the machine does only ever adds
SIZES = 32  # graphs, one a size of batch: more than halvings of the largest batch


def check_compiler(device: torch.device) -> None:
    """Raise InputProblem where torch has nothing to compile with: a C++ compiler on a CPU, Triton on CUDA."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            next_step = "install triton as torch's own wheels for Linux do, or set it to false"
            raise InputProblem("compiling for CUDA needs Triton, and it is not installed", where=WHERE, next_step=next_step)
        return
    from torch._inductor.cpp_builder import get_cpp_compiler  # the search that the compilation itself makes: CXX, then g++
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        next_step = "install a C++ compiler (g++, or name one in CXX), or set it to false"
        raise InputProblem("compiling needs a C++ compiler, and there is none", where=WHERE, next_step=next_step) from None


class Compiled(Tapped):
    """`Tapped`, compiled for each size of batch when the first such batch comes. The model itself stays as it was.

    Results are those of `Tapped` up to the order of sums. `gain` says what the first compilation has cost and saves, None
    before it.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], grids: Sequence[str] = ()) -> None:
        super().__init__(model, layers, grids)
        self.gain: Gain | None = None
        self._now: tuple[Tensor, dict[str, Tensor], set[str]] | None = None  # a pass while it is traced
        # Guards on all but tensors are left out: they compare hooks, which are others in each pass, and would compile anew.
        # Nothing else that they watch changes during an extraction. Without them graphs must not be shared between models.
        # Kernels are not chosen by how fast they ran just now: the order of sums would change from run to run.
        options: Any = {"guard_filter_fn": torch.compiler.keep_tensor_guards_unsafe, "deterministic": True}
        self._graph = torch.compile(  # type: ignore[call-overload]  # torch's own overloads lack the two about recompiling
            self._traced, fullgraph=True, dynamic=False, recompile_limit=SIZES, isolate_recompiles=True, options=options
        )

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return what `Tapped` returns; the first pass is also made eagerly, for its errors and its time.

        Raises:
            InputProblem: as `Tapped`, or torch cannot compile the model.
        """
        if self.gain is None:
            _timed(super().__call__, images)  # a first pass is slow: kernels are chosen and memory is taken
            eager = _fastest(super().__call__, images)
            first = _timed(self._run_compiled, images)
            self.gain = Gain(first, eager, _fastest(self._run_compiled, images), len(images))
        return self._run_compiled(images)

    def _run_compiled(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        from torch._dynamo.exc import TorchDynamoException

        try:
            with self._hooked(self._ran), torch.inference_mode():  # hooks matter while a graph is traced
                kept, logits = self._graph(images)
        except TorchDynamoException as error:
            if out_of_memory(error):
                raise
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = f"torch cannot compile {type(self.model).__name__} ({said})"
            raise InputProblem(what, where=WHERE, next_step="set it to false") from None
        return kept, logits

    def _traced(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the features and logits; Python runs while this is traced, later only the graph does."""
        kept: dict[str, Tensor] = {}
        runs: set[str] = set()
        self._now = (images, kept, runs)
        logits = self._forward(images, self._ran, runs)
        self._now = None
        return kept, logits if self._has_head else None

    def _ran(self, name: str, output: Any) -> None:
        assert self._now is not None
        images, kept, runs = self._now
        runs.add(name)
        kept.update(self._pool(name, output, images))


Pass = Callable[[Tensor], Any]


def _timed(run: Pass, images: Tensor) -> float:
    """Return the seconds of one pass, until its results are there."""
    started = time.perf_counter()
    run(images)
    if images.device.type != "cpu":
        torch.accelerator.synchronize(images.device)
    return time.perf_counter() - started


def _fastest(run: Pass, images: Tensor) -> float:
    return min(_timed(run, images) for _ in range(TIMED))
