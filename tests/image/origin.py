"""The origin of the test: an image, an authority, and Debian's docker-registry over TLS with its access log."""

import gzip
import hashlib
import io
import json
import os
import random
import re
import subprocess
import tarfile
from pathlib import Path

from containers import Ended, Failed, run, wait_for

# The name by which clients know the registry; no DNS has it.
NAME = "registry.test"
REPOSITORY = "team/app"
TAG = "1"
REFERENCE = f"{NAME}/{REPOSITORY}:{TAG}"

# Layers of more than one piece, and of less.
LAYER_BYTES = (24 << 20, 5 << 20, 1000)

START_SECONDS = 20
END_SECONDS = 10

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Image:
    """An image in an OCI layout, whose every byte follows from a seed."""

    def __init__(self, layout, seed):
        self.layout = layout
        self.blobs = {}
        (layout / "blobs/sha256").mkdir(parents=True)
        rng = random.Random(seed)
        layers, diff_ids = [], []
        for number, size in enumerate(LAYER_BYTES):
            tar = io.BytesIO()
            with tarfile.open(fileobj=tar, mode="w") as archive:
                entry = tarfile.TarInfo(f"layer-{number}")
                entry.size = size
                archive.addfile(entry, io.BytesIO(rng.randbytes(size)))
            diff_ids.append("sha256:" + hashlib.sha256(tar.getvalue()).hexdigest())
            packed = gzip.compress(tar.getvalue(), compresslevel=1, mtime=0)
            layers.append(self.blob("application/vnd.oci.image.layer.v1.tar+gzip", packed))
        machine = os.uname().machine
        config = {
            "architecture": ARCHITECTURES.get(machine, machine), "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        config = self.blob("application/vnd.oci.image.config.v1+json", json.dumps(config).encode())
        # What is pulled of it, beside the manifest.
        self.size = sum(self.blobs.values())
        media_type = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
        manifest = self.blob(media_type, json.dumps(manifest).encode())
        self.digest = manifest["digest"]
        manifest["annotations"] = {"org.opencontainers.image.ref.name": TAG}
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))

    def blob(self, media_type, content):
        """Writes a blob; its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.layout / "blobs/sha256" / digest).write_bytes(content)
        self.blobs["sha256:" + digest] = len(content)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content)}

    def check_copy(self, layout):
        """Whether another layout has this image and every byte of it."""
        index = json.loads((layout / "index.json").read_text())
        found = index["manifests"][0]["digest"]
        if found != self.digest:
            raise Failed(f"the image that was pulled is {found}, not {self.digest}")
        files = {"sha256:" + file.name: file for file in (layout / "blobs/sha256").iterdir()}
        if files.keys() != self.blobs.keys():
            raise Failed(f"blobs {sorted(files)} were pulled, not {sorted(self.blobs)}")
        for digest, file in files.items():
            if "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise Failed(f"what was pulled as {digest} has another digest")


class Registry:
    """A running docker-registry at port 5000 of `address`, with a certificate of an authority of its own."""

    def __init__(self, work, address):
        self.host = f"{address}:5000"
        self.url = f"https://{self.host}"
        self.authority = work / "authority.crt"
        self.log = work / "registry.log"
        certificate, key = make_certificate(work, self.authority, address)
        config = work / "registry.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: info, formatter: json, accesslog: {disabled: false}}\n"
            "storage:\n"
            f"  filesystem: {{rootdirectory: \"{work}/registry\"}}\n"
            "  cache: {blobdescriptor: inmemory}\n"
            "  maintenance: {uploadpurging: {enabled: false}}\n"
            f"http: {{addr: \"{self.host}\", secret: none, tls: {{certificate: \"{certificate}\", key: \"{key}\"}}}}\n"
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work
            )
        wait_for("line of the registry that it listens", START_SECONDS, self.listens)

    def listens(self):
        if (code := self.process.poll()) is not None:
            raise Ended(f"docker-registry ended with {code}: {self.log.read_text()[-2000:]}")
        return "listening on " in self.log.read_text(errors="replace")

    def push(self, image):
        run(
            "skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
            f"oci:{image.layout}:{TAG}", f"docker://{self.host}/{REPOSITORY}:{TAG}",
        )

    def blob_bytes(self):
        """Bytes of blobs that it has sent, by its access log."""
        line = re.compile(r'"GET [^ "]*/blobs/sha256:[^ "]* HTTP/[0-9.]+" 2\d\d (\d+) ')
        return sum(int(sent) for sent in line.findall(self.log.read_text(errors="replace")))

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS)


def make_certificate(work, authority, address):
    """An authority, and the files of a certificate of it for `address`, and of its key."""
    authority_key, certificate, key = (work / name for name in ("authority.key", "registry.crt", "registry.key"))
    request, extensions = work / "registry.csr", work / "registry.ext"
    extensions.write_text(f"subjectAltName=IP:{address}\nbasicConstraints=critical,CA:FALSE\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"]
    run(*new, "-x509", "-days", "2", "-subj", "/CN=authority of the test", "-keyout", authority_key, "-out", authority)
    run(*new, "-subj", f"/CN={NAME}", "-keyout", key, "-out", request)
    run(
        "openssl", "x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-set_serial", "2",
        "-days", "2", "-extfile", extensions, "-out", certificate,
    )
    return certificate, key
