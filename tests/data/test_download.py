"""Downloads, from a server on this machine."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from convcore import data
from convcore.data._catalogue import CATALOGUE
from data_files import mnist_files, write

pytest.importorskip("pooch", reason="pooch is not installed")

FILES, ARRAYS = mnist_files()
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


class Server(ThreadingHTTPServer):
    """Serves `pages` (path -> content) and keeps a list of what was asked for."""

    def __init__(self):
        self.pages, self.asked = {}, []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.pages.get(self.path)
        self.send_response(404 if content is None else 200)
        if self.path.startswith("/cut/"):  # promises more than it sends
            self.send_header("Content-Length", str(len(content) + 100))
        else:
            self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def dead_url():
    """Give the address of a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _known_sums(monkeypatch):
    """Let the catalogue know the small files, and no mirror outside this machine."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    entry = replace(CATALOGUE["mnist"], sha256=sums, mirrors=("http://127.0.0.1:9/mnist",))
    monkeypatch.setitem(CATALOGUE, "mnist", entry)


def serve(server, prefix="", files=FILES):
    """Let the server have `files` below `prefix`; return that mirror's address."""
    server.pages.update({f"{prefix}/mnist/{name}": content for name, content in files.items()})
    return server.url + prefix


def names(folder):
    """Return the names of all that lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_download_gives_the_data_and_keeps_the_files(server, cache):
    mirror = serve(server)
    images, labels = data.load_uint8("mnist", "test", mirrors=[mirror])
    np.testing.assert_array_equal(images[:, 0], ARRAYS["test"][0])
    np.testing.assert_array_equal(labels, ARRAYS["test"][1])
    assert names(cache / "mnist") == [IMAGES, LABELS]
    assert server.asked == [f"/mnist/{IMAGES}", f"/mnist/{LABELS}"]
    # The second time nothing is asked for.
    data.load_uint8("mnist", "test", mirrors=[mirror])
    data.load_uint8("mnist", "test", download=False)
    assert len(server.asked) == 2


def test_download_uses_the_built_in_mirrors(server, monkeypatch, cache):
    serve(server)
    entry = replace(CATALOGUE["mnist"], mirrors=(f"{server.url}/mnist",))
    monkeypatch.setitem(CATALOGUE, "mnist", entry)
    assert len(data.load("mnist", "train")) == 7


def test_download_mirrors_from_the_environment(server, monkeypatch, dead_url):
    serve(server, "/b")
    monkeypatch.setenv("CONVCORE_MIRRORS", f"{dead_url} {server.url}/b/")
    assert len(data.load("mnist", "test")) == 7
    assert server.asked == [f"/b/mnist/{IMAGES}", f"/b/mnist/{LABELS}"]


def test_download_one_mirror_as_a_string(server):
    assert len(data.load("mnist", "test", mirrors=serve(server))) == 7


def test_download_fetches_only_what_is_missing(server, cache):
    write(cache / "mnist", {IMAGES: FILES[IMAGES]})
    data.load_uint8("mnist", "test", mirrors=[serve(server)])
    assert server.asked == [f"/mnist/{LABELS}"]


def test_download_not_asked_for(server):
    serve(server)
    with pytest.raises(FileNotFoundError, match="mnist was not found"):
        data.load_uint8("mnist", "test", download=False, mirrors=[server.url])
    assert server.asked == []


def test_download_local_files_win(server, tmp_path):
    folder = write(tmp_path / "own", FILES)
    data.load_uint8("mnist", "test", data_dir=folder, mirrors=[serve(server)])
    assert server.asked == []


def test_download_not_when_a_folder_is_named(server, tmp_path):
    folder = write(tmp_path / "own", {IMAGES: FILES[IMAGES]})
    with pytest.raises(FileNotFoundError) as caught:
        data.load_uint8("mnist", "test", data_dir=folder, mirrors=[serve(server)])
    message = str(caught.value)
    assert f"  {folder}: missing t10k-labels-idx1-ubyte[.gz]\n" in message
    assert "Without data_dir (--data-dir) they are downloaded.\nTo do it by hand, get" in message
    assert f"put them into {folder}," in message
    assert server.asked == []


def test_download_404_then_the_next_mirror(server, cache, capfd):
    mirror = serve(server, "/b")
    data.load_uint8("mnist", "test", mirrors=[f"{server.url}/a", mirror])
    assert server.asked == [f"/{m}/mnist/{name}" for name in (IMAGES, LABELS) for m in "ab"]
    assert names(cache / "mnist") == [IMAGES, LABELS]
    out, err = capfd.readouterr()
    assert out == ""  # messages and progress go to stderr
    assert f"{server.url}/a/mnist/{IMAGES}: 404" in err


@pytest.mark.parametrize("damage", ["other", "short", "cut"])
def test_download_wrong_content_then_the_next_mirror(server, cache, damage):
    content = {"other": b"<html>no</html>", "short": FILES[IMAGES][:-1], "cut": FILES[IMAGES]}[
        damage
    ]
    first = serve(server, f"/{damage}", {IMAGES: content, LABELS: FILES[LABELS]})
    images, _ = data.load_uint8("mnist", "test", mirrors=[first, serve(server, "/good")])
    np.testing.assert_array_equal(images[:, 0], ARRAYS["test"][0])
    assert names(cache / "mnist") == [IMAGES, LABELS]
    assert f"/good/mnist/{IMAGES}" in server.asked


def test_download_wrong_check_sum_leaves_no_file(server, cache):
    mirror = serve(server, files={IMAGES: b"<html>not found</html>"})
    with pytest.raises(data.DownloadError) as caught:
        data.load_uint8("mnist", "test", mirrors=[mirror])
    message = str(caught.value)
    want = hashlib.sha256(FILES[IMAGES]).hexdigest()
    got = hashlib.sha256(b"<html>not found</html>").hexdigest()
    assert message.splitlines()[:2] == [
        f"load: mnist could not be downloaded: expected {IMAGES} from the mirror, got:",
        f"  {mirror}/mnist/{IMAGES}: another content: expected SHA-256 {want}, got {got}",
    ]
    assert names(cache / "mnist") == []


def test_download_all_mirrors_fail_says_what_to_do(server, cache, dead_url, capfd):
    with pytest.raises(data.DownloadError) as caught:
        data.load("mnist", "test", mirrors=[server.url, dead_url])
    message = str(caught.value)
    assert message.splitlines()[:3] == [
        f"load: mnist could not be downloaded: expected {IMAGES} from one of 2 mirrors, got:",
        f"  {server.url}/mnist/{IMAGES}: 404 Not Found",
        f"  {dead_url}/mnist/{IMAGES}: no connection",
    ]
    assert "404" not in capfd.readouterr().err  # the error says it
    assert (
        "To do it by hand, get t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, train-"
        in message
    )
    assert f"put them into {cache / 'mnist'}" in message
    assert "CONVCORE_DATA" in message
    assert isinstance(caught.value, OSError)
    assert names(cache / "mnist") == []


def test_download_bad_address(cache):
    with pytest.raises(data.DownloadError, match=r"no address/mnist/.*: not an address\n"):
        data.load("mnist", "test", mirrors=["no address"])


def test_download_into_a_folder_that_cannot_be_made(server, cache):
    write(cache.parent, {cache.name: b"a file"})
    with pytest.raises(OSError, match=re.escape(str(cache))):
        data.load("mnist", "test", mirrors=[serve(server)])


def test_download_without_pooch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'convcore[data]'")):
        data.load("mnist", "test")


def test_download_cifar10_archive(server, cache, monkeypatch):
    content = b"not an archive, but the right check sum"
    name = "cifar-10-binary.tar.gz"
    sums = {name: hashlib.sha256(content).hexdigest()}
    monkeypatch.setitem(CATALOGUE, "cifar10", replace(CATALOGUE["cifar10"], sha256=sums))
    server.pages[f"/cifar10/{name}"] = content
    with pytest.raises(ValueError, match=r"expected a complete tar\.gz archive"):
        data.load("cifar10", "test", mirrors=[server.url])
    assert names(cache / "cifar10") == [name]


def test_catalogue_has_a_check_sum_and_a_mirror_for_each_file():
    for entry in CATALOGUE.values():
        files = {file for split in entry.files.values() for file in split}
        assert files == set(entry.sha256)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in entry.sha256.values())
        assert bool(files) == bool(entry.mirrors)
