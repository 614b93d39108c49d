"""GAIA's backend of April 2026, operation by operation, against an appliance:
gaia_client.py http://127.0.0.1:PORT WHEEL_FOLDER SHARED_FOLDER

The judge is the original itself: answers are read by the models of `gaia/ui/models.py` as it came in the wheel of amd-gaia, and
what an appliance says about a wrong field is compared with what those models say.
"""

import importlib.util
import io
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
from typing import Dict, List, Optional

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

base, wheel, shared = sys.argv[1:4]
spec = importlib.util.spec_from_file_location("gaia_models", f"{wheel}/gaia/ui/models.py")
gaia = importlib.util.module_from_spec(spec)
sys.modules["gaia_models"] = gaia  # its annotations are texts, which are looked up there
spec.loader.exec_module(gaia)

checks = 0
asked = set()


def check(holds, what):
    global checks
    assert holds, what
    checks += 1


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def detail(self):
        return self.json()["detail"]


def send(method, path, body=None, headers=None, raw=None):
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method)
    if raw is None and body is not None:
        request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as answer:
        return Answer(answer.code, answer.headers, answer.read())


def call(operation, path=None, body=None, expect=200, **more):
    """Asks one of the 49 operations and checks its status."""
    method, template = operation.split(" ", 1)
    asked.add(operation)
    answer = send(method, path or template, body, **more)
    check(answer.status == expect, f"{operation} {path or ''} answered {answer.status}, not {expect}: {answer.body[:400]}")
    if answer.status >= 400:
        check("detail" in answer.json(), f"{operation}: {answer.body[:200]}")
    return answer


def form(name, filename, content, kind="application/octet-stream"):
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'
    raw = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    return {"raw": raw, "headers": {"Content-Type": f"multipart/form-data; boundary={mark}"}}


def like(model, value):
    """The original's own model reads it, and loses nothing."""
    read = model.model_validate(value)
    missing = [name for name, field in model.model_fields.items() if name not in value]
    check(not missing, f"{model.__name__} lacks {missing}: {value}")
    return read


def quoted(text):
    return urllib.parse.quote(text, safe="")


# Bodies that are wrong: each field of a body that is right gets each of these values, and is left out once. What the original
# says about it is what is expected, error by error.
WRONG = [None, True, 5, 1.5, -1, 0, "", "x", "a b", "maybe", "y" * 65, [], [1], ["a", None], {}, {"a": 1}]


def said(error):
    return [
        {key: list(("body", *one["loc"])) if key == "loc" else one[key] for key in ("type", "loc", "msg", "input", "ctx") if key in one}
        for one in error.errors(include_url=False)
    ]


def refuses(operation, model, right, path=None):
    """Compares every refusal of fields with the original's."""
    cases = [{}, *({key: value for key, value in right.items() if key != left} for left in right)]
    cases += [{**right, field: value} for field in model.model_fields for value in WRONG]
    method, template = operation.split(" ", 1)
    for body in cases:
        try:
            model.model_validate(body)
        except ValidationError as error:
            answer = send(method, path or template, body)
            check(answer.status == 422, f"{operation} took {body}: {answer.status} {answer.body[:300]}")
            check(answer.detail == said(error), f"{operation} {body}\n  said {answer.detail}\n  not  {said(error)}")
    for raw, kind in ((b"[1]", "model_attributes_type"), (b"{", "json_invalid"), (b'"x"', "model_attributes_type")):
        answer = send(method, path or template, raw=raw, headers={"Content-Type": "application/json"})
        check(answer.status == 422 and answer.detail[0]["type"] == kind, f"{operation} {raw}: {answer.body[:300]}")
        check(answer.detail[0]["loc"][0] == "body", answer.detail)


def wrong_numbers(operation, path, *names):
    for name in names:
        answer = send("GET", f"{path}{'&' if '?' in path else '?'}{name}=many")
        check(answer.status == 422, f"{operation} {name}=many: {answer.status}")
        check(answer.detail[0]["loc"] == ["query", name] and answer.detail[0]["type"] == "int_parsing", answer.detail)


class LoadModel(BaseModel):
    model_name: str
    ctx_size: Optional[int] = Field(None, gt=0)


class DownloadModel(BaseModel):
    model_name: str
    force: bool = False


class Confirm(BaseModel):
    session_id: str
    approved: bool


# -- system ----------------------------------------------------------------------------------------------------------------

health = call("GET /api/health").json()
check(health["status"] == "ok" and health["service"] == "gaia-agent-ui", health)
check(set(health["stats"]) == {"sessions", "messages", "documents", "total_chunks", "total_size_bytes"}, health)

status = call("GET /api/system/status").json()
read = like(gaia.SystemStatus, status)
check(read.lemonade_running and read.initialized and read.device_supported and read.init_state == "ready", status)
check(read.default_model_name and read.model_downloaded and read.embedding_model_loaded, status)
check(read.disk_space_gb > 0 and read.memory_available_gb > 0, status)
model = read.default_model_name

like(gaia.TaskListResponse, call("GET /api/system/tasks").json())
refuses("POST /api/system/load-model", LoadModel, {"model_name": model, "ctx_size": 512})
refuses("POST /api/system/download-model", DownloadModel, {"model_name": "x", "force": False})
call("POST /api/system/load-model", body={"model_name": "  "}, expect=400)
call("POST /api/system/download-model", body={"model_name": ""}, expect=400)
loading = call("POST /api/system/load-model", body={"model_name": model}, expect=202).json()
check(loading["status"] == "loading" and loading["model"] == model and loading["ctx_size"] > 0, loading)
fetching = call("POST /api/system/download-model", body={"model_name": "no such model"}, expect=202).json()
check(fetching == {"status": "downloading", "model": "no such model"}, fetching)


def until(look, what, most=120):
    """Waits for what another thread of the appliance does."""
    begun = time.monotonic()
    while not (seen := look()):
        assert time.monotonic() - begun < most, what
        time.sleep(0.05)
    return seen


def task(name, state):
    tasks = send("GET", "/api/system/tasks").json()["tasks"]
    return next((one for one in tasks if one["name"] == name and one["status"] == state), None)


until(lambda: task(f"Load {model}", "done"), "the model is loaded")
failed = until(lambda: task("Fetch no such model", "failed"), "what cannot be fetched fails")
check(failed["error"], "and says why")
check(call("GET /api/system/status").json()["model_loaded"] == model, "the status names the loaded model")

refuses("PUT /api/settings", gaia.SettingsUpdateRequest, {"custom_model": "x"})
call("PUT /api/settings", body={"custom_model": ""})
check(call("GET /api/settings").json() == {"custom_model": None, "model_status": None}, "no model is chosen")
chosen = call("PUT /api/settings", body={"custom_model": f" {model} "}).json()
like(gaia.SettingsResponse, chosen)
check(chosen == {"custom_model": model, "model_status": {"found": True, "downloaded": True, "loaded": True}}, chosen)
check(call("PUT /api/settings", body={}).json() == chosen, "left out keeps it")
check(call("PUT /api/settings", body={"custom_model": None}).json() == chosen, "null keeps it")
check(call("GET /api/settings").json() == chosen, "it is kept")
unknown = call("PUT /api/settings", body={"custom_model": "nobody"}).json()
check(unknown["model_status"] == {"found": False, "downloaded": False, "loaded": False}, unknown)
check(call("PUT /api/settings", body={"custom_model": ""}).json()["custom_model"] is None, "empty takes it back")

# -- sessions --------------------------------------------------------------------------------------------------------------

SESSION = "/api/sessions"
new = {"title": "A title", "model": model, "system_prompt": "Be brief.", "document_ids": [], "agent_type": "chat"}
refuses("POST /api/sessions", gaia.CreateSessionRequest, new)
made = call("POST /api/sessions", body=new).json()
like(gaia.SessionResponse, made)
check(all(made[key] == value for key, value in new.items()), made)
check(made["message_count"] == 0 and made["created_at"].endswith("+00:00"), made)
plain = call("POST /api/sessions", body={}).json()
check(plain["title"] == "New Chat" and plain["system_prompt"] is None and plain["agent_type"] == "chat", plain)
check(plain["model"] == model and plain["document_ids"] == [], plain)
call("POST /api/sessions", body={"document_ids": ["nowhere"]}, expect=404)
one = f"{SESSION}/{made['id']}"
check(call("GET /api/sessions/{id}", one).json() == made, "it reads back")
check(call("GET /api/sessions/{id}", f"{SESSION}/none", expect=404).detail == "Session not found", "unknown")

many = [call("POST /api/sessions", body={"title": f"s{n}"}).json()["id"] for n in range(5)]
listed = call("GET /api/sessions").json()
like(gaia.SessionListResponse, listed)
check([s["id"] for s in listed["sessions"][:5]] == many[::-1], "the latest first")
check(listed["total"] == len(listed["sessions"]) >= 7, listed["total"])
page = call("GET /api/sessions", f"{SESSION}?limit=2&offset=1").json()
check([s["id"] for s in page["sessions"]] == many[::-1][1:3] and page["total"] == listed["total"], page)
for words, length in (("limit=0", 1), ("limit=-5", 1), ("limit=100000", listed["total"]), ("offset=-3", listed["total"]), ("offset=100000", 0)):
    check(len(call("GET /api/sessions", f"{SESSION}?{words}").json()["sessions"]) == length, words)
wrong_numbers("GET /api/sessions", SESSION, "limit", "offset")

refuses("PUT /api/sessions/{id}", gaia.UpdateSessionRequest, {"title": "t", "agent_type": "chat"}, one)
renamed = call("PUT /api/sessions/{id}", one, {"title": "Another"}).json()
like(gaia.SessionResponse, renamed)
check(renamed["title"] == "Another" and renamed["system_prompt"] == "Be brief.", renamed)
check(call("PUT /api/sessions/{id}", one, {"system_prompt": "Be long."}).json()["system_prompt"] == "Be long.", "instructions")
call("PUT /api/sessions/{id}", f"{SESSION}/none", {"title": "x"}, expect=404)
call("PUT /api/sessions/{id}", one, {"document_ids": ["nowhere"]}, expect=404)
for gone in many:
    check(call("DELETE /api/sessions/{id}", f"{SESSION}/{gone}").json() == {"deleted": True}, gone)
call("DELETE /api/sessions/{id}", f"{SESSION}/{many[0]}", expect=404)

# -- documents -------------------------------------------------------------------------------------------------------------

GUIDE = b"# Harbour guide\n\nFresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays.\n"
document = call("POST /api/documents/upload", **form("file", "guide.md", GUIDE, "text/markdown")).json()
like(gaia.DocumentResponse, document)
check(document["filename"] == "guide.md" and document["file_size"] == len(GUIDE), document)
check(document["indexing_status"] == "complete" and document["chunk_count"] > 0, "a small file is read in the call")
twin = call("POST /api/documents/upload", **form("file", "copy.md", GUIDE)).json()
check(twin["id"] == document["id"], "the same content is the same document")
call("POST /api/documents/upload", **form("file", "empty.txt", b""), expect=400)
call("POST /api/documents/upload", **form("file", "a.exe", b"MZ"), expect=400)
call("POST /api/documents/upload", **form("file", "big.txt", b"x" * (20 * 1024 * 1024 + 1)), expect=413)
for wrong in (form("other", "a.txt", b"a"), {"raw": b"", "headers": {"Content-Type": "text/plain"}}):
    answer = call("POST /api/documents/upload", **wrong, expect=422)
    check(answer.detail[0]["loc"] == ["body", "file"] and answer.detail[0]["type"] == "missing", answer.detail)
climber = call("POST /api/documents/upload", **form("file", "../../etc/climb.txt", b"It climbs.")).json()
check("/" not in climber["filename"], climber)

listed = call("GET /api/documents").json()
like(gaia.DocumentListResponse, listed)
check(listed["total"] == len(listed["documents"]), listed["total"])
check(listed["total_size_bytes"] == sum(d["file_size"] for d in listed["documents"]), listed)
check(listed["total_chunks"] == sum(d["chunk_count"] for d in listed["documents"]), listed)

place = f"/api/documents/{document['id']}"
state = call("GET /api/documents/{id}/status", f"{place}/status").json()
check(state["id"] == document["id"] and state["is_active"] is False and state["indexing_status"] == "complete", state)
call("GET /api/documents/{id}/status", "/api/documents/none/status", expect=404)
call("POST /api/documents/{id}/cancel", f"{place}/cancel", expect=404)
monitor = call("GET /api/documents/monitor/status").json()
check(monitor["running"] is True and monitor["interval_seconds"] == 30.0 and monitor["reindexing"] == [], monitor)

refuses("POST /api/documents/upload-path", gaia.DocumentUploadRequest, {"filepath": "/etc/passwd"})
refuses("POST /api/documents/index-folder", gaia.IndexFolderRequest, {"folder_path": "/etc", "recursive": True})
folder = os.path.join(shared, "papers")
os.makedirs(os.path.join(folder, "below"))
for name, text in (("one.txt", "The lighthouse is red."), ("below/two.md", "# Two\n\nThe ferry leaves at nine."), ("three.exe", "MZ")):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)
with open(os.path.join(shared, ".hidden.txt"), "w") as file:
    file.write("hidden")
os.symlink("/etc/passwd", os.path.join(shared, "link.txt"))
os.symlink("/etc", os.path.join(shared, "way"))
by_path = call("POST /api/documents/upload-path", body={"filepath": os.path.join(folder, "one.txt")}).json()
like(gaia.DocumentResponse, by_path)
check(by_path["filepath"] == os.path.join(folder, "one.txt") and by_path["indexing_status"] == "complete", by_path)
indexed = call("POST /api/documents/index-folder", body={"folder_path": folder}).json()
like(gaia.IndexFolderResponse, indexed)
check(indexed["indexed"] == 2, indexed)
flat = call("POST /api/documents/index-folder", body={"folder_path": folder, "recursive": False}).json()
check(flat["indexed"] == 1, flat)
call("POST /api/documents/index-folder", body={"folder_path": os.path.join(shared, "none")}, expect=404)

# What a path may not be: told by its words, before the disk is asked whether it is there.
BAD = [
    ("/etc/passwd", 403),
    ("/etc/none.txt", 403),
    (os.path.join(shared, "link.txt"), 400),
    (os.path.join(shared, "way", "passwd"), 400),
    (os.path.join(shared, "a\0b.txt"), 400),
    (os.path.join(shared, "none.txt"), 404),
]
for path, expected in BAD:
    call("POST /api/documents/upload-path", body={"filepath": path}, expect=expected)
for path in (os.path.join(shared, "..", "..", "etc", "passwd"), "relative.txt"):
    answer = send("POST", "/api/documents/upload-path", {"filepath": path})
    check(answer.status in (400, 403), f"{path}: {answer.status}")

# -- chat ------------------------------------------------------------------------------------------------------------------

right = {"session_id": made["id"], "message": "hi", "document_ids": None, "stream": False, "agent_type": "chat"}
refuses("POST /api/chat/send", gaia.ChatRequest, right)
long = call("POST /api/chat/send", body={**right, "message": "x" * 100_001}, expect=422)
check(long.detail[0]["type"] == "string_too_long" and long.detail[0]["ctx"] == {"max_length": 100_000}, long.detail[0]["type"])
call("POST /api/chat/send", body={**right, "session_id": "none"}, expect=404)
refuses("POST /api/chat/confirm-tool", Confirm, {"session_id": "x", "approved": True})
call("POST /api/chat/confirm-tool", body={"session_id": "none", "approved": True}, expect=404)
call("POST /api/chat/confirm-tool", body={"session_id": made["id"], "approved": False}, expect=404)

whole = call("POST /api/chat/send", body={**right, "message": "Say hello in one short sentence."}).json()
like(gaia.ChatResponse, whole)
check(whole["content"].strip() and whole["sources"] == [] and whole["tokens"]["output_tokens"] > 0, whole)

EVENTS = {
    "status", "step", "thinking", "plan", "tool_start", "tool_args", "tool_result", "tool_end", "chunk", "answer",
    "permission_request", "policy_alert", "mcp_status", "agent_created", "agent_error", "error", "done",
}  # fmt: skip


def stream(body):
    asked.add("POST /api/chat/send")
    answer = send("POST", "/api/chat/send", body)
    check(answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream"), answer.status)
    check("no-cache" in answer.headers["Cache-Control"] and answer.headers["X-Accel-Buffering"] == "no", answer.headers)
    lines = answer.body.decode().split("\n")
    check(all(line == "" or line.startswith((": ", "data: ")) for line in lines), "only data and comments")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    check(all(event["type"] in EVENTS for event in events), {event["type"] for event in events})
    check(events[-1]["type"] == "done" and sum(event["type"] == "done" for event in events) == 1, "done ends it, once")
    return events


plain_id = plain["id"]
events = stream({"session_id": plain_id, "message": "Name one colour."})
check(events[0]["type"] == "status" and events[0]["status"] == "working", events[0])
text = "".join(event["content"] for event in events if event["type"] == "chunk")
answer, done = events[-2], events[-1]
check(answer["type"] == "answer" and answer["content"] == done["content"] == text != "", "the pieces are the answer")
check(answer["elapsed"] >= 0 and done["stats"]["output_tokens"] > 0 and done["stats"]["time_to_first_token"] > 0, done)
like(gaia.InferenceStatsResponse, done["stats"])

call("POST /api/sessions/{id}/documents", f"{SESSION}/{plain_id}/documents", {"document_id": document["id"]})
call("POST /api/sessions/{id}/documents", f"{SESSION}/{plain_id}/documents", {"document_id": "none"}, expect=404)
call("POST /api/sessions/{id}/documents", f"{SESSION}/none/documents", {"document_id": document["id"]}, expect=404)
refuses("POST /api/sessions/{id}/documents", gaia.AttachDocumentRequest, {"document_id": "x"}, f"{SESSION}/{plain_id}/documents")
check(call("GET /api/sessions/{id}", f"{SESSION}/{plain_id}").json()["document_ids"] == [document["id"]], "attached")
events = stream({"session_id": plain_id, "message": "Who sells bread?"})
kinds = [event["type"] for event in events]
check(kinds.index("tool_start") < kinds.index("tool_result") < kinds.index("tool_end") < kinds.index("chunk"), kinds)
found = next(event for event in events if event["type"] == "tool_result")["result_data"]
check(found["type"] == "search_results" and found["source_files"] == ["guide.md"] and found["count"] >= 1, found)
check("Anselm Rook" in found["chunks"][0]["content"], found)

listed = call("GET /api/sessions/{id}/messages", f"{SESSION}/{plain_id}/messages").json()
read = like(gaia.MessageListResponse, listed)
check([m.role for m in read.messages] == ["user", "assistant"] * 2 and listed["total"] == 4, listed)
check([m.id for m in read.messages] == sorted(m.id for m in read.messages), "numbers grow")
check(read.messages[1].rag_sources is None and read.messages[1].stats.output_tokens > 0, read.messages[1])
source = read.messages[3].rag_sources[0]
check(source.document_id == document["id"] and source.filename == "guide.md" and "Anselm Rook" in source.chunk, source)
raw = listed["messages"][3]["rag_sources"][0]
part = send("GET", f"{place}/content?start={raw['start']}&end={raw['end']}").json()
check(part["content"] == raw["chunk"], "the source's offsets are exact")
check(read.messages[3].agent_steps[0].type == "tool" and read.messages[3].agent_steps[0].success, read.messages[3].agent_steps)
check(read.messages[3].id == events[-1]["message_id"], "done names the message")
page = call("GET /api/sessions/{id}/messages", f"{SESSION}/{plain_id}/messages?limit=2&offset=1").json()
check([m["id"] for m in page["messages"]] == [m.id for m in read.messages[1:3]] and page["total"] == 4, page)
check(len(call("GET /api/sessions/{id}/messages", f"{SESSION}/{plain_id}/messages?limit=0").json()["messages"]) == 1, "clamped")
wrong_numbers("GET /api/sessions/{id}/messages", f"{SESSION}/{plain_id}/messages", "limit", "offset")
call("GET /api/sessions/{id}/messages", f"{SESSION}/none/messages", expect=404)
check(call("GET /api/sessions/{id}", f"{SESSION}/{plain_id}").json()["title"] == "Name one colour.", "named after its question")
check(call("GET /api/sessions/{id}", f"{SESSION}/{plain_id}").json()["message_count"] == 4, "counted")

EXPORT = f"{SESSION}/{plain_id}/export"
markdown = call("GET /api/sessions/{id}/export", EXPORT).json()
check(markdown["format"] == "markdown" and "**User:**" in markdown["content"] and "guide.md" in markdown["content"], markdown)
exported = call("GET /api/sessions/{id}/export", f"{EXPORT}?format=json").json()
check(exported["format"] == "json" and exported["session"]["id"] == plain_id and len(exported["messages"]) == 4, exported)
check(call("GET /api/sessions/{id}/export", f"{EXPORT}?format=pdf", expect=400).detail == "Unsupported format: pdf", "format")
call("GET /api/sessions/{id}/export", f"{SESSION}/none/export", expect=404)

ids = [m.id for m in read.messages]
MESSAGE = f"{SESSION}/{plain_id}/messages"
bad = call("DELETE /api/sessions/{id}/messages/{mid}", f"{MESSAGE}/one", expect=422)
check(bad.detail[0]["loc"] == ["path", "message_id"], bad.detail)
call("DELETE /api/sessions/{id}/messages/{mid}", f"{MESSAGE}/999999", expect=404)
call("DELETE /api/sessions/{id}/messages/{mid}", f"{SESSION}/none/messages/{ids[0]}", expect=404)
foreign = call("DELETE /api/sessions/{id}/messages/{mid}", f"{one}/messages/{ids[0]}", expect=404)
check(foreign.detail == "Message not found", "another session's message")
check(call("DELETE /api/sessions/{id}/messages/{mid}", f"{MESSAGE}/{ids[1]}").json() == {"deleted": True}, "one")
check(call("GET /api/sessions/{id}/messages", MESSAGE).json()["total"] == 3, "it is gone")
call("DELETE /api/sessions/{id}/messages/{mid}/and-below", f"{MESSAGE}/999999/and-below", expect=404)
call("DELETE /api/sessions/{id}/messages/{mid}/and-below", f"{MESSAGE}/x/and-below", expect=422)
below = call("DELETE /api/sessions/{id}/messages/{mid}/and-below", f"{MESSAGE}/{ids[2]}/and-below").json()
check(below == {"deleted": True, "count": 2}, below)
check([m["id"] for m in call("GET /api/sessions/{id}/messages", MESSAGE).json()["messages"]] == [ids[0]], "and all below")
for _ in range(2):
    detached = call("DELETE /api/sessions/{id}/documents/{doc}", f"{SESSION}/{plain_id}/documents/{document['id']}").json()
    check(detached == {"detached": True}, "detaching always works")
check(call("GET /api/sessions/{id}", f"{SESSION}/{plain_id}").json()["document_ids"] == [], "detached")

# One data set, two views: the appliance's own page has the same chats.
own = send("GET", f"/onebit/chats/{plain_id}").json()
check(own["chat"]["title"] == "Name one colour.", own["chat"])

# -- files -----------------------------------------------------------------------------------------------------------------

browse = "/api/files/browse"
listing = call("GET /api/files/browse", f"{browse}?path={quoted(shared)}").json()
like(gaia.BrowseResponse, listing)
names = [entry["name"] for entry in listing["entries"]]
check(names[0] == "papers" and not {"link.txt", "way", ".hidden.txt"} & set(names), names)
check(listing["parent_path"] is None and listing["quick_links"], "a shared folder is a top")
check(call("GET /api/files/browse").json()["current_path"] == shared, "the first one is shown first")
inner = call("GET /api/files/browse", f"{browse}?path={quoted(folder)}").json()
check([entry["name"] for entry in inner["entries"]] == ["below", "one.txt"] and inner["parent_path"] == shared, inner)
check(inner["entries"][1]["extension"] == ".txt" and inner["entries"][1]["type"] == "file", inner)

preview = "/api/files/preview"
with open(os.path.join(folder, "table.csv"), "w") as file:
    file.write("name,size\n" + "".join(f"n{n},{n}\n" for n in range(300)))
table = call("GET /api/files/preview", f"{preview}?path={quoted(os.path.join(folder, 'table.csv'))}&lines=3").json()
like(gaia.FilePreviewResponse, table)
check(table["preview_lines"] == ["name,size", "n0,0", "n1,1"] and table["total_lines"] == 301, table)
check(table["columns"] == ["name", "size"] and table["row_count"] == 300 and table["is_text"], table)
most = call("GET /api/files/preview", f"{preview}?path={quoted(os.path.join(folder, 'table.csv'))}&lines=9999").json()
check(len(most["preview_lines"]) == 200, "clamped")
wrong_numbers("GET /api/files/preview", f"{preview}?path={quoted(folder)}", "lines")

search = "/api/files/search"
found = call("GET /api/files/search", f"{search}?query=ONE").json()
like(gaia.FileSearchResponse, found)
check([result["name"] for result in found["results"]] == ["one.txt"] and found["total"] == 1, found)
check(call("GET /api/files/search", f"{search}?query=t&file_types=csv,.md").json()["total"] == 2, "by ending")
check(call("GET /api/files/search", f"{search}?query=t&max_results=0").json()["total"] == 1, "clamped")
for hidden in ("hidden", "passwd"):
    check(call("GET /api/files/search", f"{search}?query={hidden}").json()["total"] == 0, hidden)
call("GET /api/files/search", f"{search}?query=%20", expect=400)
call("GET /api/files/search", f"{search}?query=a%00b", expect=400)
missing = call("GET /api/files/search", search, expect=422)
check(missing.detail[0]["loc"] == ["query", "query"] and missing.detail[0]["type"] == "missing", missing.detail)
wrong_numbers("GET /api/files/search", f"{search}?query=x", "max_results")

PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c489".replace(" ", ""))
with open(os.path.join(folder, "dot.png"), "wb") as file:
    file.write(PIXEL)
with open(os.path.join(folder, "drawing.svg"), "w") as file:
    file.write("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
image = call("GET /api/files/image", f"/api/files/image?path={quoted(os.path.join(folder, 'dot.png'))}")
check(image.body == PIXEL and image.headers["Content-Type"] == "image/png", image.headers)
drawing = call("GET /api/files/image", f"/api/files/image?path={quoted(os.path.join(folder, 'drawing.svg'))}")
policy = drawing.headers["Content-Security-Policy"]
check("sandbox" in policy and "default-src 'none'" in policy, "a drawing runs nothing")
call("GET /api/files/image", f"/api/files/image?path={quoted(os.path.join(folder, 'one.txt'))}", expect=400)

refuses("POST /api/files/open", gaia.OpenFileRequest, {"path": "/etc", "reveal": True})
call("POST /api/files/open", body={"path": folder}, expect=501)
GUARDED = [
    (shared + "/a\0b", 400),
    ("/etc/passwd", 403),
    ("/etc/none", 403),
    (os.path.join(shared, "..", "..", "..", "..", "etc", "passwd"), 403),
    (os.path.join(shared, ".hidden.txt"), 403),
    (os.path.join(shared, "link.txt"), 400),
    (os.path.join(shared, "way", "passwd"), 400),
    (os.path.join(shared, "none.txt"), 404),
]
for path, expected in GUARDED:
    call("POST /api/files/open", body={"path": path}, expect=expected)
    for operation in ("browse", "preview", "image"):
        call(f"GET /api/files/{operation}", f"/api/files/{operation}?path={quoted(path)}", expect=expected)
for operation in ("preview", "image"):
    missing = call(f"GET /api/files/{operation}", f"/api/files/{operation}", expect=422)
    check(missing.detail[0]["loc"] == ["query", "path"], missing.detail)
    call(f"GET /api/files/{operation}", f"/api/files/{operation}?path=", expect=400)
    call(f"GET /api/files/{operation}", f"/api/files/{operation}?path={quoted(folder)}", expect=400)
call("GET /api/files/browse", f"{browse}?path={quoted(os.path.join(folder, 'one.txt'))}", expect=400)

kept = call("POST /api/files/upload", **form("file", "../p.PNG", PIXEL, "image/png")).json()
like(gaia.FileUploadResponse, kept)
check(kept["is_image"] and kept["size"] == len(PIXEL) and kept["original_name"].endswith("p.PNG"), kept)
check(kept["url"] == f"/api/files/uploads/{kept['filename']}" and ".." not in kept["filename"], kept)
back = send("GET", kept["url"])
check(back.body == PIXEL and back.headers["Content-Type"] == "image/png", back.headers)
note = call("POST /api/files/upload", **form("file", "n.html", b"<script>alert(1)</script>")).json()
back = send("GET", note["url"])
check(back.headers["Content-Disposition"] == "attachment" and "sandbox" in back.headers["Content-Security-Policy"], back.headers)
for name in ("none.png", "..%2f..%2fonebit.db", "%2e%2e", kept["filename"] + "%00"):
    check(send("GET", f"/api/files/uploads/{name}").status == 404, name)
call("POST /api/files/upload", **form("file", "a.exe", b"MZ"), expect=400)
call("POST /api/files/upload", **form("file", "a.png", b""), expect=400)
call("POST /api/files/upload", **form("file", "a.png", b"x" * (20 * 1024 * 1024 + 1)), expect=413)
call("POST /api/files/upload", **form("other", "a.png", b"x"), expect=422)

# -- agents ----------------------------------------------------------------------------------------------------------------

agents = call("GET /api/agents").json()
like(gaia.AgentListResponse, agents)
names = [agent["id"] for agent in agents["agents"]]
check(agents["total"] == len(names) and names[0] == "chat" and "documents" in names, names)
check(all(agent["source"] == "builtin" and agent["conversation_starters"] for agent in agents["agents"]), agents)
newer = call("GET /api/agents", headers={"X-Gaia-UI": "1"}).json()
check([agent["id"] for agent in newer["agents"]] == ["gaia", *names] and newer["total"] == len(names) + 1, "a newer page finds its plain agent")
check(call("GET /api/agents/{id}", "/api/agents/documents").json() == next(a for a in agents["agents"] if a["id"] == "documents"), "one")
for unknown in ("nobody", "a/b", "..%2f..%2fetc"):
    lost = call("GET /api/agents/{id}", f"/api/agents/{unknown}", expect=404)
    check(lost.detail == f"Agent '{urllib.parse.unquote(unknown)}' not found", lost.detail)

UI = {"X-Gaia-UI": "1"}
EXPORT_AGENTS, IMPORT_AGENTS = "POST /api/agents/export", "POST /api/agents/import"
check(call(EXPORT_AGENTS, expect=403).detail == "missing X-Gaia-UI header", "another page cannot ask")
call(EXPORT_AGENTS, headers=UI, expect=400)  # there are none of one's own


def bundle(content, name="bundle", **more):
    sent = form(name, "agents.zip", content, "application/zip")
    return {"raw": sent["raw"], "headers": {**sent["headers"], **UI, **more}}


call(IMPORT_AGENTS, **form("bundle", "agents.zip", b"PK"), expect=403)
for operation in (EXPORT_AGENTS, IMPORT_AGENTS):
    away = bundle(b"PK", **{"X-Forwarded-For": "10.0.0.7"})
    check(send("POST", operation.split(" ")[1], **away).status in (401, 403), f"{operation} from elsewhere")
call(IMPORT_AGENTS, **bundle(b"no zip at all"), expect=400)
missing = call(IMPORT_AGENTS, **bundle(b"PK", "other"), expect=422)
check(missing.detail[0]["loc"] == ["body", "bundle"], missing.detail)


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


# One that may use what MCP servers offer, and nothing else.
GREETER = {"version": 1, "id": "greeter", "name": "Greeter", "instructions": "You greet people with the tool.", "tools": ["mcp"], "steps": 3}
came = call(IMPORT_AGENTS, **bundle(zipped(**{"greeter/agent.json": json.dumps(GREETER)}))).json()
check(came == {"imported": ["greeter"], "overwritten": [], "errors": [], "requires_restart": False}, came)
again = call(IMPORT_AGENTS, **bundle(zipped(**{"greeter/agent.json": json.dumps(GREETER)}))).json()
check(again["overwritten"] == ["greeter"] and again["imported"] == [], again)
greeter = call("GET /api/agents/{id}", "/api/agents/greeter").json()
like(gaia.AgentInfo, greeter)
check(greeter["name"] == "Greeter" and greeter["source"] == "custom_python", greeter)
out = call(EXPORT_AGENTS, headers=UI)
check(out.headers["Content-Type"] == "application/zip" and "attachment" in out.headers["Content-Disposition"], out.headers)
with zipfile.ZipFile(io.BytesIO(out.body)) as archive:
    check(archive.namelist() == ["greeter/agent.json"], archive.namelist())
    check(json.loads(archive.read("greeter/agent.json"))["tools"] == ["mcp"], "it is as it came")
climbing = send("POST", "/api/agents/import", **bundle(zipped(**{"../../climb/agent.json": json.dumps({**GREETER, "id": "climb"})})))
check(climbing.status == 400 or climbing.json()["errors"], climbing.body)
builtin = send("POST", "/api/agents/import", **bundle(zipped(**{"chat/agent.json": json.dumps({**GREETER, "id": "chat"})})))
check(builtin.status == 400 or builtin.json()["errors"], builtin.body)
call("GET /api/agents/{id}", "/api/agents/climb", expect=404)
check(call("GET /api/agents/{id}", "/api/agents/chat").json()["source"] == "builtin", "what comes with the program stays")

# -- MCP -------------------------------------------------------------------------------------------------------------------


class Server(BaseModel):
    name: str
    command: str
    args: Optional[List[str]] = None
    env: Optional[Dict[str, str]] = None


SERVERS = "/api/mcp/servers"
# The smallest server that there can be: it says who it is and that it has one tool.
SMALL = '''
import json, sys
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"name": "greet", "description": "Greets a person by name.", "inputSchema": NAME}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answers = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "small", "version": "1"}},
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "Good day from the small server."}]},
        "ping": {},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answers.get(asked["method"], {})}), flush=True)
'''
check(call("GET /api/mcp/servers").json() == {"servers": []}, "none at first")
check(call("GET /api/mcp/status").json() == {"servers": []}, "and none to ask")
refuses("POST /api/mcp/servers", Server, {"name": "n", "command": "c", "args": [], "env": {"A": "b"}})
call("POST /api/mcp/servers", body={"name": " ", "command": "c"}, expect=400)
call("POST /api/mcp/servers", body={"name": "n", "command": ""}, expect=400)
small = {"name": "small", "command": sys.executable, "args": ["-c", SMALL], "env": {"KEY": "a secret", "NONE": ""}}
check(call("POST /api/mcp/servers", body=small, expect=201).json() == {"status": "added", "name": "small"}, "added")
call("POST /api/mcp/servers", body=small, expect=409)
kept = call("GET /api/mcp/servers").json()["servers"]
check(kept == [{**small, "env": {"KEY": "***", "NONE": ""}, "enabled": True}], kept)
check("a secret" not in json.dumps(kept), "secrets stay here")
offered = call("GET /api/mcp/servers/{name}/tools", f"{SERVERS}/small/tools").json()
check(offered == {"name": "small", "tools": [{"name": "greet", "description": "Greets a person by name."}]}, offered)
states = call("GET /api/mcp/status").json()["servers"]
check(states == [{"name": "small", "connected": True, "tool_count": 1, "error": None}], states)


def greeted(approved):
    """Lets the greeter work until it asks for its tool, and decides; gives the events."""
    session = call("POST /api/sessions", body={"agent_type": "greeter"}).json()["id"]
    request = urllib.request.Request(base + "/api/chat/send", data=json.dumps(
        {"session_id": session, "message": "Use the greet tool to greet Ada by her name.", "agent_type": "greeter"}
    ).encode(), headers={"Content-Type": "application/json"})  # fmt: skip
    events = []
    with urllib.request.urlopen(request, timeout=180) as answer:
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            events.append(json.loads(line[6:]))
            if events[-1]["type"] == "permission_request":
                body = {"session_id": session, "approved": approved}
                check(call("POST /api/chat/confirm-tool", body=body).json() == {"status": "ok", "approved": approved}, "decided")
    check(events[-1]["type"] in ("done", "error"), events[-1])
    asking = next(event for event in events if event["type"] == "permission_request")
    check(asking["tool"].endswith("greet") and asking["timeout_seconds"] > 0 and asking["confirm_id"], asking)
    call("POST /api/chat/confirm-tool", body={"session_id": session, "approved": True}, expect=404)
    return session, events


session, events = greeted(True)
result = next(event for event in events if event["type"] == "tool_result")
check(result["success"] and "Good day" in result["summary"], result)
kept = like(gaia.MessageListResponse, call("GET /api/sessions/{id}/messages", f"{SESSION}/{session}/messages").json())
step = next(step for step in kept.messages[-1].agent_steps if step.type == "tool")
check(step.tool.endswith("greet") and step.success and step.mcpServer == "small" and "Good day" in step.result, step)
_, events = greeted(False)
check(not any(event["type"] == "tool_result" and event["success"] for event in events), "what is not allowed does not run")
check(call("POST /api/mcp/servers/{name}/disable", f"{SERVERS}/small/disable").json() == {"status": "disabled", "name": "small"}, "off")
check(call("GET /api/mcp/servers").json()["servers"][0]["enabled"] is False, "it is off")
call("GET /api/mcp/servers/{name}/tools", f"{SERVERS}/small/tools", expect=400)
check(call("POST /api/mcp/servers/{name}/enable", f"{SERVERS}/small/enable").json() == {"status": "enabled", "name": "small"}, "on")
call("POST /api/mcp/servers", body={"name": "gone", "command": "/nonexistent/program"}, expect=201)
down = call("GET /api/mcp/servers/{name}/tools", f"{SERVERS}/gone/tools", expect=503)
check("Could not connect to server 'gone'" in down.detail, down.detail)
for name in ("small", "gone"):
    check(call("DELETE /api/mcp/servers/{name}", f"{SERVERS}/{name}").json() == {"status": "removed", "name": name}, "removed")
for verb, tail in (("DELETE", ""), ("POST", "/enable"), ("POST", "/disable"), ("GET", "/tools")):
    lost = call(f"{verb} /api/mcp/servers/{{name}}{tail}", f"{SERVERS}/none{tail}", expect=404)
    check(lost.detail == "Server 'none' not found", lost.detail)
catalog = call("GET /api/mcp/catalog").json()["catalog"]
ENTRY = {"name", "display_name", "description", "category", "tier", "command", "args", "requires_config", "env"}
check(len(catalog) > 3 and all(set(entry) == ENTRY for entry in catalog), catalog)

# -- tunnel ----------------------------------------------------------------------------------------------------------------

TUNNEL = {"active", "url", "token", "startedAt", "error", "publicIp"}
state = call("GET /api/tunnel/status").json()
check(set(state) == TUNNEL and state["active"] is False and state["token"] is None, state)
started = call("POST /api/tunnel/start").json()
check(set(started) == TUNNEL and started["active"] is False and "server.listen" in started["error"], started)
check(call("POST /api/tunnel/stop").json() == {"active": False}, "stopped")

# -- who may ask -----------------------------------------------------------------------------------------------------------

stranger = {"X-Forwarded-For": "10.0.0.7"}
check(set(send("GET", "/api/health", headers=stranger).json()) == {"status", "service"}, "a stranger learns that it runs")
for method, path in (
    ("GET", SESSION), ("POST", "/api/chat/send"), ("GET", "/api/system/status"), ("GET", "/api/documents"), ("GET", browse),
    ("POST", "/api/tunnel/start"), ("GET", "/api/settings"), ("POST", "/api/files/upload"),
):  # fmt: skip
    refused = send(method, path, headers=stranger)
    check(refused.status == 401 and isinstance(refused.detail, str), f"{method} {path}: {refused.status}")
evil = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
refused = send("POST", SESSION, {}, headers=evil)
check(refused.status == 403 and isinstance(refused.detail, str), "another page's request")
check(send("GET", SESSION, headers={"Host": "evil.example"}).status == 421, "a foreign name")
key = send("POST", "/onebit/keys", {"name": "guest", "scope": "chat"}).json()["key"]
guest = {**stranger, "Authorization": f"Bearer {key}"}
check(send("GET", SESSION, headers=guest).status == 200, "a key that may chat")
for method, path in (("GET", browse), ("POST", "/api/tunnel/start"), ("POST", "/api/system/load-model"), ("GET", search)):
    check(send(method, path, headers=guest).status == 403, f"the owner's alone: {path}")

for path in ("/api/nothing", "/api/sessions/x/nothing", "/api/system/nothing", "/api/chat/nothing"):
    for method in ("GET", "POST"):
        lost = send(method, path, headers={"Accept": "text/html"})
        check(lost.status == 404 and lost.headers["Content-Type"] == "application/json", f"{method} {path}: {lost.status}")
        check("detail" in lost.json(), lost.body)
check(send("PATCH", SESSION, {}).status == 405, "another method")
check(send("GET", "/api/tags").json()["models"], "Ollama's routes stand beside them")
check(send("POST", "/api/chat", {"model": model, "messages": []}).status == 200, "and its chat")

# -- what is left ----------------------------------------------------------------------------------------------------------

check(call("DELETE /api/documents/{id}", place).json() == {"deleted": True}, "deleted")
call("DELETE /api/documents/{id}", place, expect=404)
check(os.path.exists(os.path.join(folder, "one.txt")), "the owner's files stay")
call("DELETE /api/documents/{id}", f"/api/documents/{by_path['id']}")
check(os.path.exists(os.path.join(folder, "one.txt")), "even when their document goes")

check(len(asked) == 49, sorted(asked))
print(f"gaia_client.py: {checks} checks over {len(asked)} operations")
