"""The real helm, kept from any cluster and from the user's own settings."""

import os
import re
import subprocess
from pathlib import Path

import yaml

CHART = Path("charts/damselfly")
CASES = Path("tests/chart/values")
RELEASE, NAMESPACE = "damselfly", "images"
LIMIT_SECONDS = 60


class Refused(Exception):
    """helm did not do it."""


class Helm:
    """Runs it, each time for a bounded time."""

    def __init__(self, program, scratch):
        self.program = program
        self.scratch = Path(scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        homes = {f"HELM_{kind}_HOME": str(self.scratch / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self.environment = {**kept, **homes, "HOME": str(self.scratch), "KUBECONFIG": os.devnull}

    def run(self, *arguments, environment=None):
        """Its standard output."""
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Refused(f"{done.stderr.strip()}\n{done.stdout.strip()[-2000:]}".strip())
        return done.stdout

    def template(self, values=None, *more, chart=CHART, environment=None):
        """The text that the chart renders with the values in a file, or with none."""
        given = ["--values", values] if values else []
        return self.run(
            "template", RELEASE, chart, "--namespace", NAMESPACE, *given, *more, environment=environment
        )


class Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a date is text, `=` too, and a key stands once."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(("timestamp", "value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def once(loader, node, deep=False):
    """A mapping, unless a key stands twice in it."""
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    twice = {str(key) for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {', '.join(twice)}", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor("tag:yaml.org,2002:map", once)


def objects(text):
    """The objects in a rendered text."""
    return [document for document in yaml.load_all(text, Loader) if document]


def settled(text):
    """A rendered text without what is made anew each time."""
    text = re.sub(r"dfauth1\.[\w-]{43}", "dfauth1.HASH", text)
    text = re.sub(r"(checksum/identity: )\w+", r"\1SUM", text)
    return re.sub(r"(\n  (?:ca\.key|ticket\.key|authority|token): )\S+", r"\1DATA", text)


def find(all_objects, kind, name):
    """One object."""
    return next(o for o in all_objects if o["kind"] == kind and o["metadata"]["name"] == name)


def pod_specs(all_objects):
    """(what it is, its metadata, its spec) of each pod that comes of the objects."""
    for item in all_objects:
        what = f"{item['kind']} {item['metadata']['name'].split('-', 1)[-1]}"
        if item["kind"] == "Pod":
            yield what, item["metadata"], item["spec"]
        elif item["kind"] in ("Deployment", "DaemonSet", "Job", "StatefulSet"):
            template = item["spec"]["template"]
            yield what, template["metadata"], template["spec"]
        elif "template" in item.get("spec", {}):
            raise AssertionError(f"{what} has pods that nobody looks at")


def containers(spec):
    """All containers of a pod."""
    return [*spec.get("initContainers", []), *spec["containers"]]
