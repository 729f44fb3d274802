"""Custom resources against their projects' own definitions, which `run.sh custom` gets. `make manifests-custom` runs it.
"""

import copy

import jsonschema
import yaml

import build

# Validators by apiVersion and kind.
SCHEMAS = {}

# A bare `=` is text, whatever YAML 1.1 had in mind with it.
build.LOADER.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def load(folder):
    for file in sorted(folder.rglob("*.yaml")):
        for definition in yaml.load_all(file.read_text(), build.LOADER):
            if not definition or definition["kind"] != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = strict(copy.deepcopy(version["schema"]["openAPIV3Schema"]), top=True)
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                SCHEMAS[key] = jsonschema.Draft7Validator(schema)


def strict(schema, top=False):
    """The schema, with unknown keys refused and Kubernetes' own words turned into JSON Schema's."""
    if "properties" in schema:
        for part in schema["properties"].values():
            strict(part)
        if top:
            schema["properties"]["metadata"] = {"type": "object"}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(key), dict):
            strict(schema[key])
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("nullable") and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def problems(one):
    validator = SCHEMAS.get((one["apiVersion"], one["kind"]))
    if not validator:
        return [f"no definition of {one['apiVersion']} {one['kind']}"]
    return [f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message[:300]}"
            for error in validator.iter_errors(one)]
