"""Features of a folder of images by other programs; run by bench_extract.py with a Python that has them, and by nobody else.

`python peers_extract.py <arch> <size> <folder> <weights> <batch> <threads> <workers>` prints one JSON object: images a
second by program, or why there are none. The weights are a state dict without a head. Each program reads the files with
its own dataset and loader, and keeps the features in memory.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from safetensors.torch import load_file


def by_timm(arch: str, size: int, folder: str, model: Any, batch: int, workers: int) -> int:
    """The loop of timm's inference script: its dataset, its loader, the model, the outputs on the CPU."""
    from timm.data import create_dataset, create_loader, resolve_model_data_config

    config = resolve_model_data_config(model) | {"input_size": (3, size, size), "crop_pct": 1.0}
    loader = create_loader(
        create_dataset("folder", root=folder), batch_size=batch, num_workers=workers, device=torch.device("cpu"), **config
    )
    with torch.inference_mode():
        return sum(len(model(images).cpu().numpy()) for images, _ in loader)


def by_clip_retrieval(arch: str, size: int, folder: str, model: Any, batch: int, workers: int) -> int:
    """The loop of its inference: its reader, a mapper as its own for images, its runner's order of steps."""
    from clip_retrieval.clip_inference.reader import FilesReader
    from timm.data import create_transform, resolve_model_data_config

    transform = create_transform(**(resolve_model_data_config(model) | {"input_size": (3, size, size), "crop_pct": 1.0}))
    reader = FilesReader(
        lambda keys: keys, transform, None, folder, batch, workers, enable_text=False, enable_image=True, enable_metadata=False
    )
    kept = []
    with torch.no_grad():
        for item in reader:
            features = model(item["image_tensor"])
            features /= features.norm(dim=-1, keepdim=True)
            kept.append(features.cpu().to(torch.float16).numpy())
    return sum(map(len, kept))


def by_thingsvision(arch: str, size: int, folder: str, model: Any, batch: int, workers: int) -> int:
    """Its extractor around the same model, with its own dataset and loader."""
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset

    extractor = get_extractor(model_name=arch, source="timm", device="cpu", pretrained=False, model_parameters={})
    extractor.model.reset_classifier(0)
    extractor.model.load_state_dict(model.state_dict())
    with TemporaryDirectory() as out:
        dataset = ImageDataset(
            root=folder, out_path=out, backend=extractor.get_backend(),
            transforms=extractor.get_transformations(resize_dim=size, crop_dim=size),
        )  # fmt: skip
        batches = DataLoader(dataset=dataset, batch_size=batch, backend=extractor.get_backend())
        layer = "global_pool" if hasattr(extractor.model, "global_pool") else "fc_norm"
        return len(extractor.extract_features(batches=batches, module_name=layer, flatten_acts=True, output_type="ndarray"))


WAYS: dict[str, Callable[..., int]] = {
    "timm": by_timm, "clip-retrieval": by_clip_retrieval, "thingsvision": by_thingsvision,
}  # fmt: skip


def main() -> None:
    """Print the rates."""
    arch, size, folder, weights, batch, threads, workers = sys.argv[1:]
    torch.set_num_threads(int(threads))
    found: dict[str, float | str] = {}
    for name, way in WAYS.items():
        model = timm.create_model(arch, num_classes=0).eval()
        model.load_state_dict(load_file(weights))
        arguments = (arch, int(size), folder, model, int(batch), int(workers))
        try:
            with contextlib.redirect_stdout(sys.stderr):
                way(*arguments)  # imports, and the first files
                started = time.perf_counter()
                n = way(*arguments)
            assert n == sum(path.is_file() for path in Path(folder).rglob("*"))
            found[name] = n / (time.perf_counter() - started)
        except Exception as error:  # another program's; the others still count
            found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
