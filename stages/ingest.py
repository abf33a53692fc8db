"""DVC entry: `python -m stages.ingest --dataset digits` makes `data/datasets/digits` from what params.yaml names."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import polars as pl

from stages import entry, progress
from stages.artifacts import atomic, manifest
from stages.artifacts.dataset import MANIFEST_SCHEMA, QUARANTINE_SCHEMA, VERSION, dataset_path
from stages.datasets import KINDS, Labels, Raw, validate_entry
from stages.datasets.decoding import Undecodable, decode_image
from stages.datasets.splitting import assign, class_order, counts
from stages.errors import InputProblem, nearest
from stages.params import EDIT, Ingest, Params

BLOCK_IMAGES, BLOCK_BYTES = 32, 8_000_000  # what a worker takes at once: enough to hide the hand-over
BLOCKS_AHEAD = 3  # per worker; bounds the memory, whatever the number of images
BLOCK_ROWS = 65_536  # of a table
NO_LABEL = "no label: the source gives none"
_ROW_SCHEMA = {name: MANIFEST_SCHEMA[name] for name in ("id", "split", "label", "sha256", "width", "height", "shard")}


@dataclass(frozen=True)
class Seen:
    """An image that was looked at: its facts, or the reason for its quarantine."""

    raw: Raw
    content: bytes = b""
    sha256: str = ""
    width: int = 0
    height: int = 0
    reason: str | None = None


def main(settings: Params, name: str) -> None:
    """Read, check and split one dataset.

    Raises:
        InputProblem: no such dataset, too many images in quarantine, fewer than two classes, or an empty train or
            test split.
    """
    known = settings.all_datasets
    if name not in known:
        what = f"there is no dataset {name!r}; {nearest(name, known)}"
        raise InputProblem(what, where="params.yaml: datasets", next_step=EDIT)
    limits, where = settings.ingest, f"dataset {name}"
    source = KINDS[known[name].kind].read(validate_entry(name, known[name]))
    with atomic.new_folder(dataset_path(name)) as folder:
        shards = Shards(folder, limits.shard_megabytes * 1_000_000)
        if isinstance(source, Labels):
            rows = shards.without_images(source)
        else:
            with progress.bar(f"ingest {name}", source.total, "images") as advance:
                for seen in look_at(source.rows, limits, settings.run.decoding_workers):
                    shards.add(seen)
                    advance(1)
            rows = shards.finish()
        _check_quarantine(shards, len(rows), limits, where)
        if rows["id"].is_duplicated().any():
            twice = rows.filter(rows["id"].is_duplicated())["id"][0]
            raise InputProblem(
                f"two images have the id {twice!r}", where=where, next_step="rename one of them, then `dvc repro`"
            )
        try:
            rows = assign(rows, val_fraction=limits.val_fraction, test_fraction=limits.test_fraction)
        except InputProblem as problem:
            raise InputProblem(problem.what, where=where, next_step=problem.next_step) from None
        classes = class_order(rows["label"].unique().to_list(), source.class_names)
        facts = counts(rows)
        _check_use(classes, facts, where)
        index = {label: number for number, label in enumerate(classes)}
        rows = rows.with_columns(class_index=pl.col("label").replace_strict(index, return_dtype=pl.Int64))
        if isinstance(source, Labels):  # there was no content to hash: the ids have told the splits
            rows = rows.with_columns(sha256=pl.lit(None, dtype=pl.String))
        rows.select(list(MANIFEST_SCHEMA)).sort("shard", "id").write_parquet(folder / "manifest.parquet", compression="zstd")
        quarantine = pl.DataFrame(shards.quarantine, schema=QUARANTINE_SCHEMA, orient="row").sort("id", "reason")
        quarantine.write_parquet(folder / "quarantine.parquet", compression="zstd")
        manifest.write(
            folder, kind="dataset", version=VERSION, inputs={"source": shards.source_key}, source_kind=known[name].kind,
            classes=classes, images=len(rows), quarantined=len(quarantine), **facts,
        )  # fmt: skip
    what = "rows" if isinstance(source, Labels) else "images"
    print(f"{name}: {len(rows):,} {what}, {len(classes)} classes, {len(quarantine):,} quarantined")
    for reason, number in _frequent(shards.quarantine):
        print(f"{name}: quarantined {number:,}: {reason}", file=sys.stderr)


def look_at(rows: Iterable[Raw], limits: Ingest, threads: int) -> Iterator[Seen]:
    """Yield every image looked at, in the order of `rows`; only a bounded number is in memory."""

    def look(block: list[Raw]) -> list[Seen]:
        return [_look(raw, limits) for raw in block]

    for block in _in_order(look, _blocks(rows, limits.max_bytes), threads):
        yield from block


def _look(raw: Raw, limits: Ingest) -> Seen:
    if raw.label is None:
        return Seen(raw, reason=NO_LABEL)
    try:
        content = _content(raw, limits.max_bytes)
        image = decode_image(content, max_pixels=limits.max_pixels)
    except Undecodable as error:
        return Seen(raw, reason=str(error))
    except OSError as error:
        return Seen(raw, reason=f"cannot be read: {error.strerror}")
    return Seen(raw, content, hashlib.sha256(content).hexdigest(), image.width, image.height)


def _content(raw: Raw, max_bytes: int) -> bytes:
    if isinstance(raw.content, bytes):
        size = len(raw.content)
    else:
        size = raw.content.stat().st_size
        if not raw.content.is_file():  # opening a pipe would wait for ever
            raise Undecodable("cannot be read: not a regular file")
    if size > max_bytes:
        raise Undecodable(f"too large: {size} bytes are more than {max_bytes}")
    return raw.content if isinstance(raw.content, bytes) else raw.content.read_bytes()


def _blocks(rows: Iterable[Raw], max_bytes: int) -> Iterator[list[Raw]]:
    block: list[Raw] = []
    size = 0
    for raw in rows:
        block.append(raw)
        size += min(_size(raw), max_bytes)
        if len(block) == BLOCK_IMAGES or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _size(raw: Raw) -> int:
    if isinstance(raw.content, bytes):
        return len(raw.content)
    try:
        return raw.content.stat().st_size
    except OSError:
        return 0  # the look at it says why


A = TypeVar("A")
B = TypeVar("B")


def _in_order(call: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """Map `call` over `items` on threads, few items ahead, results in order; without threads where `threads` < 2."""
    if threads < 2:
        yield from map(call, items)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) > threads * BLOCKS_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass
class Shards:
    """The images on their way to disk: one shard is filled in the source's order, then written sorted by id."""

    folder: Path
    max_bytes: int
    quarantine: list[tuple[str, str]] = field(default_factory=list)
    _number: int = 0
    _bytes: int = 0
    _open: list[Seen] = field(default_factory=list)
    _written: list[pl.DataFrame] = field(default_factory=list)
    _source: hashlib._Hash = field(default_factory=hashlib.sha256)

    @property
    def source_key(self) -> str:
        """Return the sha256 of all ids with their labels and contents, in the source's order: what all this was made from."""
        return self._source.hexdigest()

    def add(self, seen: Seen) -> None:
        """Take one image, into the shard or into quarantine."""
        raw = seen.raw
        self._source.update(f"{raw.id}\0{raw.label}\0{raw.split}\0{seen.reason or seen.sha256}\n".encode())
        if seen.reason is not None:
            self.quarantine.append((raw.id, seen.reason))
            return
        if self._open and self._bytes + len(seen.content) > self.max_bytes:
            self._write()
        self._open.append(seen)
        self._bytes += len(seen.content)

    def finish(self) -> pl.DataFrame:
        """Write the last shard and return the rows of all, without `class_index`."""
        if self._open:
            self._write()
        return pl.concat(self._written) if self._written else pl.DataFrame(schema=_ROW_SCHEMA)

    def without_images(self, source: Labels) -> pl.DataFrame:
        """Take all rows of a table and return those with a label, as `finish` does; their sha256 is of the id."""
        for block in source.rows.iter_slices(BLOCK_ROWS):
            self._source.update(
                "".join(f"{identity}\0{label}\0{split}\n" for identity, label, split in block.iter_rows()).encode()
            )
        labelled = source.rows.filter(pl.col("label").is_not_null())
        self.quarantine = [(identity, NO_LABEL) for identity in source.rows.filter(pl.col("label").is_null())["id"]]
        hashes = pl.Series([hashlib.sha256(identity.encode()).hexdigest() for identity in labelled["id"]], dtype=pl.String)
        nothing = {name: pl.lit(None, dtype=_ROW_SCHEMA[name]) for name in ("width", "height", "shard")}
        return labelled.with_columns(sha256=hashes, **nothing).select(list(_ROW_SCHEMA))

    def _write(self) -> None:
        shard = sorted(self._open, key=lambda seen: seen.raw.id)
        images = pl.DataFrame(
            {"id": [seen.raw.id for seen in shard], "bytes": [seen.content for seen in shard]},
            schema={"id": pl.String, "bytes": pl.Binary},
        )
        images.write_parquet(self.folder / f"images-{self._number:05d}.parquet", compression="zstd")
        facts = [
            (seen.raw.id, seen.raw.split, seen.raw.label, seen.sha256, seen.width, seen.height, self._number) for seen in shard
        ]
        self._written.append(pl.DataFrame(facts, schema=_ROW_SCHEMA, orient="row"))
        self._number, self._bytes, self._open = self._number + 1, 0, []


def _frequent(quarantine: list[tuple[str, str]]) -> list[tuple[str, int]]:
    """Return the three most frequent kinds of reason with their numbers."""
    kinds = Counter(reason.split(":")[0] for _, reason in quarantine)
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))[:3]


def _check_quarantine(shards: Shards, good: int, limits: Ingest, where: str) -> None:
    bad = len(shards.quarantine)
    if not good and not bad:
        raise InputProblem(
            "holds no image", where=where, next_step="check its `path` in params.yaml, then `transferscope check`"
        )
    if bad > limits.max_quarantine_fraction * (good + bad) or not good:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in _frequent(shards.quarantine))
        example, reason = min(shards.quarantine)
        raise InputProblem(
            f"{bad:,} of {good + bad:,} images cannot be used ({reasons}), "
            f"more than the {limits.max_quarantine_fraction:.1%} allowed; the first is {example!r}: {reason}",
            where=where,
            next_step="mend or remove them, or raise ingest.max_quarantine_fraction in params.yaml, then `dvc repro`",
        )


def _check_use(classes: list[str], facts: dict[str, int], where: str) -> None:
    if len(classes) < 2:
        raise InputProblem(
            f"has one class, {classes[0]!r}", where=where, next_step="add images of a second class, then `dvc repro`"
        )
    for split in ("train", "test"):
        if not facts[split]:
            raise InputProblem(
                f"has no {split} images",
                where=where,
                next_step="add images, or change the fractions under `ingest` in params.yaml, then `dvc repro`",
            )


if __name__ == "__main__":
    entry.run("ingest", main, item="dataset")
