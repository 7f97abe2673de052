"""podman and buildah with a storage of their own, and what the kernel says of a container's first process."""

import json
import os
import resource
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

# How long one command may take; what takes longer says so.
COMMAND_SECONDS = 60
# How long a command that is told to end may take for it.
END_SECONDS = 5
# How long a program may take to answer.
READY_SECONDS = 20


class Failed(Exception):
    """A check that does not hold, or a command that fails."""


class Ended(Exception):
    """What should run has ended."""


def run(*command, seconds=COMMAND_SECONDS, env=None):
    """The standard output of a command that succeeds. Whatever interrupts it ends all that it has started."""
    command = [str(word) for word in command]
    line = f"`{' '.join(command)}`"
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env=dict(os.environ) | (env or {}), start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except BaseException as error:
        end_group(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed(f"{line} took longer than {seconds} s") from None
        raise
    if process.returncode != 0:
        raise Failed(f"{line} ended with {process.returncode}: {err.strip()[-2000:]}")
    return out


def end_group(process):
    """Asks a process and those that it has started to end, and insists."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(END_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def wait_for(what, seconds, probe):
    """The first answer of `probe` that is something; what it raises counts as nothing yet."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            if answer := probe():
                return answer
        except (OSError, ValueError, Failed) as error:
            last = error
        time.sleep(0.1)
    raise Failed(f"no {what} within {seconds} s" + (f": {last}" if last else ""))


class Podman:
    """Everything that podman and buildah keep is below one directory."""

    def __init__(self, work, name):
        self.name = name
        self.containers = []
        # vfs copies, which is little here, and mounts nothing that could stay behind.
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{work}/storage"\nrunroot = "{work}/run"\n'
        # The usual limits are more than a root without CAP_SYS_RESOURCE may set.
        limits = [f"{kind}={least}:{least}" for kind, least in (
            ("nofile", hard_limit(resource.RLIMIT_NOFILE, 65536)),
            ("nproc", hard_limit(resource.RLIMIT_NPROC, 4096)),
        )]
        # cgroupfs and runc: there need not be a systemd, nor cgroups of version 2.
        engine = (
            f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
            '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "none"\nlock_type = "file"\n'
            f'tmp_dir = "{work}/libpod"\n'
        )
        (work / "storage.conf").write_text(storage)
        (work / "containers.conf").write_text(engine)
        # As in Kubernetes: no capabilities, and a root file system that cannot be written.
        self.confinement = [
            "--pull=never", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges",
            "--http-proxy=false", f"--cgroup-parent=/{name}",
        ]
        self.env = {
            "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
            "CONTAINERS_CONF": str(work / "containers.conf"),
            "TMPDIR": str(work),
        }

    def __call__(self, *args, seconds=COMMAND_SECONDS, env=None):
        return run("podman", *args, seconds=seconds, env=self.env | (env or {}))

    def start(self, name, image, *args, options=(), env=None):
        """Starts a container on the host's network."""
        self.containers.append(name)
        self("run", *self.confinement, "--detach", "--name", name, "--network=host", *options, image, *args, env=env)

    def once(self, image, program, *args):
        """What another program of an image prints."""
        return self("run", *self.confinement, "--rm", "--network=none", "--entrypoint", program, image, *args)

    @contextmanager
    def files(self, image):
        """The root directory of an image."""
        root = self("image", "mount", image).strip()
        try:
            yield Path(root)
        finally:
            self("image", "unmount", image)

    def logs(self, name):
        """Both streams of a container so far."""
        done = subprocess.run(
            ["podman", "logs", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=COMMAND_SECONDS, env=dict(os.environ) | self.env,
        )
        return done.stdout

    def wait_for(self, name, what, probe):
        """As `wait_for`; says what the container said, and waits for none that has ended."""
        def running():
            state = self.inspect(name)["State"]
            if state["Status"] == "exited":
                raise Ended(f"{name} ended with {state['ExitCode']}")
            return True
        try:
            return wait_for(what, READY_SECONDS, lambda: running() and probe())
        except (Failed, Ended) as error:
            raise Failed(f"{error}\n{self.logs(name)[-2000:]}") from None

    def inspect(self, name):
        return json.loads(self("inspect", name))[0]

    def process(self, name):
        """What `/proc` says of the container's first process."""
        pid = self.inspect(name)["State"]["Pid"]
        return Process(Path(f"/proc/{pid}"))

    def stop(self, name, seconds):
        """Sends SIGTERM; the exit code, and the seconds that it took."""
        begin = time.monotonic()
        self("stop", f"--time={seconds}", name, seconds=seconds + COMMAND_SECONDS)
        took = time.monotonic() - begin
        return self.inspect(name)["State"]["ExitCode"], took

    def remove_all(self):
        """Ends and removes every container that was started, and the cgroups above them."""
        for name in self.containers:
            try:
                self("rm", "--force", "--time=0", "--volumes", name)
            except Failed as error:
                print(f"   | {error}")
        # Of version 1 there is a hierarchy for each controller.
        top = Path("/sys/fs/cgroup")
        for parent in (top / self.name, *top.glob(f"*/{self.name}")):
            remove_cgroup(parent)


class Process:
    """A process as the kernel sees it."""

    def __init__(self, proc):
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        self.uids = {int(uid) for uid in status["Uid"].split()}
        self.capabilities = sum(int(status[kind], 16) for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"))
        self.can_gain = status["NoNewPrivs"].strip() != "1"
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        self.root_is_read_only = any(m[4] == "/" and "ro" in m[5].split(",") for m in mounts)


def hard_limit(kind, enough):
    most = resource.getrlimit(kind)[1]
    return enough if most == resource.RLIM_INFINITY else min(most, enough)


def remove_cgroup(path):
    for child in sorted(path.glob("**/"), reverse=True) if path.is_dir() else ():
        try:
            child.rmdir()
        except OSError:
            pass
