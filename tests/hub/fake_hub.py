"""A hub on this machine: as much of the protocol as a download needs, and everything that can go wrong in it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c362a0625dfe45aa588dce5f0ada28a7e5707628"
LARGE = 8  # bytes from which a file is stored apart, and known by its SHA-256


@dataclass
class Repository:
    files: Mapping[str, bytes]
    commit: str = COMMIT
    token: str = ""  # that is needed
    gated: bool = False


@dataclass
class Hub:
    """What is served, what goes wrong, and what was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)  # bytes after which the next connections break
    statuses: list[int] = field(default_factory=list)  # that the next downloads are answered with
    damaged: bool = False  # a byte of every file is another
    elsewhere: str = ""  # large files are sent from this address
    ignores_ranges: bool = False
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def downloads(self) -> list[str]:
        """The ranges of the downloads so far; "" is a whole file."""
        return [
            headers.get("range", "") for method, path, headers in self.asked if "/resolve/" in path and method == "GET"
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, {key.lower(): value for key, value in self.headers.items()}))
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)/revision/(.+)", self._listing),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._file),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return answer(*found.groups())
        return self._error(404, "")

    def _listing(self, name: str, revision: str) -> None:
        repository = self._opened(name, revision)
        if repository is None:
            return
        siblings = [_entry(path, data) for path, data in repository.files.items()]
        self._answer(json.dumps({"id": name, "sha": repository.commit, "siblings": siblings}).encode(), {})

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._opened(name, revision, inside=True)
        if repository is None:
            return
        if self.hub.statuses:
            return self._error(self.hub.statuses.pop(0), "")
        if path not in repository.files:
            return self._error(404, "EntryNotFound")
        data = repository.files[path]
        headers = {
            "ETag": f'"{_digest(data)}"', "X-Repo-Commit": repository.commit, "X-Linked-ETag": f'"{_digest(data)}"',
            "X-Linked-Size": str(len(data)),
        }  # fmt: skip
        if self.hub.elsewhere:
            return self._answer(b"", headers | {"Location": f"{self.hub.elsewhere}{self.path}"}, 302)
        self._range(data[:-1] + b"?" if self.hub.damaged else data, headers)

    def _range(self, data: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or self.hub.ignores_ranges:
            return self._answer(data, headers)
        start = int(asked[1])
        self._answer(data[start:], headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, 206)

    def _opened(self, name: str, revision: str, *, inside: bool = False) -> Repository | None:
        """The repository, or an answer that it isn't to be had."""
        repository = self.hub.repositories.get(name)
        told = self.headers.get("Authorization", "")
        if repository is None or (repository.token and not told and not repository.gated):
            return self._error(401, "RepoNotFound")
        if repository.token and told and told != f"Bearer {repository.token}":
            return self._error(401, "", "Invalid credentials in Authorization header")
        if repository.gated and inside and not told:
            return self._error(401, "GatedRepo")
        if revision not in ("main", repository.commit):
            return self._error(404, "RevisionNotFound")
        return repository

    def _error(self, status: int, code: str, message: str = "") -> None:
        self._answer(b"", {"X-Error-Code": code, "X-Error-Message": message}, status)

    def _answer(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if status < 300 and "ETag" in headers and self.hub.breaks:
            self.wfile.write(data[: self.hub.breaks.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(data)


def _digest(data: bytes) -> str:
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": "0" * 40}
    if len(data) >= LARGE:
        return entry | {"lfs": {"sha256": _digest(data), "size": len(data), "pointerSize": 134}}
    return entry | {"blobId": _digest(data)}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, at an address of this machine."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
