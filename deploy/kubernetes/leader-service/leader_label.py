"""Keeps the label `vaylix-role` of this pod as its node says: `leader` while it leads, none otherwise.

A label and no readiness gate: a follower has to stay ready, or neither rolling updates nor disruption budgets would know which
nodes can be done without. Nothing wrong can come of a label that is late, because a node that does not lead refuses writes.

Environment: POD_NAME, POD_NAMESPACE, NODE_URL (the control plane of the node), API_URL (of Kubernetes), CREDENTIALS (a directory with
`token` and `ca.crt`).
"""

import json
import os
import pathlib
import ssl
import sys
import time
import urllib.request

LABEL = "vaylix-role"
INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 2
# Said anew from time to time, should somebody else have changed it.
REPEAT_SECONDS = 60


def leads(url, context):
    """Whether the node beside us leads. One that does not answer does not."""
    try:
        with urllib.request.urlopen(f"{url}/leader", timeout=TIMEOUT_SECONDS, context=context) as answer:
            return answer.status == 200
    except OSError:
        return False


def write_label(role):
    """Sets the label, or takes it away. Fails with OSError."""
    credentials = pathlib.Path(os.environ["CREDENTIALS"])
    # Read each time, because Kubernetes replaces it.
    token = (credentials / "token").read_text(encoding="utf-8").strip()
    trusted = ssl.create_default_context(cafile=credentials / "ca.crt")
    request = urllib.request.Request(
        f"{os.environ['API_URL']}/api/v1/namespaces/{os.environ['POD_NAMESPACE']}/pods/{os.environ['POD_NAME']}",
        data=json.dumps({"metadata": {"labels": {LABEL: role}}}).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/merge-patch+json"},
        method="PATCH")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=trusted):
        pass


def main():
    # The node is on this machine: nobody else can answer in its place, whatever its certificate says.
    anybody = ssl._create_unverified_context() if os.environ["NODE_URL"].startswith("https:") else None
    written, written_at = None, 0.0
    while True:
        role = "leader" if leads(os.environ["NODE_URL"], anybody) else None
        if (role,) != written or time.monotonic() - written_at > REPEAT_SECONDS:
            try:
                write_label(role)
                print(f"{LABEL} is {role or 'absent'} now", flush=True)
                written, written_at = (role,), time.monotonic()
            except OSError as error:
                print(f"the label was not written: {error}", file=sys.stderr, flush=True)
        time.sleep(INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
