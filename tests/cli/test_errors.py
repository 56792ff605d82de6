"""The command line when something is wrong: one line, no traceback, a non-zero exit code, nothing touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from ofav2_plugins.cli.main import main

SCRIPT = Path(sys.executable).with_name("ofav2")


@dataclass
class Finished:
    returncode: int
    stdout: str
    stderr: str

    def assert_one_line(self, *named: str) -> None:
        assert self.returncode in (1, 2)
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.stderr + self.stdout
        assert "unexpected error" not in lines[0], lines[0]
        for name in named:
            assert name in lines[0], lines[0]


def script(*arguments: object) -> Finished:
    """The console script in a process of its own."""
    done = subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def command(monkeypatch, capfd):
    """The same, called in this process: torch is imported already."""

    def call(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["ofav2", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        streams = capfd.readouterr()
        return Finished(int(caught.value.code or 0), streams.out, streams.err)

    return call


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def foreign(tmp_path) -> Path:
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    (folder / "chapters" / "1.tex").write_text("once for all")
    (folder / "results.json").write_text("{}")
    return folder


def test_help_and_version_need_no_torch():
    code = (
        "import sys\nfrom ofav2_plugins.cli import main as cli\n"
        "sys.argv = ['ofav2', sys.argv[1]]\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    code = stop.code\n"
        "heavy = {'torch', 'torchvision', 'ofa', 'lightning_fabric', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\nsys.exit(code)\n"
    )
    for option, said in (("--help", "Usage: ofav2"), ("--version", "0.")):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "[]\n")
        assert said in done.stdout


def test_the_script_on_an_unknown_option_and_command():
    script("train", "--supernet", "SE_B", "--learning-rate", 1).assert_one_line("--learning-rate", "--help")
    script("trian").assert_one_line("trian")


def test_the_script_leaves_a_foreign_folder_alone(foreign):
    before = content_of(foreign)
    script("train", "--supernet", "SE_B", "--out", foreign).assert_one_line(str(foreign), "--out")
    assert content_of(foreign) == before


def test_the_script_shows_a_traceback_only_when_asked(command):
    done = script("plan", "--supernet", "SE_X", "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr and "UserError: supernet must be one of" in done.stderr
    command("plan", "--supernet", "SE_X").assert_one_line("SE_X", "SE_DP")


def test_unknown_names_are_answered_with_the_known_ones(command, tmp_path):
    out = tmp_path / "out"
    train = ("train", "--out", out, "--supernet")
    command(*train, "XX_B").assert_one_line("XX_B", "EE_DP", "branches=")
    command(*train, "skip=denser").assert_one_line("denser", "residual")
    command(*train, "SE_B", "--dataset", "mnist").assert_one_line("'mnist'", "fashion-mini", "image-folder")
    command(*train, "SE_B", "--recipe", "quikc").assert_one_line("'quikc'", "quick", "paper")
    command(*train, "SE_B", "--teacher", "tutor").assert_one_line("'tutor'", "progressive")
    command(*train, "SE_B", "--set", "phases.full.epoch=1").assert_one_line("phases.full.epoch=1", "epochs")
    command(*train, "SE_B", "--threads", 0).assert_one_line("--threads")
    command(*train, "SE_B", "--device", "abacus").assert_one_line("abacus")
    command(*train, "SE_B", "--precision", "7-bit").assert_one_line("7-bit")
    command(*train, "SE_B", "--set", "width_mult=1e9").assert_one_line("width_mult", "100")
    command("search", out, "--out", out, "--set", "samples=9").assert_one_line("searcher or predictor", "samples=9")
    command("ablate", "qiuck", "--out", out).assert_one_line("'qiuck'", "quick")
    assert not out.exists()


def test_a_device_that_this_machine_does_not_have_is_named(command, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    command("train", "--supernet", "SE_B", "--out", tmp_path / "out", "--device", "cuda").assert_one_line("cuda", "cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset", ["image-folder", "tiny-imagenet", "cifar10", "fashion-mnist"])
def test_a_root_that_is_missing_is_named(command, tmp_path, dataset):
    train = ("train", "--supernet", "SE_B", "--out", tmp_path / "out", "--dataset", dataset)
    command(*train, "--root", tmp_path / "nowhere").assert_one_line(dataset, str(tmp_path / "nowhere"), "--root")
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_or_below_one_is_refused(command, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    for out in (file, file / "run"):
        command("train", "--supernet", "SE_B", "--out", out).assert_one_line(str(file))
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "content", ['{"kind": "train"}', '{"kind": "train", "settings": 3}', "[1]", "{", '{"model": "car"}']
)
def test_a_run_json_of_something_else_is_refused(command, foreign, content):
    (foreign / "run.json").write_text(content)
    before = content_of(foreign)
    for resume in ((), ("--resume",)):
        command("train", "--supernet", "SE_B", "--out", foreign, *resume).assert_one_line(str(foreign))
    assert content_of(foreign) == before


def test_another_run_is_refused_and_left_as_it_is(command, tmp_path, monkeypatch):
    def no_training(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ofav2_plugins.executors.serial.Serial.execute", no_training)
    out = tmp_path / "out"
    train = ("train", "--supernet", "SE_B", "--out", out)
    stopped = command(*train)
    assert stopped.returncode == 130 and "--resume" in stopped.stderr and str(out) in stopped.stderr.replace("\n", "")
    before = content_of(out)
    assert json.loads(before["run.json"])["settings"]["runs"].popitem()[1]["supernet"] == "SE_B"
    command(*train).assert_one_line(str(out), "--resume")
    for change in (("--seed", 1), ("--recipe", "proxy"), ("--set", "batch_size=9"), ("--supernet", "SE_D")):
        for resume in ((), ("--resume",)):
            command(*train, *change, *resume).assert_one_line(str(out), "another run")
    command("ablate", "quick", "--out", out, "--resume").assert_one_line(str(out), "train")
    assert content_of(out) == before
    assert command(*train, "--resume").returncode == 130  # the run itself may go on


def test_without_a_command_the_normal_workflow_is_shown(command):
    done = command()
    assert done.returncode == 0
    for name in ("train", "ablate", "watch", "search", "export"):
        assert f"ofav2 {name} " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["watch", "", "--once"], "the argument after 'watch' must not be empty"),
        (["plan", "--supernet", "SE_B", "--root="], "--root must not be empty"),
        (["report", "--out", "", "runs"], "the argument after '--out' must not be empty"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(command, call, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command(*call).assert_one_line(words, "but got ''", "shell variable")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [["--workers", "-2"], ["--workers=-2"], ["--workers", "1.5"], ["--threads=0"]])
def test_a_wrong_number_is_named(command, tmp_path, call):
    command("ablate", "quick", "--out", tmp_path / "out", *call).assert_one_line(
        call[0].partition("=")[0], f"but got {call[-1].rpartition('=')[2]!r}"
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["--set", "supernet=EE_D"], "--set must address a setting of the supernet"),
        (["--set", "dataset=cifar10"], "--set must address a setting of the dataset"),
        (["--teacher", "progressive", "--distillation", "none"], "--teacher progressive would not be used"),
        (["--phases", "full,full"], "phases must be distinct"),
    ],
)
def test_an_option_without_an_effect_is_refused(command, tmp_path, call, words):
    command("train", "--supernet", "SE_B", "--out", tmp_path / "out", *call).assert_one_line(words, "but got")
    assert not (tmp_path / "out").exists()


def test_sigterm_stops_a_command_as_ctrl_c_does(command, tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("SIGTERM is not handled"))
    try:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        done = command("watch", tmp_path)
        assert (done.returncode, done.stderr) == (130, "stopped\n")
        assert signal.getsignal(signal.SIGTERM) not in (signal.default_int_handler, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGTERM, before)
