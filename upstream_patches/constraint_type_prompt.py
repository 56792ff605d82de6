"""The tutorial's search prompts for a valid constraint type, then looks up the invalid one.

Symptom: KeyError in `EvolutionFinder("wrong", ...)` after the user has typed a valid type at the prompt.
Upstream: ofa/tutorial/evolution_finder.py, lines 72-73.
Affects: ofa 0.1.0.post202307202001, every torch.
Drop when: the range is looked up by `self.constraint_type`.
"""

from types import ModuleType

from ._support import Defect, edit

_OLD = "self.valid_constraint_range[constraint_type]"
_defect = Defect("ofa.tutorial.evolution_finder", _OLD)


def needed() -> bool:
    return _defect.present()


def apply() -> None:
    _defect.repair(_use_answer)


def _use_answer(module: ModuleType) -> None:
    edit(module.EvolutionFinder.__init__, (_OLD, "self.valid_constraint_range[self.constraint_type]"))
