"""What can pre-training descend? One registry of objectives, each with options of its own."""

from __future__ import annotations

from pydantic import ValidationError

from stages.errors import InputProblem, nearest
from stages.objectives.contract import Measured, Objective, as_it_is, classified
from stages.params import EDIT, PretrainWeights, Section, explain
from stages.registry import Registry

OBJECTIVES: Registry[Objective] = Registry(
    "objective",
    {
        "supervised": "stages.objectives.supervised:OBJECTIVE",
        "simclr": "stages.objectives.simclr:OBJECTIVE",
        "adversarial": "stages.objectives.adversarial:OBJECTIVE",
    },
)


def chosen(weights: PretrainWeights, where: str) -> tuple[Objective, Section]:
    """Return the objective that `weights` asks for, and its options, the default where nothing is said.

    Raises:
        InputProblem: there is no such objective, or it has no such option; `where` is the place in params.yaml.
    """
    try:
        objective = OBJECTIVES[weights.objective]
    except InputProblem as problem:
        raise InputProblem(problem.what, where=f"{where}.objective", next_step=problem.next_step) from None
    known = set(objective.options.model_fields)
    for name in weights.options:
        if name not in known:
            what = f"{weights.objective} has no option {name!r}; {nearest(name, {*known, 'objective'})}"
            raise InputProblem(what, where=where, next_step=EDIT)
    try:
        return objective, objective.options.model_validate(weights.options)
    except ValidationError as error:
        raise InputProblem(explain(error, objective.options), where=where, next_step=EDIT) from None


__all__ = ["OBJECTIVES", "Measured", "Objective", "as_it_is", "chosen", "classified"]
