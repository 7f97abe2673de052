"""All checks, in order: `tests/chart/run` calls this."""

import argparse
import json
import sys

import yaml

from checks import life, privileges, programs, rendering, values
from checks.helm import CASES, CHART, NAMESPACE, RELEASE, Helm, objects
from checks.tally import Tally

# Names that cases give to objects that are not the chart's.
GIVEN = {"registries", "damselfly-keys", "damselfly-join", "damselfly-state"}


def main():
    """Ends with the count; 1 if anything failed."""
    parser = argparse.ArgumentParser()
    for name in ("--helm", "--programs", "--scratch"):
        parser.add_argument(name, required=True)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    tally, helm = Tally(options.only), Helm(options.helm, options.scratch)

    cases = {"no values at all": None, **{path.stem: path for path in sorted(CASES.glob("*.yaml"))}}
    rendered = render(tally, helm, cases)
    if len(rendered) < len(cases):
        return tally.finish()
    defaults = rendered["no values at all"]
    of_each_rendering(tally, helm, cases, rendered)
    tally.check("daemons join the scheduler of the release", lambda: rendering.joined_up(defaults, RELEASE, NAMESPACE))
    for case in ("no values at all", "everything-on"):
        tally.check(f"clean-up, {case}", lambda case=case: rendering.hooks(rendered[case]))
    tally.check("dashboard and alerts", lambda: rendering.files(helm, cases["everything-on"]))
    tally.check("identity at upgrades", lambda: life.identity_lasts(helm))
    tally.check("nothing stays after uninstall", lambda: life.nothing_stays(helm, cases["crio"]))
    for bad in yaml.safe_load((CASES.parent / "bad.yaml").read_text()):
        given = json.dumps(bad["values"])
        tally.check(f"refused: {given}", lambda bad=bad: values.refused(helm, bad))
    tally.check("README.md and values.schema.json say what values.yaml says", values.keys_without_comment_or_schema)
    tally.check("the schema takes nothing that it does not know", values.schema_is_closed)
    of_programs(tally, programs.Programs(options.programs), rendered)
    return tally.finish()


def render(tally, helm, cases):
    """The objects of each case."""
    rendered = {}

    def one(case, path):
        helm.run("lint", CHART, "--strict", *(["--values", path] if path else []))
        rendered[case] = objects(helm.template(path))

    for case, path in cases.items():
        tally.check(f"lint and template, {case}", lambda case=case, path=path: one(case, path), needed=True)
    return rendered


def of_each_rendering(tally, helm, cases, rendered):
    """What holds of every one."""
    seen = privileges.Privileges()
    left_out = set()
    for case, items in rendered.items():
        path = cases[case]
        given = yaml.safe_load(path.read_text()) if path else {}
        root = given.get("dfdaemon", {}).get("hostPath", "/var/lib/damselfly")
        name = given.get("fullnameOverride", RELEASE)
        assert all(name in item["metadata"]["name"] for item in items), f"{case}: a name that is not the chart's"
        tally.check(f"Kubernetes {' and '.join(rendering.VERSIONS)}, {case}", lambda items=items: rendering.valid(items))
        tally.check(f"whole, {case}", lambda items=items: rendering.whole(items, GIVEN))
        tally.check(f"privileges, {case}", lambda items=items, root=root: seen.check(items, root))
        tally.check(f"roles, {case}", lambda items=items: privileges.roles(items))
        tally.check(f"the same twice, {case}", lambda path=path: rendering.same_twice(helm, path))
        left_out |= set(rendering.without_schema(items))
    if not tally.only:
        tally.check("no privilege is allowed that nobody has", seen.unused)
    print(f"        not checked by a schema: {', '.join(sorted(left_out))}")


def of_programs(tally, found, rendered):
    """What needs the programs."""
    checks = {
        "the programs have the flags that they are given": lambda: programs.flags(
            found, {line for items in rendered.values() for line in programs.command_lines(items)}
        ),
        "scheduler and daemon take the identity": lambda: programs.identity(
            found, rendered["no values at all"], RELEASE
        ),
        "the scheduler understands its configuration": lambda: programs.configuration(
            found, rendered["no values at all"], RELEASE
        ),
    }
    missing = found.missing()
    for name, test in checks.items():
        if missing:
            tally.skip(name, f"{found.directory} has no {', '.join(missing)}")
        else:
            tally.check(name, test)


if __name__ == "__main__":
    sys.exit(main())
