"""Drives a real three-node cluster from outside, as an operator's own tools would.

Once over gRPC with a client that knows nothing but an address: it learns services and messages by reflection. Once over
HTTP with curl. Nothing here is generated from, or knows, the .proto files of the repository.

usage: drive.py VAYLIX_BINARY
"""

import base64
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

PATIENCE_SECONDS = 60
BASIC = "Basic " + base64.b64encode(b"vaylix:vaylix").decode()


class Node:
    """One server process and where its control plane is."""

    def __init__(self, binary, folder, name, ports, peers, secret):
        self.name = name
        self.admin = f"127.0.0.1:{ports[1]}"
        self.log = open(folder / f"{name}.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [binary, "--data-dir", folder / name, "--port", str(ports[0]), "--admin-port", str(ports[1]),
             "--node-id", name, "--cluster-peers", peers, "--cluster-secret-file", secret],
            stdout=self.log, stderr=subprocess.STDOUT)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def until(what, look):
    """Looks until there is something, and returns it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE_SECONDS} s: {what}")


def free_ports(count):
    import socket
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Grpc:
    """A client that learns everything by reflection."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return sorted(self.database.get_services())

    def call(self, method, **fields):
        """Calls `Service/Method` of the package; what comes back is JSON, a list of it for a stream."""
        service_name, method_name = method.split("/")
        service = self.pool.FindServiceByName(f"vaylix.admin.v1.{service_name}")
        found = service.methods_by_name[method_name]
        request_type = message_factory.GetMessageClass(found.input_type)
        answer_type = message_factory.GetMessageClass(found.output_type)
        path = f"/{service.full_name}/{method_name}"
        open_call = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        call = open_call(path, request_serializer=request_type.SerializeToString,
                         response_deserializer=answer_type.FromString)
        request = json_format.ParseDict(fields, request_type())
        answer = call(request, metadata=[("authorization", BASIC)], timeout=PATIENCE_SECONDS)
        if found.server_streaming:
            return (json_format.MessageToDict(part) for part in answer)
        return json_format.MessageToDict(answer)


def curl(method, address, path, body=None, expect=200):
    """An operation in JSON, over HTTP."""
    command = ["curl", "-sS", "--max-time", str(PATIENCE_SECONDS), "-X", method, "-u", "vaylix:vaylix",
               "-w", "\n%{http_code}", f"http://{address}{path}"]
    if body is not None:
        command += ["-d", json.dumps(body)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer, status = text.rsplit("\n", 1)
    assert int(status) == expect, f"{method} {path}: {status} {answer}"
    return json.loads(answer) if answer.startswith("{") else answer


def leader_of(nodes):
    def look():
        for node in nodes:
            probe = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{node.admin}/leader"],
                                   capture_output=True, text=True)
            if probe.stdout == "200":
                return node
        return None
    return until("a node leads", look)


def drive_grpc(nodes):
    leader = leader_of(nodes)
    client = Grpc(leader.admin)
    services = client.services()
    for expected in ["Access", "Audit", "Backup", "Cluster", "Key", "Maintenance"]:
        assert f"vaylix.admin.v1.{expected}Service" in services, services
    assert "grpc.health.v1.Health" in services, services

    status = client.call("ClusterService/GetStatus")["status"]
    assert status["role"] == "ROLE_LEADER" and status["voterCount"] == 3, status
    assert len(client.call("ClusterService/ListMembers")["members"]) == 3

    client.call("AccessService/CreateRole", name="readers")
    client.call("AccessService/GrantPermission", role="readers", grant={"permission": "read", "pattern": "app:*"})
    client.call("AccessService/CreateUser", name="al", password="correct horse 7 battery")
    client.call("AccessService/GrantRole", user="al", role="readers")
    users = client.call("AccessService/ListUsers")["users"]
    assert ["readers"] in [user.get("roles") for user in users if user["name"] == "al"], users

    client.call("MaintenanceService/SetMaintenanceMode", enabled=True)
    assert client.call("MaintenanceService/GetMaintenanceMode")["enabled"] is True
    client.call("MaintenanceService/SetMaintenanceMode", enabled=False)
    client.call("MaintenanceService/TakeSnapshot")
    assert len(client.call("MaintenanceService/RotateStorageKey")["keyId"]) == 36

    value = base64.b64encode(b"by reflection").decode()
    assert client.call("KeyService/PutKey", key="app:1", value=value, expectedVersion="0")["version"] == "1"
    entry = client.call("KeyService/GetKey", key="app:1")["entry"]
    assert (entry["value"], entry["version"]) == (value, "1"), entry
    assert [key["key"] for key in client.call("KeyService/ListKeys", prefix="app:")["keys"]] == ["app:1"]
    assert client.call("AccessService/GetRights", name="al", permission="read", key="app:1")["allowed"] is True

    made = client.call("BackupService/CreateBackup", name="grpc.json")["backup"]
    checked = client.call("BackupService/VerifyBackup", name="grpc.json")["backup"]
    assert made["sha256"] == checked["sha256"], (made, checked)
    parts = list(client.call("BackupService/DownloadBackup", name="grpc.json"))
    content = b"".join(base64.b64decode(part.get("chunk", "")) for part in parts)
    assert len(content) == int(parts[0]["sizeBytes"]), parts[0]
    client.call("BackupService/RestoreBackup", name="grpc.json")
    client.call("BackupService/DeleteBackup", name="grpc.json")

    events = client.call("AuditService/ReadEvents", size=1000)["events"]
    kinds = {event["eventType"] for event in events}
    assert {"rbac_create_user", "maintenance_mode", "backup", "restore", "backup_delete"} <= kinds, kinds
    assert int(client.call("AuditService/VerifyAudit")["eventCount"]) >= len(events)
    last = next(iter(client.call("AuditService/TailEvents", last=1)))
    assert last["event"]["sequence"], last

    heir = next(node for node in nodes if node is not leader)
    moved = client.call("ClusterService/TransferLeadership", to=heir.name)
    assert moved["leader"] == heir.name, moved
    try:
        client.call("AccessService/CreateRole", name="late")
        raise AssertionError("only the leader changes roles")
    except grpc.RpcError as refused:
        assert refused.code() == grpc.StatusCode.FAILED_PRECONDITION, refused
        details = dict(refused.trailing_metadata())
        assert heir.admin.encode() in details["grpc-status-details-bin"], details


def drive_browser(at):
    """A session by cookie, as curl keeps one: what looks is let in, what changes needs the second secret."""
    with tempfile.TemporaryDirectory() as name:
        jar = str(pathlib.Path(name) / "jar")

        def ask(method, path, *more):
            text = subprocess.run(
                ["curl", "-sS", "--max-time", str(PATIENCE_SECONDS), "-X", method, "-b", jar, "-c", jar,
                 "-w", "\n%{http_code}", *more, f"http://{at}{path}"],
                check=True, capture_output=True, text=True).stdout
            answer, status = text.rsplit("\n", 1)
            return int(status), json.loads(answer)

        login = json.dumps({"user": "vaylix", "password": "vaylix", "cookie": True})
        status, told = ask("POST", "/v1/login", "-d", login)
        assert status == 200 and "token" not in told, told
        csrf = f"x-csrf-token: {told['csrfToken']}"
        assert ask("GET", "/v1/session")[1]["user"] == "vaylix"
        assert ask("POST", "/v1/roles", "-d", '{"name":"page"}')[0] == 403
        assert ask("POST", "/v1/roles", "-H", csrf, "-d", '{"name":"page"}')[0] == 200
        events = subprocess.run(["curl", "-sSN", "--max-time", "3", "-b", jar, f"http://{at}/v1/events"],
                                capture_output=True, text=True).stdout
        assert events.startswith("event: history\n") and "event: status\n" in events, events[:200]
        assert ask("POST", "/v1/logout", "-H", csrf)[0] == 200
        assert ask("GET", "/v1/session")[0] == 401


def drive_http(nodes):
    leader = leader_of(nodes)
    at = leader.admin
    assert curl("GET", at, "/livez").strip() == "ok"
    assert curl("GET", at, "/v1/cluster/status")["status"]["role"] == "ROLE_LEADER"
    curl("POST", at, "/v1/roles", {"name": "writers"})
    curl("POST", at, "/v1/roles/writers/grants", {"grant": {"permission": "write", "pattern": "*"}})
    curl("POST", at, "/v1/roles", {"name": "writers"}, expect=409)
    curl("POST", at, "/v1/users", {"name": "bo", "password": "weak"}, expect=400)
    curl("POST", at, "/v1/backups", {"name": "http.json"})
    assert curl("GET", at, "/v1/backups")["backups"][0]["name"] == "http.json"
    curl("POST", at, "/v1/backups/http.json/restore", {"validateOnly": True})
    assert int(curl("POST", at, "/v1/audit/verify")["eventCount"]) > 0
    version = curl("PUT", at, "/v1/keys/app%2F1", {"value": "AAE=", "expectedVersion": "0"})["version"]
    curl("PUT", at, "/v1/keys/app%2F1", {"value": "", "expectedVersion": "0"}, expect=409)
    assert curl("GET", at, "/v1/keys?prefix=app/")["keys"][0]["sizeBytes"] == "2"
    curl("DELETE", at, f"/v1/keys/app%2F1?expectedVersion={version}")
    curl("GET", at, "/v1/keys/app%2F1", expect=404)
    assert "<html" in curl("GET", at, "/").lower()
    drive_browser(at)
    paths = curl("GET", at, "/v1/openapi.json")["paths"]
    for path, methods in paths.items():
        # Whatever is described is there: it refuses strangers instead of not knowing the path.
        known = re.sub(r"\{[a-z]+\}", "x", path)
        for method in methods:
            answer = subprocess.run(
                ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method.upper(), "-d", "{}"]
                + ([] if method in ("post", "put") else ["--data-raw", ""])
                + [f"http://{at}{known}"], capture_output=True, text=True).stdout
            assert answer in ("400", "401"), f"{method} {path}: {answer}"

    # A node goes, the others go on, and it comes out of the membership as planned.
    gone = next(node for node in nodes if node is not leader)
    version = curl("GET", at, "/v1/cluster/members")["configVersion"]
    plan = curl("DELETE", at, f"/v1/cluster/members/{gone.name}?validateOnly=true")
    assert plan["plan"]["after"]["voterCount"] == 2 and not plan.get("done"), plan
    done = curl("DELETE", at, f"/v1/cluster/members/{gone.name}?expectedConfigVersion={version}")
    assert done["done"] is True, done
    members = curl("GET", at, "/v1/cluster/members")["members"]
    assert gone.name not in [member["name"] for member in members if member.get("voter")], members


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        secret = folder / "secret"
        secret.write_text("a secret of this run, long enough: 0123456789abcdef\n", encoding="utf-8")
        secret.chmod(0o600)
        ports = free_ports(6)
        pairs = [(ports[2 * number], ports[2 * number + 1]) for number in range(3)]
        peers = ",".join(f"n{number + 1}@127.0.0.1:{data}" for number, (data, _) in enumerate(pairs))
        nodes = []
        for number, pair in enumerate(pairs):
            node = Node(binary, folder, f"n{number + 1}", pair, peers, secret)
            stack.callback(node.end)
            nodes.append(node)
        try:
            leader_of(nodes)
            for node in nodes:
                until(f"{node.name} is ready", lambda node=node: subprocess.run(
                    ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{node.admin}/readyz"],
                    capture_output=True, text=True).stdout == "200")
            drive_grpc(nodes)
            print("driven over gRPC by reflection")
            drive_http(nodes)
            print("driven over HTTP with curl")
        except BaseException:
            for node in nodes:
                node.log.flush()
                print(f"--- the end of the log of {node.name}:", *(
                    (folder / f"{node.name}.log").read_text(encoding="utf-8").splitlines()[-20:]), sep="\n")
            raise


if __name__ == "__main__":
    main()
