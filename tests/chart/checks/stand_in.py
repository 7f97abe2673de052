"""A stand-in for Kubernetes's API server, as far as helm needs one: it keeps objects, and says that each Job is done.

It listens on loopback, over plain HTTP, and runs no pod. What was asked of it is written down, so that a check can tell in
which order things came and went.
"""

import contextlib
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import yaml

from checks import releases

# The kinds that the chart uses, and helm for its releases.
KINDS = {
    "v1": {
        "configmaps": "ConfigMap",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "resourcequotas": "ResourceQuota",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"daemonsets": "DaemonSet", "deployments": "Deployment"},
    "batch/v1": {"jobs": "Job"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "rbac.authorization.k8s.io/v1": {"clusterroles": "ClusterRole", "clusterrolebindings": "ClusterRoleBinding"},
}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding"}
DONE = {
    "succeeded": 1,
    "conditions": [{"type": "Complete", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}],
}


def discovery(path):
    """What there is, in the words of the API."""
    if path == "/version":
        return {"major": "1", "minor": "30", "gitVersion": "v1.30.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = [{"groupVersion": name, "version": name.split("/")[1]} for name in KINDS if "/" in name]
        groups = [
            {"name": version["groupVersion"].split("/")[0], "versions": [version], "preferredVersion": version}
            for version in versions
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in KINDS:
        return None
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    resources = [
        {"name": name, "singularName": kind.lower(), "namespaced": kind not in CLUSTER_WIDE, "kind": kind, "verbs": verbs}
        for name, kind in KINDS[version].items()
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def openapi(path):
    """That the server validates what it is sent itself, by which helm does without its schemas."""
    if path == "/openapi/v3":
        places = {("apis/" if "/" in version else "api/") + version for version in KINDS}
        return {"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}"} for place in places}}
    version = path.removeprefix("/openapi/v3/").partition("/")[2]
    if not path.startswith("/openapi/v3/") or version not in KINDS:
        return None
    group, _, number = version.rpartition("/")
    validates = [{"name": "fieldValidation", "in": "query"}]
    paths = {
        f"/{kind}": {
            "patch": {
                "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
                "parameters": validates,
                "responses": {},
            }
        }
        for kind in KINDS[version].values()
    }
    return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": paths}


def merged(old, new):
    """A patch applied; the order of lists is not looked at."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif not key.startswith("$"):
            result[key] = merged(old.get(key), value)
    return result


def selected(item, query):
    """Whether an object is one of those that a list is to have."""
    fields = query.get("fieldSelector", [""])[0]
    if fields.startswith("metadata.name=") and item["metadata"]["name"] != fields.split("=")[1]:
        return False
    labels = item["metadata"].get("labels", {})
    wanted = (term.split("=") for term in query.get("labelSelector", [""])[0].split(",") if "=" in term)
    return all(labels.get(term[0]) == term[-1] for term in wanted)


class Server:
    """Listens while it is used in a `with`."""

    def __init__(self):
        self.objects = {}
        self.log = []
        self.lock = threading.RLock()
        self.versions = itertools.count(1)

    def __enter__(self):
        handler = type("Handler", (Handler,), {"server_of_objects": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def kubeconfig(self, path):
        """Writes what leads helm here."""
        address = f"http://127.0.0.1:{self.http.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "current-context": "here",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def keep(self, path, item):
        """Keeps an object."""
        with self.lock:
            item.setdefault("metadata", {})["resourceVersion"] = str(next(self.versions))
            item["metadata"].setdefault("uid", path)
            if item.get("kind") == "Job":
                item["status"] = DONE
            self.objects[path] = item
            return item

    def of_kind(self, kind):
        """The objects of a kind, by name."""
        return {o["metadata"]["name"]: o for o in self.objects.values() if o["kind"] == kind}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_of_objects = None

    def do_GET(self):
        url = urlparse(self.path)
        query, store = parse_qs(url.query), self.server_of_objects
        found = discovery(url.path) or openapi(url.path) or store.objects.get(url.path)
        if found:
            return self.answer(200, found)
        version, kind = self.kind(url.path.split("/"), -1)
        if not kind:
            return self.missing()
        with store.lock:
            items = [item for path, item in store.objects.items() if path.startswith(url.path + "/")]
            if "/namespaces/" not in url.path:
                items = [item for item in store.objects.values() if item["kind"] == kind]
        if query.get("watch", ["false"])[0] == "true":
            # Everything has happened by now: nothing more comes.
            self.send_response(200)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        listed = [item for item in items if selected(item, query)]
        metadata = {"resourceVersion": str(next(store.versions))}
        return self.answer(200, {"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": listed})

    def do_POST(self):
        path, item = urlparse(self.path).path, self.body()
        if not self.kind(path.split("/"), -1)[1]:
            return self.missing()
        path = f"{path}/{item['metadata']['name']}"
        if path in self.server_of_objects.objects:
            return self.answer(409, {"kind": "Status", "status": "Failure", "reason": "AlreadyExists", "code": 409})
        self.note("made", item)
        return self.answer(201, self.server_of_objects.keep(path, item))

    def do_PUT(self):
        return self.answer(200, self.server_of_objects.keep(urlparse(self.path).path, self.body()))

    def do_PATCH(self):
        path, patch, store = urlparse(self.path).path, self.body(), self.server_of_objects
        old = store.objects.get(path)
        applied = "apply" in self.headers["Content-Type"]
        if not old:
            if not applied:
                return self.missing()
            self.note("made", patch)
        return self.answer(200 if old else 201, store.keep(path, merged(old or {}, patch)))

    def do_DELETE(self):
        item = self.server_of_objects.objects.pop(urlparse(self.path).path, None)
        self.body()
        if not item:
            return self.missing()
        self.note("gone", item)
        return self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def note(self, what, item):
        """Writes down what happened to an object; releases are helm's own affair."""
        if not item["metadata"]["name"].startswith("sh.helm.release"):
            self.server_of_objects.log.append((what, item["kind"], item["metadata"]["name"]))

    def kind(self, parts, at):
        """The version and kind that a path's part names."""
        for version, kinds in KINDS.items():
            if parts[at] in kinds and version in "/".join(parts):
                return version, kinds[parts[at]]
        return None, None

    def body(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if text.startswith(releases.MAGIC):
            return {} if self.command == "DELETE" else releases.secret(text)
        return yaml.safe_load(text) if text else {}

    def missing(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        details = {"name": name}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        return self.answer(404, {**status, "details": details, "message": f"{name} not found"})

    def answer(self, code, item):
        text = json.dumps(item).encode()
        with contextlib.suppress(BrokenPipeError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *_):
        pass
