"""Tap any module of a timm model: all layers and the head in one forward pass, each pooled to a vector or kept as a grid."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stages.encoders.layers import POOLED, UNPOOLED, check_layers, feature_info, module_of
from stages.encoders.pooling import POOLS, FeatureMap, grid, mean
from stages.errors import InputProblem, out_of_memory

GRID = "@grid"  # behind a layer's name in what `Tapped` returns


class _AllTapped(Exception):
    """Every layer asked for has run; what the model would still compute is wanted by nobody."""


def check_input(
    model: nn.Module, layers: Sequence[str], input_size: tuple[int, int, int], *, where: str, grids: Sequence[str] = ()
) -> None:
    """Run one image through the model; on the "meta" device this computes shapes alone.

    Raises:
        InputProblem: the model has no such layer, does not take images of this size, or does not use the layer.
    """
    check_layers(model, layers, where=f"{where}.layers")
    check_layers(model, grids, where=f"{where}.grids")
    device = next(model.parameters()).device
    try:
        Tapped(model, layers, grids)(torch.empty(1, *input_size, device=device))
    except InputProblem as problem:
        raise InputProblem(problem.what, where=f"{where}.layers", next_step=problem.next_step) from None
    except Exception as error:  # what a model raises on images it is not made for is open-ended
        if out_of_memory(error):
            raise
        size = " x ".join(map(str, input_size))
        raise InputProblem(
            f"the model does not take images of {size} (channels, height, width): {str(error) or type(error).__name__}",
            where=f"{where}.input_size",
            next_step="leave `input_size` out to take timm's, or give the model the same size in `arch_args`",
        ) from None


class Tapped:
    """A model and the layers to keep. Calling it runs one forward pass; between calls the model is as it was.

    Args:
        model: a timm model in evaluation mode.
        layers: names of modules, "pooled" or "unpooled"; with "@gem" or "@class" behind another pooling than the mean.
        grids: names of modules or "unpooled", kept with all their positions.

    Outputs [n, c, h, w] and [n, h, w, c] become their mean over space, token outputs [n, t, c] the mean over the
    tokens that stand for patches (class and register tokens left out). Of a module with several outputs the one with
    the channels that timm states is taken, else the first. A layer is pooled the moment it has run, before a later
    module changes it in place; of a module that runs several times the last run counts. Where neither the head nor
    "pooled" or "unpooled" is wanted, passes after the first one stop behind the last layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], grids: Sequence[str] = ()) -> None:
        check_layers(model, [*layers, *grids], where=type(model).__name__)
        self.model, self.layers, self.grids = model, list(layers), list(grids)
        self._wanted: dict[str, dict[str, Callable[[FeatureMap], Tensor]]] = {}  # module -> name of the result -> pooling
        for layer in layers:
            self._wanted.setdefault(module_of(layer), {})[layer] = POOLS.get(layer.partition("@")[2], mean)
        for layer in grids:
            self._wanted.setdefault(layer, {})[layer + GRID] = grid
        # timm's own word on the layout where it has one; Swin and relatives keep channels last.
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        self._has_class_token = getattr(model, "cls_token", None) is not None
        info = feature_info(model)
        whole = {"num_chs": getattr(model, "num_features", None), "reduction": info[-1].get("reduction") if info else None}
        self._stages = {UNPOOLED: whole} | {entry["module"]: entry for entry in info}
        self._has_head = bool(getattr(model, "num_classes", 0))
        self._last: str | None = None  # the module behind which a pass may stop

    def __call__(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return features by layer and the head's logits [n, classes] or None where there is no head.

        A layer is [n, d]; a grid, under its name with "@grid" behind it, [n, h, w, c], or [n, t, c] of tokens that lie on
        no known grid.

        Args:
            images: normalised images [n, c, h, w].

        Raises:
            InputProblem: the forward pass does not run a layer, or the layer's output is no feature map.
        """
        kept: dict[str, Tensor] = {}
        runs, logits = self._run(images, lambda name, output: kept.update(self._pool(name, output, images)))
        for name in self._wanted:
            if name not in runs:
                raise InputProblem(f"the forward pass does not run {name!r}; tap its parent or its children")
        whole = self._has_head or not {POOLED, UNPOOLED}.isdisjoint(self._wanted)
        if not whole and self._last is None and max(runs.values()) == 1:
            self._last = list(runs)[-1]
        return {name: kept[name] for name in (*self.layers, *(layer + GRID for layer in self.grids))}, logits

    def maps(self, images: Tensor) -> dict[str, FeatureMap]:
        """Return what each layer puts out, unpooled; what is not run, or puts out no feature map, is left out."""
        found: dict[str, FeatureMap] = {}

        def take(name: str, output: Any) -> None:
            with contextlib.suppress(InputProblem):
                found[name] = self._read(name, output, images)

        self._run(images, take)
        return {name: found[name] for name in self._wanted if name in found}

    def _run(self, images: Tensor, take: Callable[[str, Any], None]) -> tuple[Counter[str], Tensor | None]:
        """Run one forward pass; return how often each layer ran, in the order of their first runs, and the logits."""
        runs: Counter[str] = Counter()

        def ran(name: str, output: Any) -> None:
            runs[name] += 1
            take(name, output)
            if name == self._last:
                raise _AllTapped

        logits = None
        with contextlib.suppress(_AllTapped), self._hooked(ran), torch.inference_mode():
            logits = self._forward(images, ran, runs)
        return runs, logits if self._has_head else None

    @contextlib.contextmanager
    def _hooked(self, ran: Callable[[str, Any], None]) -> Iterator[None]:
        """Call `ran` with the name and the output of each layer that is a module, whenever it runs inside the block."""
        hooks = [
            self.model.get_submodule(name).register_forward_hook(lambda _module, _inputs, output, name=name: ran(name, output))
            for name in self._wanted
            if name not in (POOLED, UNPOOLED)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _forward(self, images: Tensor, ran: Callable[[str, Any], None], runs: Container[str]) -> Tensor | None:
        """Run the model as far as its layers and head are wanted; `runs` holds the layers that have run."""
        model: Any = self.model
        body = model.forward_features(images)
        if UNPOOLED in self._wanted:
            ran(UNPOOLED, body)
        if POOLED in self._wanted:
            ran(POOLED, model.forward_head(body, pre_logits=True))
        if self._has_head or not all(name in runs for name in self._wanted):  # a layer may lie in the head
            logits: Tensor = model.forward_head(body)
            return logits
        return None

    def _pool(self, name: str, output: Any, images: Tensor) -> dict[str, Tensor]:
        read = self._read(name, output, images)
        try:
            return {result: pool(read) for result, pool in self._wanted[name].items()}
        except InputProblem as problem:
            raise InputProblem(f"{name!r} {problem.what}") from None

    def _read(self, name: str, output: Any, images: Tensor) -> FeatureMap:
        """Return a module's output with what its dimensions mean."""
        n = len(images)
        stage = self._stage(name)
        channels = stage.get("num_chs")
        outputs = output if isinstance(output, tuple | list) else [output]
        maps = [part for part in outputs if isinstance(part, Tensor) and part.ndim in (2, 3, 4) and len(part) == n]
        maps = [part for part in maps if channels in part.shape[1:]] or maps
        if not maps:
            raise InputProblem(f"the output of {name!r} is no feature map of {n} images")
        values = maps[0]
        if values.ndim == 4:  # (n, c, h, w) or (n, h, w, c)
            last = self._channels_last
            if (values.shape[1] == channels) != (values.shape[3] == channels):
                last = values.shape[3] == channels
            return FeatureMap(values, (1, 2) if last else (2, 3), 0, False, None)
        if values.ndim == 3:  # (n, t, c)
            prefix, height_width = self._layout(values.shape[1], stage, images)
            return FeatureMap(values, (1,), prefix, self._has_class_token, height_width)
        return FeatureMap(values, (), 0, False, None)

    def _stage(self, layer: str) -> dict[str, Any]:
        """Return timm's entry for a layer or the stage around it, empty where there is none."""
        while layer and layer not in self._stages:
            layer = layer.rpartition(".")[0]
        entry: dict[str, Any] = self._stages.get(layer, {})
        return entry

    def _layout(self, tokens: int, stage: dict[str, Any], images: Tensor) -> tuple[int, tuple[int, int] | None]:
        """Return how many class and register tokens lead, and the height and width of the others.

        None lead where a model adds them behind its blocks (CaiT, XCiT).
        """
        reduction = stage.get("reduction")
        for height, width in _sides(images, reduction) if reduction else []:
            if tokens == height * width:
                return 0, (height, width)
            if tokens == self._prefix_tokens + height * width:
                return self._prefix_tokens, (height, width)
        return self._prefix_tokens, None


def _sides(images: Tensor, reduction: int) -> list[tuple[int, int]]:
    height, width = images.shape[2:]
    return [(height // reduction, width // reduction), (-(-height // reduction), -(-width // reduction))]
