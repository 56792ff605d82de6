import contextlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import gdown
from case_tools import web_server
from ofa.model_zoo import ofa_net

SYMPTOM = r"FileNotFoundError.*\.torch/ofa_nets"


def run(_: Path) -> None:
    download = gdown.download
    with web_server(b"not a checkpoint") as url:

        def from_here(drive_url: str, *args: Any, **kwargs: Any) -> Any:
            assert drive_url.startswith("https://drive.google.com/")
            return download(url, *args, **kwargs)

        gdown.download = from_here  # type: ignore[assignment]
        with contextlib.suppress(UnpicklingError):  # the file has arrived; it is no network
            ofa_net("ofa_resnet50")
    (file,) = Path(".torch/ofa_nets").iterdir()
    assert file.read_bytes() == b"not a checkpoint"
