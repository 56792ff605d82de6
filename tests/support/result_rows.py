"""Small rows of results, for the tests of a study's statistics."""

from __future__ import annotations


def row(arm, seed, *left, **phases):
    """A row whose phases have these best accuracies, and which steps are left; "_" in a name stands for "-"."""
    listed = [{"name": name.replace("_", "-"), "best_top1": top1} for name, top1 in phases.items()]
    return {"arm": arm, "seed": seed, "steps": [*(entry["name"] for entry in listed), *left], "phases": listed}


def subnet(top1, *, height=None, validation=None, macs=1, resolution=32, ensemble=False, **arch):
    """A measured subnet; its validation accuracy is the test accuracy if it is not given."""
    entries = {"ks": [3] * 20, "e": [6] * 20, "d": [4] * 5, **arch}
    if height is not None:
        entries["height"] = height
    return {
        "arch": entries, "resolution": resolution, "ensemble": ensemble, "macs": macs, "params": macs,
        "top1": top1, "val_top1": top1 if validation is None else validation,
    }  # fmt: skip


def with_subnets(arm, seed, name, subnets, **more):
    """A row of one finished phase with these subnets."""
    return {**row(arm, seed), "steps": [name], "phases": [{"name": name, "best_top1": 1.0, "subnets": subnets, **more}]}


def results(*rows, baseline="base", **study):
    """The content of results.json with these rows."""
    return {"study": {"baseline": baseline, **study}, "rows": list(rows)}
