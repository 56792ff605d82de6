"""Studies: what an arm says holds, what would break the pairing is refused, a changed study is another run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.study_samples import RECIPE, STUDY

from ofav2_plugins import registry
from ofav2_plugins.augmentation.crop_flip import CropFlip
from ofav2_plugins.cli.main import main
from ofav2_plugins.data.batches import calibration_batches
from ofav2_plugins.errors import UserError
from ofav2_plugins.execution.training_run import TrainingRun
from ofav2_plugins.execution.trial import IMAGES as TRIAL_IMAGES
from ofav2_plugins.recipes.schema import load_recipe
from ofav2_plugins.study.schema import load_study, study_arms, study_names
from ofav2_plugins.teachers.progressive import Progressive
from ofav2_plugins.training.run_config import RunConfig
from ofav2_plugins.utils.distributed import make_fabric


def test_an_arm_keeps_the_recipes_teacher_unless_it_names_one(study):
    assert [arm.recipe.teacher for arm in study_arms(load_study(str(study)))] == ["fixed", "progressive"]


def test_an_arm_may_have_exit_weights_of_its_own(study):
    for value, loss, output in (("MIX", "DESC", "ASC"), ("{loss: [1, 2, 3, 4, 5]}", [1, 2, 3, 4, 5], "ASC")):
        study.write_text(STUDY.replace("SE_D}", f"EE_D, exit_weights: {value}}}"))
        weights = [arm.recipe.exit_weights for arm in study_arms(load_study(str(study)))]
        assert (weights[0].loss, weights[1].loss, weights[1].output) == ("ASC", loss, output)
    with pytest.raises(UserError, match=r"would undo .exit_weights"):
        study_arms(load_study(str(study)), ["exit_weights.output=UNIF"])
    study.write_text(STUDY.replace("SE_D}", "EE_D, exit_weights: BEST}"))
    with pytest.raises(UserError, match=r"arm 'b': .*exit_weights.*must be one of"):
        study_arms(load_study(str(study)))


def test_what_would_undo_an_arm_or_the_pairing_is_refused(study):
    loaded = load_study(str(study))
    with pytest.raises(UserError, match="arm 'a': --set 'teacher=none' would undo 'teacher=fixed'"):
        study_arms(loaded, ["teacher=none"])
    assert study_arms(loaded, ["kd_ratio=0.5"])[1].recipe.kd_ratio == 0.5
    study.write_text(STUDY.replace("SE_D}", "SE_D, overrides: ['validation_fraction=0.5']}"))
    with pytest.raises(UserError, match="one validation_fraction"):
        study_arms(load_study(str(study)))


def test_a_teacher_that_an_arm_would_not_use_is_refused(study):
    study.write_text(STUDY.replace("SE_D}", "SE_D, teacher: progressive, distillation: none}"))
    with pytest.raises(UserError, match=r"arm 'b': its teacher progressive would not be used.* but got none"):
        study_arms(load_study(str(study)))
    study.write_text(STUDY.replace("SE_D}", "SE_D, teacher: none, distillation: none}"))
    assert study_arms(load_study(str(study)))[1].recipe.teacher == "none"


def test_a_changed_recipe_is_another_run_and_results_come_step_by_step(study, tmp_path):
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--out", str(out), "--threads", "1"]
    stopped = subprocess.Popen(ablate, stdout=subprocess.PIPE, text=True)
    for line in stopped.stdout:
        if line.startswith("a: full"):
            stopped.terminate()
    stopped.wait()
    [row] = json.loads((out / "results.json").read_text())["rows"]
    assert (row["arm"], row["phases"][0]["name"]) == ("a", "full")
    before = (out / "results.json").read_bytes()
    (study.parent / "mine.yaml").write_text(RECIPE.replace("lr: 0.05", "lr: 0.5"))
    refused = subprocess.run([*ablate, "--resume"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "another run: runs.a (seed 0).recipe.phases.full.lr was 0.05, but got 0.5" in refused.stderr
    assert (out / "results.json").read_bytes() == before
    (study.parent / "mine.yaml").write_text(RECIPE)
    assert subprocess.run([*ablate, "--resume"], capture_output=True).returncode == 0
    results = json.loads((out / "results.json").read_text())
    assert results["study"]["name"] == "study"
    assert [row["arm"] for row in results["rows"]] == ["a", "b"]


def test_an_arm_that_fails_is_reported_and_the_others_go_on(study, tmp_path):
    for workers in ("1", "2"):
        out = tmp_path / f"out{workers}"
        study.write_text(
            STUDY.replace("SE_B, teacher: fixed}", "SE_B, teacher: fixed, overrides: [phases.full.lr=1e30]}")
        )
        ablate = ["ablate", str(study), "--out", str(out), "--threads", "1", "--workers", workers]
        done = subprocess.run([sys.executable, "-m", "ofav2_plugins", *ablate], capture_output=True, text=True)
        assert done.returncode == 1
        assert "1 of 2 arms failed" in done.stderr and "Traceback" not in done.stderr
        failed, finished = json.loads((out / "results.json").read_text())["rows"]
        assert "lower the learning rate" in failed["error"] and failed["phases"] == []
        assert [phase["name"] for phase in finished["phases"]] == ["full", "kernel"]
        assert "lower the learning rate" in (out / "report.html").read_text()


class Strange(Exception):
    def __str__(self):
        raise RuntimeError("not even words")


@pytest.mark.parametrize("error", [SystemExit(0), Strange(), ValueError("in [/red] and [bold]")])
def test_whatever_a_plugin_raises_ends_one_arm_and_is_kept(study, tmp_path, monkeypatch, capsys, error):
    def loss(_, student_logits, teacher_logits):
        if len(student_logits) > TRIAL_IMAGES:  # the trial before the work passes
            raise error
        return student_logits.mean()

    monkeypatch.setattr("ofav2_plugins.distillation.soft_ce.SoftCrossEntropy.loss", loss)
    study.write_text(STUDY.replace("SE_D}", "SE_D, distillation: none}"))
    arguments = ["ofav2", "ablate", str(study), "--out", str(tmp_path / "out"), "--threads", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    failed, finished = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert failed["phases"][0]["name"] == "full" and type(error).__name__ in failed["error"]
    assert "Traceback" in (tmp_path / "out" / "logs" / "a-0.txt").read_text()
    assert len(finished["phases"]) == 2 and "error" not in finished
    assert "[/red]" in capsys.readouterr().out or not isinstance(error, ValueError)


def test_results_of_another_version_stay_as_they_are(study, tmp_path):
    out = tmp_path / "out"
    ablate = [sys.executable, "-m", "ofav2_plugins", "ablate", str(study), "--out", str(out), "--threads", "1"]
    assert subprocess.run(ablate, capture_output=True).returncode == 0
    other = json.dumps({**json.loads((out / "results.json").read_text()), "format": "ofav2-results-7"})
    (out / "results.json").write_text(other)
    refused = subprocess.run([*ablate, "--resume"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "another version of ofav2-plugins has written it" in refused.stderr
    assert (out / "results.json").read_text() == other


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: b", "name: a", "'a' is used more than once"),
        ("baseline: a", "baseline: c", "baseline must be one of the arms"),
        ("baseline: a\n", "", "baseline"),
        ("SE_D", "SE_Q", "arms.1.supernet"),
        ("teacher: fixed", "teacher: strict", "arm 'a'"),
        ("teacher: fixed", "teacher: fixed, distillation: hot", "arm 'a'"),
        ("mine.yaml", "yours.yaml", "yours.yaml"),
        ("dataset: fashion-mini", "dataset: fashion-maxi", "fashion-maxi"),
    ],
)
def test_a_wrong_study_is_refused_before_anything_is_made(study, tmp_path, old, new, words):
    assert old in STUDY
    study.write_text(STUDY.replace(old, new))
    ablate = ["ablate", str(study), "--out", str(tmp_path / "out")]
    refused = subprocess.run([sys.executable, "-m", "ofav2_plugins", *ablate], capture_output=True, text=True)
    assert refused.returncode == 1
    assert words in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


def test_an_arm_may_have_fewer_seeds(study):
    study.write_text(STUDY.replace("SE_D}", "SE_D, seeds: [1]}") + "seeds: [0, 1]\n")
    assert [(arm.name, arm.seed) for arm in study_arms(load_study(str(study)))] == [("a", 0), ("a", 1), ("b", 1)]
    study.write_text(STUDY.replace("SE_D}", "SE_D, seeds: [2]}") + "seeds: [0, 1]\n")
    with pytest.raises(UserError, match="seeds must be among"):
        load_study(str(study))


@pytest.mark.parametrize("name", study_names())
def test_studies_that_ship_are_valid(name):
    arms = study_arms(load_study(name))
    assert len({(arm.name, arm.seed) for arm in arms}) == len(arms)


def test_the_paper_study_has_every_published_row_at_both_widths():
    arms = study_arms(load_study("paper"))
    supernets = [f"{exits}_{rest}" for exits in ("SE", "EE") for rest in ("B", "D", "P", "DP")]
    rows = {(arm.supernet, arm.recipe.teacher, arm.recipe.width_mult) for arm in arms}
    assert rows == {(s, t, w) for s in supernets for t in ("fixed", "progressive") for w in (1.0, 1.2)}
    assert len(arms) == 32
    paper = load_recipe("paper").model_dump(exclude={"teacher", "width_mult"})
    assert all(arm.recipe.model_dump(exclude={"teacher", "width_mult"}) == paper for arm in arms)


class Sharp(Progressive):
    """A teacher with logits of its own."""

    def logits(self, images):
        return 2 * super().logits(images)


def test_arms_share_steps_only_where_the_teaching_is_the_same(data, monkeypatch, tmp_path):
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda space, name: Sharp() if name == "sharp" else load(space, name))
    folders = {}
    for teacher in ("fixed", "progressive", "sharp"):
        recipe = load_recipe("quick", [f"teacher={teacher}"])
        folders[teacher] = TrainingRun(
            RunConfig(teacher, "EE_B", recipe, 0), data, tmp_path, make_fabric("cpu")
        ).folders
    assert folders["fixed"]["full"] == folders["progressive"]["full"] == folders["sharp"]["full"]
    assert folders["fixed"]["kernel"] == folders["progressive"]["kernel"] != folders["sharp"]["kernel"]
    assert folders["fixed"]["height-1"] != folders["progressive"]["height-1"]


def test_wrong_exit_weights_and_settings_are_found_before_the_folder_is_taken(tmp_path):
    train = [sys.executable, "-m", "ofav2_plugins", "train", "--out", str(tmp_path / "out"), "--set"]
    for override, words in (
        ("exit_weights={loss: [0.5, 0.5]}", "5 numbers"),
        ("phases={height: [{epochs: 1}]}", "must list 4 steps"),
    ):
        done = subprocess.run([*train, override, "--supernet", "EE_D"], capture_output=True, text=True)
        assert done.returncode == 1
        assert words in done.stderr
        assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_an_arm_names_it(study, tmp_path):
    study.write_text(STUDY.replace("SE_D}", "EE_D, overrides: ['exit_weights={loss: [0.5, 0.5]}']}"))
    ablate = ["ablate", str(study), "--out", str(tmp_path / "out")]
    refused = subprocess.run([sys.executable, "-m", "ofav2_plugins", *ablate], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "arm 'b'" in refused.stderr and "5 numbers" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_distillation_that_needs_no_teacher_has_none(data, tmp_path):
    folders, works = [], []
    for teacher in ("none", "progressive"):
        recipe = load_recipe("quick", [f"teacher={teacher}", "distillation=none"])
        run = TrainingRun(RunConfig(teacher, "SE_B", recipe, 0), data, tmp_path, make_fabric("cpu"))
        assert {planned.teacher for planned in run.plan} == {None}
        folders.append(run.folders)
        works.append(run.work())
    assert folders[0] == folders[1] and works[0] == works[1]


def test_calibration_batches_are_of_one_size_and_augmented_as_the_recipe_says(data):
    batches = calibration_batches(data, 16, 256, 250, seed=0, augmentations=[CropFlip(1.0, False)])
    assert [len(batch) for batch in batches] == [128, 128]
    mirrored = calibration_batches(data, 16, 256, 250, seed=0, augmentations=[CropFlip(1.0, True)])
    same = [(a == b).all().item() for a, b in zip(batches[0], mirrored[0], strict=True)]
    assert 0.3 < sum(same) / len(same) < 0.7
