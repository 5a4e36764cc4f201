"""An archived envelope on the disk, and the output of the verifier about it."""

import asyncio
import io
from collections.abc import AsyncIterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

from counterfoil.archives import open_backend
from counterfoil.archives.filing import conclude, store
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.cli.verify import main
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.check import check_signatures
from counterfoil.signatures.results import Signatures, State
from counterfoil.signatures.worker_pool import SignatureWorkers
from tests.support.fakes.archives import (
    a_filed_document,
    a_layout,
    a_source,
    a_spec,
    an_envelope,
    files_named,
)
from tests.support.signed_pdfs import unsigned

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


UNSIGNED = Signatures(state=State.UNSIGNED, detail="it has no signature")


async def archived(
    root: Path,
    *,
    signer: ManifestSigner | None = None,
    contents: tuple[bytes, bytes] = (unsigned("One"), unsigned("Two")),
    claims: Mapping[str, Signatures] = MappingProxyType({"Document-2": UNSIGNED}),
) -> Path:
    """File an envelope with two documents; return its folder."""
    spec = a_spec(root=str(root))
    backend, layout = (
        await open_backend("dms", spec, {}),
        a_layout(*files_named("one.pdf", "two.pdf"), spec=spec),
    )
    documents = [
        a_filed_document(each.facts, await store(backend, each, a_source(data), tags={}))
        for each, data in zip(layout.files, contents, strict=True)
    ]
    await conclude(
        backend,
        layout,
        an_envelope(),
        documents,
        archived_at=NOON,
        extra={},
        signatures=claims,
        signer=signer,
    )
    return root / layout.folder


class ExaminerInThisProcess(SignatureWorkers):
    """Examines PDFs as the real one does, whose process takes half a second to start."""

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors = NO_ANCHORS, *, source: str = ""
    ) -> Signatures:
        return check_signatures(io.BytesIO(b"".join([chunk async for chunk in chunks])))


async def verified(
    location: Path | str, *flags: str, examiner: SignatureWorkers | None = None
) -> tuple[int, str]:
    """Run it; return the exit status and what it printed."""
    out, examiner = io.StringIO(), examiner or ExaminerInThisProcess()
    status = await asyncio.to_thread(partial(main, examiner=examiner), [str(location), *flags], {}, out)
    return status, out.getvalue()
