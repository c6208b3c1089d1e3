"""Checks deploy/daemonset and deploy/control-plane against the schemas of Kubernetes releases: `make manifests`.

Fields that a release does not know are errors: a misspelt one would be left out without a word.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
RELEASES = 6


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    """This will give each object with the file that it stands in."""
    for folder in ("daemonset", "control-plane"):
        for path in sorted((DEPLOY / folder).glob("*.yaml")):
            for document in yaml.safe_load_all(path.read_text()):
                if document is not None and document["kind"] != "Kustomization":
                    yield path, document


def main() -> int:
    """This will say what the last releases would refuse."""
    major, minor = map(int, kubernetes_validate.latest_version().split(".")[:2])
    releases = [f"{major}.{minor - n}" for n in reversed(range(RELEASES))]
    wrong, checked = [], 0
    for release in releases:
        for path, document in documents():
            checked += 1
            try:
                kubernetes_validate.validate(document, release, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append(f"{path.relative_to(DEPLOY)}: Kubernetes {release}: {error.message}")
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    sys.stdout.write(f"{checked} objects checked for Kubernetes {', '.join(releases)}; {len(wrong)} refused\n")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
