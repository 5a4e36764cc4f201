"""A minimal client of a language server: renames a symbol and returns the edits."""

import json
import subprocess
import threading
from pathlib import Path
from queue import Queue
from urllib.parse import unquote, urlparse


class Server:
    """basedpyright over stdio, one project."""

    def __init__(self, program: str, root: Path) -> None:
        self.root = root
        self.process = subprocess.Popen([program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.number = 0
        self.answers: dict[int, Queue] = {}
        threading.Thread(target=self._read, daemon=True).start()
        self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": root.as_uri(),
                "workspaceFolders": [{"uri": root.as_uri(), "name": "r"}],
                "capabilities": {"workspace": {"configuration": True, "workspaceFolders": True}},
            },
        )
        self.send("initialized", {})

    def _write(self, message: dict) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def _read(self) -> None:
        while True:
            length = 0
            while (line := self.process.stdout.readline().strip()):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if not length:
                return
            message = json.loads(self.process.stdout.read(length))
            if "method" in message:
                if "id" in message:
                    result = None
                    if message["method"] == "workspace/configuration":
                        result = [{} for _ in message["params"]["items"]]
                    self._write({"id": message["id"], "result": result})
            elif message["id"] in self.answers:
                self.answers[message["id"]].put(message)

    def send(self, method: str, params: dict) -> None:
        self._write({"method": method, "params": params})

    def request(self, method: str, params: dict):
        self.number += 1
        self.answers[self.number] = Queue()
        self._write({"id": self.number, "method": method, "params": params})
        message = self.answers.pop(self.number).get(timeout=600)if False else self.answers[self.number].get(timeout=900)
        if "error" in message:
            raise RuntimeError(message["error"]["message"])
        return message["result"]

    def open(self, path: Path) -> None:
        self.send("textDocument/didOpen", {"textDocument": {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": path.read_text()}})

    def rename(self, path: Path, line: int, character: int, new: str) -> list[tuple[Path, int, int, int]]:
        """Return (path, line, start, end) of each place, 0-based."""
        result = self.request(
            "textDocument/rename",
            {"textDocument": {"uri": path.as_uri()}, "position": {"line": line, "character": character}, "newName": new},
        )
        found = []
        if not result:
            return found
        changes = result.get("changes") or {}
        for document in result.get("documentChanges") or []:
            changes.setdefault(document["textDocument"]["uri"], []).extend(document["edits"])
        for uri, edits in changes.items():
            where = Path(unquote(urlparse(uri).path))
            for edit in edits:
                start, end = edit["range"]["start"], edit["range"]["end"]
                found.append((where, start["line"], start["character"], end["character"]))
        return found
