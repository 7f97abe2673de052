"""A release's life, by the real helm against a stand-in for the API server."""

import base64

import yaml

from checks.helm import CHART, NAMESPACE, RELEASE, settled
from checks.stand_in import Server


class Cluster:
    """A server, and helm that speaks to it."""

    def __init__(self, helm, server):
        self.helm, self.server = helm, server
        self.environment = {"KUBECONFIG": str(server.kubeconfig(helm.scratch / "kubeconfig"))}

    def helm_(self, command, *arguments):
        """A command on the release."""
        chart = [CHART] if command in ("install", "upgrade") else []
        return self.helm.run(
            command, RELEASE, *chart, "--namespace", NAMESPACE, *arguments, environment=self.environment
        )

    def authority_of_daemons(self):
        """By what the daemons know the scheduler."""
        daemons = self.server.of_kind("DaemonSet")[f"{RELEASE}-dfdaemon"]["spec"]["template"]["spec"]
        variables = next(c for c in daemons["containers"] if c["name"] == "dfdaemon")["env"]
        return next(v["value"] for v in variables if v["name"] == "DFDAEMON_JOIN").partition("@")[0]

    def kept(self, name):
        """A Secret's data."""
        return self.server.of_kind("Secret")[f"{RELEASE}-{name}"]["data"]


def identity_lasts(helm):
    """Keys and join token survive upgrades and a change of everything else; lost keys are made anew, for both sides."""
    with Server() as server:
        cluster = Cluster(helm, server)
        token = ("--set", "join.method=token")
        cluster.helm_("install", *token)
        keys, join = cluster.kept("identity"), cluster.kept("join")
        cluster.helm_("upgrade", *token, "--set", "scheduler.log=warn,dfdaemon.quota=9GiB")
        if (cluster.kept("identity"), cluster.kept("join")) != (keys, join):
            return "an upgrade makes other keys, or another join token"
        cluster.helm_("upgrade", "--reset-values")
        authority = base64.b64decode(keys["authority"]).decode()
        if cluster.kept("identity") != keys or cluster.authority_of_daemons() != authority:
            return f"daemons know the scheduler by {cluster.authority_of_daemons()}, and it is {authority}"
        if f"{RELEASE}-join" in server.of_kind("Secret"):
            return "a join token is kept that nobody needs"
        # Somebody deletes it.
        lost = next(path for path, item in server.objects.items() if item["metadata"]["name"] == f"{RELEASE}-identity")
        del server.objects[lost]
        cluster.helm_("upgrade")
        now = base64.b64decode(cluster.kept("identity")["authority"]).decode()
        if now == authority or cluster.authority_of_daemons() != now:
            return "lost keys are not made anew for scheduler and daemons alike"
        cluster.helm_("rollback", "1")
        if cluster.kept("identity") != keys:
            return "a rollback does not bring the keys of its time back"
        # What is left of it makes no sense: better to say so than to make others.
        secret = server.objects[lost]
        secret["data"] = {"ca.key": secret["data"]["ca.key"]}
        try:
            cluster.helm_("upgrade")
        except Exception as refusal:  # noqa: BLE001: its text is looked at
            return None if "has no ticket.key" in str(refusal) else f"refused, but: {refusal}"
        return "half an identity is taken"


def nothing_stays(helm, values):
    """After install, upgrade and uninstall nothing is left in the cluster; the clean-up comes last and goes too."""
    with Server() as server:
        cluster = Cluster(helm, server)
        cluster.helm_("install", "--values", values)
        first = settled(yaml.safe_dump(cluster.server.of_kind("DaemonSet")))
        cluster.helm_("upgrade", "--values", values)
        if "cleanup" in first or any("cleanup" in name for _, _, name in server.log):
            return "the clean-up runs before its time"
        server.log.clear()
        cluster.helm_("uninstall")
        if server.objects:
            return f"left: {', '.join(server.objects)}"
        name = f"{RELEASE}-cleanup"
        last = [("made", "DaemonSet", name), ("made", "Job", name), ("gone", "Job", name), ("gone", "DaemonSet", name)]
        if server.log[-4:] != last or any(what != "gone" for what, _, _ in server.log[:-4]):
            return f"the clean-up is not the last thing: {server.log}"
        return None
