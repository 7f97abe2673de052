"""The programs themselves: the flags that the chart gives them, and the identity that it makes for them."""

import base64
import contextlib
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from checks.helm import containers, find, pod_specs

PROGRAMS = ("scheduler", "dfdaemon", "dfctl")
PATIENCE_SECONDS = 20


class Programs:
    """Where they are."""

    def __init__(self, directory):
        self.directory = Path(directory).resolve()

    def missing(self):
        """Those that are not there."""
        return [name for name in PROGRAMS if not os.access(self.directory / name, os.X_OK)]

    def run(self, program, *arguments):
        """Runs one to its end."""
        return subprocess.run(
            [self.directory / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    @contextlib.contextmanager
    def running(self, directory, program, *arguments):
        """Runs one until the end of the `with`; what it says is in the file that is given."""
        log = directory / f"{program}.log"
        with log.open("w") as out:
            command = [self.directory / program, *map(str, arguments)]
            environment = {"PATH": os.environ["PATH"]}
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
            try:
                yield log
            finally:
                process.terminate()
                try:
                    process.wait(PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def said(log, pattern):
    """What a program said, once it has: the first group of the pattern."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        found = re.search(pattern, log.read_text())
        if found:
            return found[1] if found.groups() else found[0]
        time.sleep(0.05)
    raise AssertionError(f"it did not say {pattern}:\n{log.read_text()[-1500:]}")


def command_lines(items):
    """(program, arguments, names of variables) of each container."""
    for _, _, spec in pod_specs(items):
        for container in containers(spec):
            variables = [variable["name"] for variable in container.get("env", [])]
            yield container["command"][0], tuple(container.get("args", [])), tuple(variables)


def flags(programs, lines):
    """Commands, flags and variables are among those that the programs know."""
    helps, wrong = {}, set()

    def help_of(words):
        if words not in helps:
            helps[words] = programs.run(*words, "--help").stdout
        return helps[words]

    for program, arguments, variables in lines:
        words, rest = (program,), list(arguments)
        while rest and re.search(rf"^  {re.escape(rest[0])}\b", commands(help_of(words)), re.MULTILINE):
            words += (rest.pop(0),)
        text = help_of(words)
        if commands(text):
            wrong.add(f"{' '.join(words)} has no command {rest[0]}")
            continue
        for argument in rest:
            flag = argument.partition("=")[0]
            if flag.startswith("-"):
                if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text):
                    wrong.add(f"{' '.join(words)} has no {flag}")
            elif not re.search(r"^Usage:.*[\[<](?!OPTIONS)[A-Z_]+", text, re.MULTILINE):
                wrong.add(f"{' '.join(words)} takes no {argument}")
        for variable in variables:
            if variable.startswith("DFDAEMON_") and f"[env: {variable}" not in text:
                wrong.add(f"{' '.join(words)} has no variable {variable}")
    return "\n".join(sorted(wrong))


def commands(text):
    """The part of a help text that lists commands."""
    return text.partition("\nCommands:\n")[2].partition("\n\n")[0]


def identity(programs, items, release):
    """The scheduler takes the keys as its own, is known by the hash that daemons are given, and a daemon joins it."""
    keys = find(items, "Secret", f"{release}-identity")["data"]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        state, store = directory / "state", directory / "store"
        state.mkdir(mode=0o700)
        for key in ("ca.key", "ticket.key"):
            path = state / key
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(keys[key]))
        here = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        with programs.running(directory, "scheduler", "--state", state, *here) as log:
            grpc = said(log, r'the scheduler is ready.*?grpc"?[:=]"?([\d.]+:\d+)')
            admin = said(log, r'the scheduler is ready.*?admin"?[:=]"?([\d.]+:\d+)')
            token = (state / "join-token").read_text().strip()
            authority = base64.b64decode(keys["authority"]).decode()
            if token.split(".")[1] != authority.removeprefix("dfauth1."):
                return f"the scheduler is {token.split('.')[1]}, and daemons are told {authority}"
            join = directory / "join"
            join.touch(mode=0o600)
            join.write_text(f"{token}@{grpc}\n")
            peers = ("--control-listen", "127.0.0.1:0", "--bulk-listen", "127.0.0.1:0")
            with programs.running(directory, "dfdaemon", "--join-file", join, "--store", store, *here, *peers) as said_by:
                said(said_by, "this host is a member of the cluster")
                said(log, "a host has joined")
                # What `helm test` asks of the scheduler.
                done = programs.run("dfctl", "status", f"--daemon=http://{admin}")
                if done.returncode or "HOST" not in done.stdout:
                    return f"dfctl status of the scheduler: {done.stdout}{done.stderr}"
    return None


def configuration(programs, items, release):
    """The scheduler understands its configuration file: out of a pod, it misses nothing but the API server's address."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = directory / "scheduler.toml"
        config.write_text(find(items, "ConfigMap", f"{release}-scheduler")["data"]["scheduler.toml"])
        here = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", directory / "state")
        done = programs.run("scheduler", "--config", config, *here)
    if "kubernetes.api" in done.stderr:
        return None
    return f"ended with {done.returncode}: {done.stderr}"
