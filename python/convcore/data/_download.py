"""Downloads from a list of mirrors, with a SHA-256 check, through pooch."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from convcore.data._catalogue import Entry


class DownloadError(OSError):
    """No mirror gave the file; the message says what each one answered."""


def mirror_urls(entry: Entry, mirrors: Sequence[str] | None) -> list[str]:
    """Return the addresses of the folders with the data set's files, in the order to try.

    Mirrors of the caller's or the environment's choice hold a folder per data set; they replace the
    built-in ones.
    """
    if isinstance(mirrors, str):
        mirrors = [mirrors]
    if mirrors is None:
        mirrors = os.environ.get("CONVCORE_MIRRORS", "").split()
    own = [f"{mirror.rstrip('/')}/{entry.name}" for mirror in mirrors]
    return own or list(entry.mirrors)


def download(entry: Entry, split: str, folder: Path, mirrors: Sequence[str] | None = None) -> None:
    """Fetch the files of a split that are not yet in `folder`.

    A file appears under its name when it is complete and its SHA-256 is right, and not before.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"load: downloading {entry.name} needs pooch, which is not installed. "
            f"Install it with: pip install 'convcore[data]'\n{by_hand(entry, folder)}"
        ) from error
    urls = mirror_urls(entry, mirrors)
    for file in entry.files[split]:
        _download_file(pooch, entry, file, folder, urls)


def _download_file(
    pooch: ModuleType, entry: Entry, file: str, folder: Path, urls: list[str]
) -> None:
    from requests.exceptions import RequestException

    # "identity": a mirror that sends .gz as an encoding would have it unpacked on the way.
    fetch = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=30,
        headers={"Accept-Encoding": "identity"},
    )
    failures = []
    for base in urls:
        url = f"{base}/{file}"
        try:
            pooch.retrieve(url, f"sha256:{entry.sha256[file]}", file, folder, downloader=fetch)
        except (RequestException, ValueError) as error:
            failures.append(f"{url}: {_reason(error)}")
            continue
        for failure in failures:
            print(f"convcore: {failure}", file=sys.stderr)
        return
    mirrors = "the mirror" if len(urls) == 1 else f"one of {len(urls)} mirrors"
    raise DownloadError(
        f"load: {entry.name} could not be downloaded: expected {file} from {mirrors}, got:\n"
        + "".join(f"  {failure}\n" for failure in failures)
        + by_hand(entry, folder)
    )


def _reason(error: Exception) -> str:
    """Say in a few words why a mirror failed; the libraries nest their messages."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}".strip()
    kinds = {
        exceptions.InvalidURL: "not an address",
        exceptions.MissingSchema: "not an address",
        exceptions.Timeout: "no answer in time",
        exceptions.ProxyError: "the proxy does not let through",
        exceptions.SSLError: "no secure connection",
        exceptions.ChunkedEncodingError: "the connection broke",
        exceptions.ConnectionError: "no connection",
    }
    for kind, reason in kinds.items():
        if isinstance(error, kind):
            return reason
    sums = re.search(r"expected (?:sha256:)?(\w{64}) but got (\w{64})", str(error))
    if sums is not None:
        return f"another content: expected SHA-256 {sums[1]}, got {sums[2]}"
    return str(error)


def by_hand(entry: Entry, folder: Path) -> str:
    """Say how a person gets the files without this module."""
    files = sorted({file for names in entry.files.values() for file in names})
    them = "it" if len(files) == 1 else "them"
    return (
        f"To do it by hand, get {', '.join(files)} (published at {entry.mirrors[0]}/)\n"
        f"and put {them} into {folder},\n"
        f"or into any folder and name that with data_dir (on the command line: --data-dir)\n"
        f"or in the environment variable CONVCORE_DATA. CONVCORE_MIRRORS names other mirrors."
    )
