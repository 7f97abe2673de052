"""Which containers have more than an ordinary one, and that no other does."""

from checks.helm import containers, pod_specs

# What each container may have. Whatever is not listed here is found fault with, and so is what is listed and not used.
CACHE, RECORD, BOTH = "the cache's directory", "the record's directory", "the directory above both"
RUNTIMES = "the runtimes' directories"
ALLOWED = {
    ("Deployment scheduler", "scheduler"): {"token of the API server"},
    ("DaemonSet dfdaemon", "node-labels"): {"network of the node", "token of the API server"},
    ("DaemonSet dfdaemon", "dfdaemon"): {"network of the node", "root", CACHE},
    ("DaemonSet dfdaemon", "runtime"): {"network of the node", "root", RECORD, RUNTIMES},
    ("DaemonSet cleanup", "runtime"): {"root", BOTH, RUNTIMES},
    ("DaemonSet cleanup", "cache"): {"root", BOTH},
    ("Pod test-dfdaemon", "status"): {"network of the node"},
    ("Pod test-dfdaemon", "pull"): {"network of the node"},
}
IN_ETC = ("/etc/containerd", "/etc/containers")
POD_WIDE = {"hostNetwork": "network of the node", "hostPID": "processes of the node", "hostIPC": "IPC of the node"}


def directory(path, root):
    """What a directory of the node is."""
    named = {f"{root}/cache": CACHE, f"{root}/runtime": RECORD, root: BOTH}
    return RUNTIMES if path in IN_ETC else named.get(path, f"{path} of the node")


def of_container(spec, container, root):
    """What a container has beyond an ordinary one."""
    pod, own = spec.get("securityContext", {}), container.get("securityContext", {})
    has = {name for key, name in POD_WIDE.items() if spec.get(key)}
    if own.get("privileged"):
        has.add("all privileges")
    has |= {f"capability {name}" for name in own.get("capabilities", {}).get("add", [])}
    if own.get("capabilities", {}).get("drop") != ["ALL"]:
        has.add("the usual capabilities")
    if own.get("allowPrivilegeEscalation") is not False:
        has.add("a way to more privileges")
    if own.get("readOnlyRootFilesystem") is not True:
        has.add("a writable root file system")
    if own.get("seccompProfile", pod.get("seccompProfile")) != {"type": "RuntimeDefault"}:
        has.add("no seccomp profile")
    user = own.get("runAsUser", pod.get("runAsUser"))
    if not user:
        has.add("root")
    elif own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        has.add("no word that it is not root")
    if "procMount" in own or pod.get("sysctls"):
        has.add("another /proc, or sysctls")
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        if "hostPath" in volume:
            has.add(directory(volume["hostPath"]["path"], root))
        for source in volume.get("projected", {}).get("sources", []):
            token = source.get("serviceAccountToken")
            if token and not token.get("audience"):
                has.add("token of the API server")
        if mount.get("mountPropagation", "None") != "None":
            has.add("mounts that spread")
    # Said of the pod, it wins over what the account says.
    if spec.get("automountServiceAccountToken") is not False:
        has.add("token of the API server")
    return has


class Privileges:
    """Looks at all renderings, to say at the end what nobody needs."""

    def __init__(self):
        self.used = {}

    def check(self, items, root):
        """The containers of one rendering."""
        wrong = []
        for what, _, spec in pod_specs(items):
            for container in containers(spec):
                who = (what, container["name"])
                has = of_container(spec, container, root)
                self.used.setdefault(who, set()).update(has)
                wrong += [f"{what}, {container['name']} has {name}" for name in sorted(has - ALLOWED.get(who, set()))]
        return "\n".join(wrong)

    def unused(self):
        """What is allowed and no rendering has."""
        spare = [(who, name) for who, names in ALLOWED.items() for name in names - self.used.get(who, set())]
        return "\n".join(f"{', '.join(who)}: no need for {name}" for who, name in spare)


def roles(items):
    """The rules of roles are those that are argued for, and no others."""
    allowed = [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
    ]
    rules = [rule for item in items if item["kind"] in ("ClusterRole", "Role") for rule in item["rules"]]
    return "\n".join(f"a role may {rule}" for rule in rules if rule not in allowed)
