"""The loop behind extract: read, decode, run the encoder and write, all at once, in shards that a killed run keeps."""

from stages.extraction.batching import chosen_batch
from stages.extraction.build import job_for
from stages.extraction.devices import on_devices, pick_devices
from stages.extraction.forward import run_encoder
from stages.extraction.job import PROBABILITIES, Arrays, Item, Job
from stages.extraction.pixels import decoded
from stages.extraction.shards import Writer, extract, extract_shards, join_shards, planned, remaining, write_shards
from stages.extraction.timing import Clock

__all__ = [
    "PROBABILITIES",
    "Arrays",
    "Clock",
    "Item",
    "Job",
    "Writer",
    "chosen_batch",
    "decoded",
    "extract",
    "extract_shards",
    "job_for",
    "join_shards",
    "on_devices",
    "pick_devices",
    "planned",
    "remaining",
    "run_encoder",
    "write_shards",
]
