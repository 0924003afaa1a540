"""gcp-storage-emulator with the rest of the XML protocol of Google Cloud Storage: lists, conditional writes, writing in parts and
deletes, which it has by JSON alone or not at all. Reading and keeping files is the emulator's own, and so is all of the JSON protocol.

usage: gcs_server.py PORT BUCKET TOKEN

The bucket is made. Requests by XML are taken with that token alone. https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

import email.utils
import hashlib
import itertools
import logging
import sys
from datetime import datetime
from http import HTTPStatus
from urllib.parse import parse_qs
from xml.etree import ElementTree as xml

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects

# Few, so that lists have several pages.
KEYS_OF_A_PAGE = 3

port, bucket, token = sys.argv[1:]
upload_ids = itertools.count(1)
# The parts of files that are not complete, by the upload's id and the part's number.
uploads = {}


class Response(server.Response):
    """To HEAD it says how long the content would be."""

    def close(self):
        if self._handler.command != "HEAD":
            return super().close()
        self._handler.send_response(self.status.value, self.status.phrase)
        self["Content-Length"] = str(len(self._content))
        for name, value in self._headers.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()

    def xml(self, name, children):
        root = xml.Element(name)
        for child, content in children:
            element = xml.SubElement(root, child)
            if isinstance(content, str):
                element.text = content
            else:
                for part, text in content:
                    xml.SubElement(element, part).text = text
        self.write_file(xml.tostring(root), "application/xml")

    def refuse(self, status, code):
        self.status = status
        self.xml("Error", [("Code", code), ("Message", status.phrase)])


def for_who_has_the_token(handle):
    def handler(request, response, storage):
        if request.get_header("Authorization") == f"Bearer {token}":
            # A key without a value is left out of `request.query`.
            query = parse_qs(request._parsed_url.query, keep_blank_values=True)
            handle(request, response, storage, {name: values[0] for name, values in query.items()})
        else:
            response.refuse(HTTPStatus.UNAUTHORIZED, "AuthenticationRequired")

    return handler


def names(request):
    return request.params["bucket_name"], request.params["object_id"]


def etag(content):
    return f'"{hashlib.md5(content).hexdigest()}"'


def found(request, storage):
    try:
        return storage.get_file_obj(*names(request))
    except NotFound:
        return None


@for_who_has_the_token
def list_objects(request, response, storage, query):
    kept, prefixes = storage.get_file_list(request.params["bucket_name"], query.get("prefix"), query.get("delimiter"))
    entries = [(prefix, None) for prefix in prefixes] + [(kept_object["name"], kept_object) for kept_object in kept]
    after = max(query.get("continuation-token", ""), query.get("start-after", ""))
    entries = [entry for entry in sorted(entries, key=lambda entry: entry[0]) if entry[0] > after]
    size = min(KEYS_OF_A_PAGE, int(query.get("max-keys", KEYS_OF_A_PAGE)))
    page = entries[:size]
    children = [("IsTruncated", str(len(entries) > size).lower())]
    if len(entries) > size:
        children.append(("NextContinuationToken", page[-1][0]))
    for name, kept_object in page:
        if kept_object is None:
            children.append(("CommonPrefixes", [("Prefix", name)]))
        else:
            texts = {"Key": name, "LastModified": kept_object["updated"], "ETag": kept_object["etag"], "Size": kept_object["size"]}
            children.append(("Contents", texts.items()))
    response.xml("ListBucketResult", children)


@for_who_has_the_token
def get(request, response, storage, query):
    kept_object = found(request, storage)
    if kept_object is None:
        return response.refuse(HTTPStatus.NOT_FOUND, "NoSuchKey")
    response["ETag"] = kept_object["etag"]
    response["Last-Modified"] = email.utils.format_datetime(datetime.fromisoformat(kept_object["updated"]), usegmt=True)
    response["x-goog-generation"] = kept_object["generation"]
    objects.download(request, response, storage)


def store(request, response, storage, content):
    """Writes a whole file, unless a condition says that there must be another one, or none, before."""
    kept_object = found(request, storage)
    expected = request.get_header("x-goog-if-generation-match")
    if expected is not None and expected != (kept_object["generation"] if kept_object else "0"):
        response.refuse(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        return False
    content_type = request.get_header("Content-Type", "application/octet-stream")
    new = objects._make_object_resource(request.base_url, *names(request), content_type, str(len(content)))
    new["etag"] = etag(content)
    storage.create_file(*names(request), content, objects._checksums(content, new))
    response["ETag"] = new["etag"]
    response["x-goog-generation"] = new["generation"]
    return True


@for_who_has_the_token
def put(request, response, storage, query):
    content = request.data or b""
    if "uploadId" not in query:
        store(request, response, storage, content)
    elif query["uploadId"] not in uploads:
        response.refuse(HTTPStatus.NOT_FOUND, "NoSuchUpload")
    else:
        uploads[query["uploadId"]][int(query["partNumber"])] = content
        response["ETag"] = etag(content)


@for_who_has_the_token
def post(request, response, storage, query):
    if "uploads" in query:
        upload_id = f"upload-{next(upload_ids)}"
        uploads[upload_id] = {}
        bucket_name, key = names(request)
        return response.xml("InitiateMultipartUploadResult", [("Bucket", bucket_name), ("Key", key), ("UploadId", upload_id)])
    parts = uploads.get(query.get("uploadId"))
    if parts is None:
        return response.refuse(HTTPStatus.NOT_FOUND, "NoSuchUpload")
    named = [(int(part.findtext("PartNumber")), part.findtext("ETag")) for part in xml.fromstring(request.data)]
    is_whole = named and all(number in parts and etag(parts[number]) == tag for number, tag in named)
    if not is_whole or named != sorted(named):
        return response.refuse(HTTPStatus.BAD_REQUEST, "InvalidPart")
    if store(request, response, storage, b"".join(parts[number] for number, _ in named)):
        del uploads[query["uploadId"]]
        response.xml("CompleteMultipartUploadResult", [("Key", names(request)[1]), ("ETag", response["ETag"])])


@for_who_has_the_token
def delete(request, response, storage, query):
    if "uploadId" in query:
        is_gone = uploads.pop(query["uploadId"], None) is not None
    else:
        is_gone = objects._delete(storage, *names(request))
    if is_gone:
        response.status = HTTPStatus.NO_CONTENT
    else:
        response.refuse(HTTPStatus.NOT_FOUND, "NoSuchKey")


server.Response = Response
server.RequestHandler.do_HEAD = lambda handler: server.Router(handler).handle("HEAD")
server.HANDLERS = (
    # The last of its own is what stands here instead.
    *server.HANDLERS[:-1],
    (r"^/(?P<bucket_name>[-.\w]+)$", {"GET": list_objects}),
    (
        r"^/(?P<bucket_name>[-.\w]+)/(?P<object_id>.+)$",
        {"GET": get, "HEAD": get, "PUT": put, "POST": post, "DELETE": delete},
    ),
)
logging.getLogger("").addHandler(logging.StreamHandler())
emulator = server.create_server("127.0.0.1", int(port), in_memory=True)
buckets.create_bucket(bucket, emulator._storage)
emulator.run()
