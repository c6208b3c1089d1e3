"""What an XID means for whoever runs the GPU, as data.

Names: NVIDIA's "XID Errors" document (docs.nvidia.com/deploy/xid-errors). Classes: the XIDs that NVIDIA's own
Kubernetes device plugin does not hold against a GPU's health (k8s-device-plugin, internal/rm/health.go) are the
application's; those after which a GPU must be reset or its node rebooted are the list of nvidia_gpu_exporter
(docs/METRICS.md). Everything else is a warning: worth a look, not proof of anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.model import Severity

APPLICATION = frozenset({13, 31, 43, 45, 68, 109})
NEEDS_RESET = frozenset({48, 62, 64, 74, 79, 95, 119, 120})

NAMES: Mapping[int, str] = {
    13: "graphics engine exception",
    31: "GPU memory page fault",
    32: "invalid or corrupted push buffer stream",
    38: "driver firmware error",
    43: "GPU stopped processing",
    45: "preemptive cleanup, due to previous errors",
    48: "double bit ECC error",
    61: "internal microcontroller breakpoint or warning",
    62: "internal microcontroller halt",
    63: "ECC page retirement or row remapping recorded",
    64: "ECC page retirement or row remapping failed",
    68: "video decoder exception",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high single-bit ECC error rate",
    94: "contained ECC error",
    95: "uncontained ECC error",
    109: "context switch timeout",
    119: "GSP RPC timeout",
    120: "GSP error",
}


def class_of(number: int) -> str:
    """This will give an XID's class: application, reset or warning."""
    if number in APPLICATION:
        return "application"
    return "reset" if number in NEEDS_RESET else "warning"


def severity_of(number: int) -> Severity:
    """This will say how bad an XID is for the GPU; an application's own mistake is not."""
    return {"application": Severity.INFO, "reset": Severity.CRITICAL}.get(class_of(number), Severity.WARNING)
