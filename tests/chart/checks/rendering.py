"""What the chart renders: valid for Kubernetes, whole in itself, the same each time."""

import re
import shutil

import kubernetes_validate

from checks.helm import CHART, containers, find, objects, pod_specs, settled

# The oldest that Chart.yaml lets in, and the newest that there are schemas of.
VERSIONS = ("1.27", kubernetes_validate.latest_version())


def valid(items):
    """Each object by the schemas of Kubernetes, in which nothing stands that Kubernetes does not know."""
    wrong = []
    for item in items:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["apiVersion"].startswith("monitoring.coreos.com/"):
            wrong += [f"{name}: no {key}" for key in ("metadata", "spec") if not item.get(key)]
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                wrong.append(f"{name}, Kubernetes {version}: {path}: {error.message[:300]}")
            except kubernetes_validate.SchemaNotFoundError as error:
                wrong.append(f"{name}, Kubernetes {version}: {error.message}")
    return "\n".join(wrong)


def without_schema(items):
    """The kinds that only a custom resource definition describes."""
    return sorted({item["kind"] for item in items if item["apiVersion"].startswith("monitoring.coreos.com/")})


def whole(items, given):
    """What pods, Services and bindings name is there, or named in the values; labels and ports fit."""
    wrong = []
    there = {(item["kind"], item["metadata"]["name"]) for item in items}
    twice = [item for item in items if items.count(item) > 1]
    wrong += [f"{item['kind']} {item['metadata']['name']} is there twice" for item in twice]

    def needs(who, kind, name):
        if (kind, name) not in there and name not in given and name != "kube-root-ca.crt":
            wrong.append(f"{who} names the {kind} {name}, which nobody makes")

    pods = list(pod_specs(items))
    for what, metadata, spec in pods:
        if "serviceAccountName" in spec:
            needs(what, "ServiceAccount", spec["serviceAccountName"])
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for volume in volumes.values():
            for source in volume.get("projected", {}).get("sources", [volume]):
                for key, kind, field in (
                    ("configMap", "ConfigMap", "name"),
                    ("secret", "Secret", "name" if source is not volume else "secretName"),
                    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
                ):
                    if key in source:
                        needs(what, kind, source[key][field])
        mounted = [mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", [])]
        wrong += [f"{what} mounts {name}, which is no volume of it" for name in set(mounted) - set(volumes)]
        wrong += [f"{what} has the volume {name}, which nothing mounts" for name in set(volumes) - set(mounted)]
        for container in containers(spec):
            if "resources" not in container:
                wrong.append(f"{what}, {container['name']}: no resources")
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    needs(what, "Secret", variable["valueFrom"]["secretKeyRef"]["name"])
    for item in items:
        selector = item.get("spec", {}).get("selector")
        if item["kind"] == "Service":
            of = [spec for _, metadata, spec in pods if selector.items() <= metadata["labels"].items()]
            names = {port["name"] for spec in of for container in containers(spec) for port in container.get("ports", [])}
            for port in item["spec"]["ports"]:
                if len(of) != 1 or port["targetPort"] not in names:
                    wrong.append(f"Service {item['metadata']['name']}: nobody, or several, have its {port['targetPort']}")
        elif item["kind"] in ("Deployment", "DaemonSet"):
            of = [what for what, metadata, _ in pods if selector["matchLabels"].items() <= metadata["labels"].items()]
            if len(of) != 1:
                wrong.append(f"{item['kind']} {item['metadata']['name']} selects the pods of {', '.join(of) or 'nobody'}")
        elif item["kind"] == "ClusterRoleBinding":
            needs(item["metadata"]["name"], "ClusterRole", item["roleRef"]["name"])
            for subject in item["subjects"]:
                needs(item["metadata"]["name"], "ServiceAccount", subject["name"])
    return "\n".join(wrong)


def joined_up(items, release, namespace):
    """The daemons join the scheduler that is there: its Service, its audience, the account that it lets in."""
    daemon = find(items, "DaemonSet", f"{release}-dfdaemon")["spec"]["template"]["spec"]
    container = next(c for c in daemon["containers"] if c["name"] == "dfdaemon")
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    service = f"{release}-scheduler"
    host = f"$({service.upper().replace('-', '_')}_SERVICE_HOST)"
    config = find(items, "ConfigMap", service)["data"]["scheduler.toml"]
    volume = next(volume for volume in daemon["volumes"] if volume["name"] == "join")
    token = volume["projected"]["sources"][0]["serviceAccountToken"]
    mount = next(mount for mount in container["volumeMounts"] if mount["name"] == "join")
    wrong = []
    if not re.fullmatch(rf"dfauth1\.[\w-]{{43}}@{re.escape(host)}:6510", variables["DFDAEMON_JOIN"]):
        wrong.append(f"DFDAEMON_JOIN is {variables['DFDAEMON_JOIN']}")
    if find(items, "Service", service)["spec"]["ports"][0]["port"] != 6510 or not daemon["enableServiceLinks"]:
        wrong.append("the Service is not at the port, or kubelet does not tell where it is")
    if f'service_accounts = ["{namespace}/{daemon["serviceAccountName"]}"]' not in config:
        wrong.append(f"the scheduler does not let {daemon['serviceAccountName']} in")
    if f'audience = "{token["audience"]}"' not in config:
        wrong.append(f"the scheduler asks for another audience than {token['audience']}")
    if variables["DFDAEMON_SERVICE_ACCOUNT_TOKEN_FILE"] != f"{mount['mountPath']}/{token['path']}":
        wrong.append("the token is elsewhere than the daemon is told")
    return "\n".join(wrong)


def same_twice(helm, values):
    """Two renderings differ in what is made anew, and in nothing else."""
    first, second = helm.template(values), helm.template(values)
    if settled(first) != settled(second):
        return "two renderings differ"
    made = "identity:" not in (values.read_text() if values else "") and "scheduler: {enabled: false" not in (
        values.read_text() if values else ""
    )
    if (first != second) != made:
        return "keys are made anew where they are given" if first != second else "two renderings have the same keys"
    return None


def hooks(items):
    """The clean-up comes after everything is gone, on each node; a Job of a later weight waits; both are taken away."""
    daemons, cleanup = (find(items, "DaemonSet", f"damselfly-{name}") for name in ("dfdaemon", "cleanup"))
    job = find(items, "Job", "damselfly-cleanup")
    wrong = []
    notes = [item["metadata"]["annotations"] for item in (cleanup, job)]
    for note in notes:
        policy = set(note["helm.sh/hook-delete-policy"].split(","))
        if note["helm.sh/hook"] != "post-delete" or not {"before-hook-creation", "hook-succeeded"} <= policy:
            wrong.append(f"the hook is {note}")
    if int(notes[0]["helm.sh/hook-weight"]) >= int(notes[1]["helm.sh/hook-weight"]):
        wrong.append("the Job does not come after the DaemonSet")
    specs = [item["spec"]["template"]["spec"] for item in (daemons, cleanup)]
    for key in ("nodeSelector", "tolerations", "affinity"):
        if specs[0].get(key) != specs[1].get(key):
            wrong.append(f"the clean-up goes to other nodes than the daemons: {key}")

    # For dfctl the node's root directory is /host, so that what it is told means the same in all pods.
    seen = []
    for spec in specs:
        paths = {v["name"]: v["hostPath"]["path"] for v in spec["volumes"] if "hostPath" in v}
        mine = [c for c in containers(spec) if c["command"] == ["dfctl"]]
        mounts = {m["mountPath"]: paths[m["name"]] for c in mine for m in c.get("volumeMounts", []) if m["name"] in paths}
        wrong += [f"{path} of the node is mounted at {at}" for at, path in mounts.items() if at != f"/host{path}"]
        states = {a for c in mine for a in c["args"] if a.startswith("--state=")}
        seen.append(({at for at in mounts if at.startswith("/host/etc/")}, states))
    if seen[0] != seen[1]:
        wrong.append(f"the clean-up has other directories than the set-up: {seen}")
    cache = next(v["hostPath"]["path"] for v in specs[0]["volumes"] if v["name"] == "cache")
    if f"/host{cache}" not in next(c for c in specs[1]["initContainers"] if c["name"] == "cache")["args"]:
        wrong.append(f"the cache at {cache} is not what is removed")
    return "\n".join(wrong)


def files(helm, on):
    """Dashboard and alerts are left out while their files are not there, and are what the files are once they are."""
    copy = helm.scratch / "chart"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CHART, copy)
    for name in ("dashboard.json", "alerts.yaml"):
        (copy / "files" / name).unlink(missing_ok=True)
    there = {(item["kind"], item["metadata"]["name"]) for item in objects(helm.template(on, chart=copy))}
    if there & {("PrometheusRule", "damselfly"), ("ConfigMap", "damselfly-dashboard")}:
        return "they are there without their files"
    (copy / "files").mkdir(exist_ok=True)
    dashboard = '{"title": "{{ $labels.instance }}", "panels": []}\n'
    rule = {"alert": "A", "expr": "up == 0", "annotations": {"summary": "{{ $labels.instance }} is down"}}
    (copy / "files" / "dashboard.json").write_text(dashboard)
    (copy / "files" / "alerts.yaml").write_text(f"groups:\n  - name: a\n    rules: [{rule}]\n")
    items = objects(helm.template(on, chart=copy))
    shutil.rmtree(copy)
    if find(items, "ConfigMap", "damselfly-dashboard")["data"]["damselfly.json"] != dashboard:
        return "the dashboard is not what its file is"
    if find(items, "PrometheusRule", "damselfly")["spec"]["groups"] != [{"name": "a", "rules": [rule]}]:
        return "the alerts are not what their file is"
    return None
