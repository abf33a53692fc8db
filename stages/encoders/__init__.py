"""Encoders: building a timm model, loading weights safely, tapping its layers, preparing its pixels."""

from stages.encoders.build import build, data_config, known_architecture
from stages.encoders.layers import check_layers, depths, layer_names
from stages.encoders.load import load, match_state, read_weight_file
from stages.encoders.preprocess import Preprocess
from stages.encoders.tap import GRID, Tapped, check_input

__all__ = [
    "GRID",
    "Preprocess",
    "Tapped",
    "build",
    "check_input",
    "check_layers",
    "data_config",
    "depths",
    "known_architecture",
    "layer_names",
    "load",
    "match_state",
    "read_weight_file",
]
