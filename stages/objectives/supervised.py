"""Cross-entropy on the source's labels, images as they are."""

from __future__ import annotations

from stages.objectives.contract import Objective
from stages.params import Section
from stages.training import cross_entropy


class Options(Section):
    """None."""


OBJECTIVE = Objective(options=Options, loss=lambda _options: cross_entropy)
