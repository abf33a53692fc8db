"""Which stage may start next, and what became of each: the order of one run, without Prefect and without a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines import graph
from pipelines.crew import Outcome
from pipelines.graph import Node


class Ledger:
    """The state of one run over a graph.

    A stage is *kept*, and needs no look by DVC, where DVC's verdict on it was "not changed" and every stage it needs
    was kept too or ran to the same outputs. Among the stages that may start, the one that most others wait for goes
    first; ties go in DVC's order.

    Args:
        nodes: the stages in an order in which each follows those it needs.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self.nodes = nodes
        self.outcomes: dict[str, Outcome] = {}
        self._before = graph.outputs(nodes.values())
        self._same: set[str] = set()  # finished with the outputs that dvc.lock had before the run
        self._waiting = self._in_order_of_weight()

    def take(self, fits: Callable[[str], bool] = lambda _: True) -> str | None:
        """Return a stage that may start now, and that `fits`, and mark it as started, or None where there is none."""
        for name in self._waiting:
            needs = [self.outcomes.get(need) for need in self.nodes[name].needs]
            if all(need is not None and need.good for need in needs) and fits(name):
                self._waiting.remove(name)
                return name
        return None

    def kept(self, name: str) -> bool:
        """Return whether a stage that may start is up to date already."""
        node = self.nodes[name]
        return not node.changed and all(need in self._same for need in node.needs)

    def settle(self, outcome: Outcome) -> None:
        """Record what became of a started stage; everything behind a failed one will not run."""
        self.outcomes[outcome.stage] = outcome
        if outcome.good:
            if outcome.result == "unchanged" or self._same_outputs(outcome.stage):
                self._same.add(outcome.stage)
            return
        for name in [name for name in self.nodes if name in self._waiting]:
            bad = [need for need in self.nodes[name].needs if need in self.outcomes and not self.outcomes[need].good]
            if bad:
                root = next((need for need in bad if self.outcomes[need].result == "failed"), None)
                why = f"needs {root}" if root else self.outcomes[bad[0]].message
                self._waiting.remove(name)
                self.outcomes[name] = Outcome(name, "not run", message=why)

    def _same_outputs(self, name: str) -> bool:
        now = graph.outputs([self.nodes[name]])
        return name in now and name in self._before and now[name] == self._before[name]

    @property
    def failed(self) -> list[Outcome]:
        """Return the failed stages in the graph's order."""
        return [self.outcomes[name] for name in self.nodes if name in self.outcomes and self.outcomes[name].result == "failed"]

    @property
    def in_order(self) -> list[Outcome]:
        """Return one outcome a stage, in the graph's order; stages that were never reached count as not run."""
        return [self.outcomes.get(name, Outcome(name, "not run", message="the run was stopped")) for name in self.nodes]

    def _in_order_of_weight(self) -> list[str]:
        behind: dict[str, set[str]] = {name: set() for name in self.nodes}
        for name in reversed(list(self.nodes)):
            for need in self.nodes[name].needs:
                behind[need] |= {name, *behind[name]}
        return sorted(self.nodes, key=lambda name: -len(behind[name]))
