"""Objects against the schemas of Kubernetes, strictly: an unknown key is an error, since the API server drops it or
refuses it, by how it is asked.
"""

import functools
import json

import kubernetes_validate.utils as kubernetes_validate

VERSIONS = ("1.30", "1.33", "1.37")

# Groups of custom resources, whose schemas are their projects' own: `make manifests-custom`.
CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/")

# It reads its definitions, megabytes, anew for each object.
kubernetes_validate.schema_contents = functools.cache(kubernetes_validate.schema_contents)


def is_custom(one):
    return one["apiVersion"].startswith(CUSTOM)


def problems(one):
    """What is wrong with an object."""
    return _problems(json.dumps(one, sort_keys=True))


# Overlays share most of their objects.
@functools.cache
def _problems(text):
    found = (_problem(json.loads(text), version) for version in VERSIONS)
    return [problem for problem in found if problem]


def _problem(one, version):
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        return f"Kubernetes {version}: {where}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"Kubernetes {version}: {error.message}"
    return None
