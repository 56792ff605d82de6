from pathlib import Path
from urllib.error import ContentTooShortError, URLError

from case_tools import web_server
from ofa.utils import download_url

SYMPTOM = r"FileNotFoundError|NotADirectoryError"


def run(folder: Path) -> None:
    target = str(folder / "models")
    try:
        download_url("http://127.0.0.1:9/file", target)
    except URLError as error:
        assert "refused" in str(error)
    try:
        with web_server(b"half of", announced=20) as url:
            download_url(url, target)
    except ContentTooShortError:
        pass
    with web_server(b"all of it") as url:
        path = download_url(url, target)
    assert Path(path or "").read_bytes() == b"all of it"
    assert download_url("http://127.0.0.1:9/file", target) == path  # from the cache
