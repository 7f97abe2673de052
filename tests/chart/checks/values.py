"""The values: what is refused, and that schema, README and values say the same."""

import json
import subprocess
import sys

import yaml

from checks.helm import CHART, Refused

PASSED_ON = "what is passed on to Kubernetes as it is"


def names(key, message):
    """Whether a message names a key: with dots or slashes, or, of one that is not known, with the table that it stands in."""
    above, _, last = key.rpartition(".")
    if key in message or f"/{key.replace('.', '/')}" in message:
        return True
    return last in message and (not above or above in message or f"/{above.replace('.', '/')}" in message)


def refused(helm, bad):
    """The values are refused, with a message that names the key and says why."""
    path = helm.scratch / "bad.yaml"
    path.write_text(yaml.safe_dump(bad["values"]))
    try:
        helm.template(path)
    except Refused as refusal:
        message = str(refusal)
        if names(bad["key"], message) and bad["why"] in message:
            return None
        return f"refused, but not as {bad['key']} ({bad['why']}):\n{message}"
    return "not refused"


def keys_without_comment_or_schema():
    """`tests/chart/readme` without arguments, which looks at README.md and values.schema.json."""
    done = subprocess.run(
        [sys.executable, "tests/chart/readme"], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stderr.strip() or done.stdout.strip() if done.returncode else None


def schema_is_closed():
    """Each object of the schema says what else it takes: nothing, or what Kubernetes takes; and each key of it has a value."""
    document = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    wrong = []

    def look(schema, value, path):
        if "properties" in schema:
            if schema.get("additionalProperties") is not False:
                wrong.append(f"{path}: takes unknown keys")
            for key, inner in schema["properties"].items():
                known = isinstance(value, dict) and key in value
                if value is not None and not known and not optional(path, key):
                    wrong.append(f"{path}.{key}: has no value in values.yaml")
                look(inner, value[key] if known else None, f"{path}.{key}")
        elif schema.get("type") == "object" and "additionalProperties" not in schema:
            wrong.append(f"{path}: does not say what else it takes")
        if "items" in schema:
            look(schema["items"], None, f"{path}[]")

    look(document, values, "")
    return "\n".join(wrong)


def optional(path, key):
    """What may be left out of values.yaml: `global`, for charts above, and what Kubernetes takes below a key."""
    passed_on = (".affinity", ".seLinuxOptions", ".updateStrategy", ".resources")
    return (path, key) == ("", "global") or path.endswith(passed_on)
