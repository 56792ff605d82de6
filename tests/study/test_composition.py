"""What the arms consist of: plugins and settings, named in any of the ways in which they can be."""

from __future__ import annotations

from support.result_rows import row

from ofav2_plugins.study.composition import common_parts, compositions, describe, varied_parts


def arm(name, supernet, steps, **recipe):
    return {**row(name, 0), "supernet": supernet, "teacher": "fixed", "steps": steps}, recipe


def test_parts_of_an_arm_are_its_plugins_phases_and_settings():
    first, recipe = arm(
        "a", "EE_DP", ["full", "height-1", "height-2"],
        description="not a part", teacher="fixed", distillation={"name": "kl", "temperature": 4},
        augmentation=["crop_flip", {"name": "mixup", "alpha": 0.2}], evaluation={"bn_images": 64, "max_subnets": None},
        phases={"full": {"epochs": 3}, "height": [{"epochs": 1}, {"epochs": 2}]}, zero_last_gamma=True,
    )  # fmt: skip
    found = compositions([first], {"a": recipe})["a"]
    assert found == {
        "supernet": "EE_DP", "backbone": "mobilenet_v3", "branches": "conv1x1 + transform",
        "skip": "dense", "exits": "every_stage",
        "phases": "full, height", "teacher": "fixed", "distillation": "kl (temperature 4)",
        "augmentation": "crop_flip + mixup (alpha 0.2)", "evaluation.bn_images": "64", "phases.full.epochs": "3",
        "phases.height[1].epochs": "1", "phases.height[2].epochs": "2", "zero_last_gamma": "yes",
    }  # fmt: skip


def test_parts_that_differ_are_told_from_those_that_are_the_same():
    (a, first), (b, second) = (
        arm("a", "SE_B", ["full"], distillation="kl", kd_ratio=1.0),
        arm("b", "SE_B", ["full"], distillation={"name": "kl", "temperature": 2.0}, kd_ratio=1.0),
    )
    found = compositions([a, b], {"a": first, "b": second})
    assert varied_parts(found) == ["distillation"]
    assert [found[name]["distillation"] for name in "ab"] == ["kl", "kl (temperature 2.0)"]
    assert common_parts(found)["kd_ratio"] == "1.0"
    assert "distillation" not in common_parts(found)


def test_what_is_not_recorded_is_omitted():
    assert compositions([{"arm": "a"}], {}) == {"a": {}}
    foreign = compositions([{"arm": "a", "supernet": "of another version (x 1, y 2)"}], {"b": {"teacher": "ema"}})
    assert foreign == {"a": {"supernet": "of another version (x 1, y 2)"}, "b": {"teacher": "ema"}}
    assert varied_parts({}) == [] and common_parts({}) == {}


def test_plugins_and_settings_as_text():
    assert describe({"name": "kl"}) == "kl"
    assert describe([32, 40]) == "32, 40"
    assert describe([{"name": "a", "p": [1, 2]}, "b"]) == "a (p [1, 2]) + b"
    assert describe(None) == ""
    assert describe(False) == "no"
