"""
The XML API of S3, which Google Cloud Storage has too: uploads in parts, and lists.
"""

import base64
import re
from abc import abstractmethod
from collections.abc import Mapping
from html import escape

from counterfoil.archives.backends._object_store.backend import PAGE, ObjectStoreBackend, list_page
from counterfoil.archives.backends._object_store.client import Content, StoreRequest, sha256_of
from counterfoil.archives.backends._object_store.listing import ListUnreadable, checked_marker

CHECKSUM = "x-amz-checksum-sha256"


class XmlApiBackend(ObjectStoreBackend):
    """A bucket behind the XML API."""

    @property
    @abstractmethod
    def _sends_checksums(self) -> bool:
        """Whether each object and part has its SHA-256 in a header."""

    async def _put_whole(self, path: str, content: Content, headers: Mapping[str, str]) -> None:
        sent = {**headers, **await self._checksum(content)}
        await self._expect_success(StoreRequest("PUT", path, headers=sent, content=content))

    async def _begin_upload(self, path: str, headers: Mapping[str, str]) -> str:
        sent = {**headers, **({"x-amz-checksum-algorithm": "SHA256"} if self._sends_checksums else {})}
        answer = await self._expect_success(StoreRequest("POST", path, {"uploads": ""}, sent))
        found = re.search(rb"<UploadId>([^<&]{1,2048})</UploadId>", answer.body)
        if found is None:
            raise self._client.unreadable()
        return found[1].decode("utf-8", "replace")

    async def _put_part(self, path: str, upload: str, number: int, content: Content) -> str:
        checksum = await self._checksum(content)
        query = {"partNumber": str(number), "uploadId": upload}
        answer = await self._expect_success(StoreRequest("PUT", path, query, checksum, content))
        etag = answer.headers.get("ETag")
        if etag is None or len(etag) > 1024:
            raise self._client.unreadable()
        known = "".join(f"<ChecksumSHA256>{each}</ChecksumSHA256>" for each in checksum.values())
        return (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag, quote=False)}</ETag>{known}</Part>"
        )

    async def _complete_upload(
        self, path: str, upload: str, parts: list[str], headers: Mapping[str, str]
    ) -> None:
        content = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        await self._expect_success(
            StoreRequest("POST", path, {"uploadId": upload}, {"Content-Type": "application/xml"}, content)
        )

    async def _abort_upload(self, path: str, upload: str) -> None:
        await self._client.request(StoreRequest("DELETE", path, {"uploadId": upload}))

    def _list_query(self, prefix: str, marker: str | None) -> dict[str, str]:
        query = {"list-type": "2", "max-keys": str(PAGE), "prefix": prefix}
        return query if marker is None else {**query, "continuation-token": marker}

    def _read_list(self, content: bytes) -> tuple[list[tuple[str, int | None]], str | None]:
        page, keys = list_page(content, "Contents", "Key", "Size", "NextContinuationToken")
        if page.rest.get("IsTruncated") not in ("true", "false"):
            raise ListUnreadable("it does not say whether it is whole")
        if page.rest["IsTruncated"] == "false":
            return keys, None
        marker = checked_marker(page.rest.get("NextContinuationToken"))
        if marker is None:
            raise ListUnreadable("it does not say where it continues")
        return keys, marker

    async def _checksum(self, content: Content) -> dict[str, str]:
        if not self._sends_checksums:
            return {}
        return {CHECKSUM: base64.b64encode(await sha256_of(content)).decode()}
