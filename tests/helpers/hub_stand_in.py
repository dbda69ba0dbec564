"""The part of the Hugging Face hub's HTTP interface that pushing and loading a model needs.

Written from what huggingface_hub 0.25.2 and 2.4.0 send: uploads by Git LFS' basic transfer (no
xet), one commit for each push, downloads by commit. It lies in memory; there is one branch.
"""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_stand_in"


class HubStandIn:
    """Repositories as lists of commits, each a dict of files."""

    def __init__(self):
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.url = ""
        self.refuses_uploads = False

    def sha(self, repo, number):
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def files(self, repo, revision):
        """The files of a revision, and its commit's hash; None where there is none."""
        commits = self.commits.get(repo, [])
        hashes = [self.sha(repo, number) for number in range(len(commits))]
        if revision == "main" and commits:
            return commits[-1], hashes[-1]
        return (commits[hashes.index(revision)], revision) if revision in hashes else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubStandIn

    def log_message(self, *_):
        pass

    def answer(self, content=b"", status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code):
        self.answer({"error": "Not found"}, 404, X_Error_Code=code)

    def begin(self):
        length = self.headers.get("Content-Length")
        self.body = self.rfile.read(int(length)) if length else self.read_chunks()
        self.path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")

    def read_chunks(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_POST(self):
        self.begin()
        parts = self.path.strip("/").split("/")
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not known and self.path != "/api/validate-yaml":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(self.body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            status = 409 if repo in self.hub.commits else 200
            self.hub.commits.setdefault(repo, [])
            self.answer({"url": f"{self.hub.url}/{repo}", "id": repo}, status)
        elif self.path == "/api/validate-yaml":
            assert json.loads(self.body)["content"].startswith("---\n")
            self.answer({"errors": [], "warnings": []})
        elif parts[-1] == "batch":
            objects = [self.action(item) for item in json.loads(self.body)["objects"]]
            self.answer({"transfer": "basic", "objects": objects})
        elif parts[4] == "preupload":
            self.answer({"files": [self.mode(x) for x in json.loads(self.body)["files"]]})
        elif parts[4] == "commit":
            self.commit("/".join(parts[2:4]))
        else:
            self.missing("EntryNotFound")

    def action(self, item):
        href = f"{self.hub.url}/lfs/{item['oid']}"
        return {**item, "actions": {"upload": {"href": href, "header": {}}}}

    def mode(self, file):
        large = file["path"].endswith(".safetensors")
        mode = "lfs" if large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def commit(self, repo):
        files = dict(self.hub.commits[repo][-1]) if self.hub.commits[repo] else {}
        for line in map(json.loads, self.body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
        self.hub.commits[repo].append(files)
        sha = self.hub.sha(repo, len(self.hub.commits[repo]) - 1)
        self.answer({"commitUrl": f"{self.hub.url}/{repo}/commit/{sha}", "commitOid": sha})

    def do_PUT(self):
        self.begin()
        oid = self.path.rpartition("/")[2]
        if self.hub.refuses_uploads or hashlib.sha256(self.body).hexdigest() != oid:
            self.answer(b"", 400)
            return
        self.hub.lfs[oid] = self.body
        self.answer()

    def do_GET(self):
        self.begin()
        parts = self.path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.info("/".join(parts[2:4]), parts)
        elif parts[2:3] == ["resolve"]:
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.missing("EntryNotFound")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def info(self, repo, parts):
        revision = parts[5] if len(parts) > 5 else "main"
        if repo not in self.hub.commits:
            self.missing("RepoNotFound")
        elif (found := self.hub.files(repo, revision)) is None:
            self.missing("RevisionNotFound")
        elif parts[4:5] == ["tree"]:
            self.answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in found[0].items()
                ]
            )
        else:
            siblings = [{"rfilename": name} for name in found[0]]
            self.answer(
                {
                    "id": repo,
                    "sha": found[1],
                    "siblings": siblings,
                    "private": False,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                    "disabled": False,
                }
            )

    def file(self, repo, revision, name):
        found = self.hub.files(repo, revision)
        if found is None or name not in found[0]:
            self.missing("EntryNotFound" if found else "RevisionNotFound")
            return
        content, large = found[0][name], name.endswith(".safetensors")
        digest = (hashlib.sha256 if large else hashlib.sha1)(content).hexdigest()
        linked = (
            {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(content))} if large else {}
        )
        self.answer(
            content,
            ETag=f'"{digest}"',
            X_Repo_Commit=found[1],
            **(linked if large else {}),
            Content_Length=str(len(content)),
            Accept_Ranges="bytes",
        )


@contextlib.contextmanager
def hub_stand_in():
    """Serve an empty hub on a port of this machine; yields it."""
    hub = HubStandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
