"""Drives the server with the client that openapi-python-client generated. See `run`."""

import io
import sys
import time

sys.path.insert(0, ".")

from generated import AuthenticatedClient, Client
from generated.api.batches import cancel_batch, get_batch, list_batches, list_uploads
from generated.api.operation import dump, health, status
from generated.api.resumable_uploads import (
    append_to_resumable_upload,
    create_resumable_upload,
    get_resumable_upload,
    resumable_upload_offset,
)
from generated.api.search import search
from generated.api.uploads import delete_upload, get_original, get_thumbnail, get_upload, submit_batch
from generated.models import Batch, Facts, Files, Found, Refusal, ResumableUpload, Submitted, Upload
from generated.types import File

# A red picture of 16 by 16 pixels, as BMP.
RED = b"BM" + (54 + 768).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
RED += (40).to_bytes(4, "little") + (16).to_bytes(4, "little") * 2 + b"\x01\0\x18\0" + bytes(24)
RED += b"\x1e\x14\xc8" * 256


def main(url, key):
    client = AuthenticatedClient(base_url=url, token=key)
    assert health.sync(client=client).status == "ok"
    refused = get_upload.sync(client=Client(base_url=url), id="0190f2a0-0000-7000-8000-000000000000")
    assert isinstance(refused, Refusal) and refused.type_ == "unauthorized", refused

    files = [File(io.BytesIO(RED), "red.bmp", "image/bmp"), File(io.BytesIO(b"text"), "notes.txt", "text/plain")]
    submitted = submit_batch.sync(client=client, body=Files(files=files))
    assert isinstance(submitted, Submitted) and submitted.queued == 1, submitted
    assert submitted.failed_files[0].filename == "notes.txt"
    batch = wait_for(lambda: get_batch.sync(client=client, id=submitted.batch_id), lambda it: it.completed_at)
    assert isinstance(batch, Batch) and batch.status.value == "completed", batch
    assert batch.batch_id in [it.batch_id for it in list_batches.sync(client=client)]

    [upload] = list_uploads.sync(client=client, id=batch.batch_id)
    assert isinstance(upload, Upload) and upload.processing_status.value == "completed", upload
    assert isinstance(upload.metadata.facts, Facts) and upload.metadata.facts.width == 16
    assert isinstance(upload.metadata.objects, list)
    original = get_original.sync_detailed(client=client, id=upload.id)
    assert original.content == RED
    thumbnail = get_thumbnail.sync(client=client, id=upload.id)
    assert isinstance(thumbnail, File) and thumbnail.payload.read(2) == b"\xff\xd8", thumbnail

    tus = {"client": client, "tus_resumable": "1.0.0"}
    begun = create_resumable_upload.sync_detailed(**tus, upload_length=len(RED))
    assert begun.status_code == 201, begun
    tus["id"] = begun.headers["location"].split("/")[-1]
    body = File(io.BytesIO(RED))
    added = append_to_resumable_upload.sync_detailed(**tus, upload_offset=0, body=body)
    assert added.status_code == 204, added
    assert resumable_upload_offset.sync_detailed(**tus).headers["upload-offset"] == str(len(RED))
    resumable = get_resumable_upload.sync(client=client, id=tus["id"])
    assert isinstance(resumable, ResumableUpload) and resumable.batch_id, resumable
    wait_for(lambda: get_batch.sync(client=client, id=resumable.batch_id), lambda it: it.completed_at)
    assert delete_upload.sync_detailed(client=client, id=tus["id"]).status_code == 204

    found = search.sync(client=client, q="a red picture")
    assert isinstance(found[0], Found) and found[0].upload.id == upload.id, found
    assert status.sync(client=client).administrator
    assert '"tree":"uploads"' in dump.sync(client=client)
    assert cancel_batch.sync_detailed(client=client, id=batch.batch_id).status_code == 204
    assert delete_upload.sync_detailed(client=client, id=upload.id).status_code == 204
    assert isinstance(get_upload.sync(client=client, id=upload.id), Refusal)


def wait_for(ask, done):
    """Asks until the answer is the last one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = ask()
        if done(answer):
            return answer
        time.sleep(0.05)
    raise TimeoutError(answer)


main(*sys.argv[1:])
