"""Tables of the family `answers`."""

from __future__ import annotations

from stages.artifacts.schemas.schema import WARNING, Schema, real, text

SCHEMAS: dict[str, Schema] = {
    "recommendations": Schema(
        "What should one do?",
        {"question": text("question"), "target": text("dataset or task/language the answer is for")},
        {
            "answer": text("the choice"),
            "evidence": text("the numbers behind it, in words"),
            "margin": real(
                "encoder: the metric's distance to the best other encoder; head: error of the second head minus that of the "
                "first; source data: tolerance minus the loss of accuracy; source language: predicted score minus that of the "
                "second; source languages together: measured score minus that of the next best rule; else null",
                nullable=True,
            ),
            "warning": WARNING,
        },
        made_by="recommend",
    ),
}
