"""
A CMIS 1.1 repository in memory, as far as the archive kind ``cmis`` uses the browser binding.

The standard does not say whether a folder may have two objects of the same name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from aiohttp import web

REPOSITORY = "A1"


class Names(StrEnum):
    """Treatment of a second object of the same name in a folder."""

    UNIQUE = "refused"
    EQUAL = "accepted"
    NUMBERED = "accepted under another name"


@dataclass
class Node:
    """An object of the repository; a folder has no content."""

    name: str
    content: bytes | None = None
    children: list["Node"] = field(default_factory=list)

    def properties(self, *, has_length: bool) -> dict[str, object]:
        kind = "cmis:folder" if self.content is None else "cmis:document"
        is_stream = has_length and self.content is not None
        size = {"cmis:contentStreamLength": len(self.content or b"")} if is_stream else {}
        return {"cmis:name": self.name, "cmis:baseTypeId": kind, **size}


@dataclass
class CmisRepositoryServer:
    """A running repository. ``actions`` are those that were asked for, in order; ``children_answer`` replaces
    each list of a folder."""

    names: Names
    root: Node = field(default_factory=lambda: Node("root"))
    url: str = ""
    actions: list[str] = field(default_factory=list)
    children_answer: dict[str, object] | None = None
    has_lengths: bool = True
    """Whether documents have the property of their length, which one without content has not."""
    folder_seconds: float = 0.0
    """Time between the check of a new folder's name and its creation: it is no single step."""

    def objects(self, folder: str = "") -> list[tuple[str, bytes | None]]:
        """Names and contents of the objects in a folder, in the order in which they were made."""
        found = self._find([part for part in folder.split("/") if part])
        return [(each.name, each.content) for each in found[-1].children] if found else []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path = [unquote(part) for part in request.rel_url.raw_path.split("/") if part]
        if path == ["browser"]:
            home = {
                "rootFolderUrl": f"{self.url}/{REPOSITORY}/root",
                "repositoryUrl": f"{self.url}/{REPOSITORY}",
            }
            return web.json_response({REPOSITORY: home})
        if path == ["browser", REPOSITORY]:
            return web.json_response({"id": "cmis:document", "versionable": False})
        found = self._find(path[3:])
        if not found:
            return _exception(404, "objectNotFound")
        if request.method == "POST":
            return await self._act(found, await _form(request))
        selector = request.query.get("cmisselector", "")
        if selector == "children" and self.children_answer is not None:
            return web.json_response(self.children_answer)
        return self._selected(found[-1], selector)

    def _find(self, parts: list[str]) -> list[Node]:
        """Return the objects along a path; empty when there is none at its end."""
        found = [self.root]
        for part in parts:
            child = next((each for each in found[-1].children if each.name == part), None)
            if child is None:
                return []
            found.append(child)
        return found

    async def _act(self, found: list[Node], form: dict[str, bytes]) -> web.StreamResponse:
        action, node = form["cmisaction"].decode(), found[-1]
        self.actions.append(action)
        if action == "delete":
            found[-2].children.remove(node)
            return web.Response()
        name = form["propertyValue[0]"].decode()
        siblings = found[-2].children if action == "update" else node.children
        if any(each.name == name and each is not node for each in siblings):
            if self.names is Names.UNIQUE:
                return _exception(409, "nameConstraintViolation")
            name += " (1)" if self.names is Names.NUMBERED else ""
        if action == "update":
            node.name = name
        else:
            if action == "createFolder":
                await asyncio.sleep(self.folder_seconds)
            node = Node(name, form.get("content"))
            siblings.append(node)
        return web.json_response(self._properties(node), status=201)

    def _selected(self, node: Node, selector: str) -> web.StreamResponse:
        if selector == "content":
            return _exception(409, "constraint") if node.content is None else web.Response(body=node.content)
        if selector == "children":
            objects = [{"object": self._properties(each)} for each in node.children]
            return web.json_response({"objects": objects, "hasMoreItems": False})
        return web.json_response(self._properties(node))

    def _properties(self, node: Node) -> dict[str, object]:
        return {"succinctProperties": node.properties(has_length=self.has_lengths)}


def _exception(status: int, name: str) -> web.StreamResponse:
    return web.json_response({"exception": name, "message": "refused"}, status=status)


async def _form(request: web.Request) -> dict[str, bytes]:
    if not request.content_type.startswith("multipart/"):
        return {key: str(value).encode() for key, value in (await request.post()).items()}
    fields: dict[str, bytes] = {}
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        fields[part.name or ""] = bytes(await part.read())  # type: ignore[union-attr]
    return fields


@asynccontextmanager
async def cmis_repository(names: Names) -> AsyncIterator[CmisRepositoryServer]:
    """Run a repository."""
    repository = CmisRepositoryServer(names)
    runner = web.ServerRunner(web.Server(repository.serve, access_log=None), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    repository.url = f"http://127.0.0.1:{runner.addresses[0][1]}/browser"
    try:
        yield repository
    finally:
        await runner.cleanup()
