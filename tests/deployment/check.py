"""Checks the unit, the settings file and the manifests of deploy/, and that the compose file and the tour on processes agree.

The unit by systemd itself; the settings file by the server; the manifests against the schemas of Kubernetes, also with each overlay merged
into them, and against the server: every variable that they set is one of its own, every port and probe is there. The program beside the
server that keeps a label is run against a Kubernetes and a node that this file plays.

usage: check.py VAYLIX_BINARY
"""

import copy
import http.server
import importlib.machinery
import json
import os
import pathlib
import queue
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import types

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = ["1.29", "1.33", "1.37"]
# The scale of systemd ends at 10, for a unit without any protection.
EXPOSURE_MAX = 15
PATIENCE_SECONDS = 30


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more)


def require(condition, what):
    if not condition:
        raise SystemExit(what)


def the_unit_is_understood_and_hardened(binary):
    with tempfile.TemporaryDirectory() as root:
        for path, content in {"usr/local/bin/vaylix": "", "bin/kill": ""}.items():
            file = pathlib.Path(root, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(0o755)
        units = pathlib.Path(root, "etc/systemd/system")
        units.mkdir(parents=True)
        for name in ("network-online.target", "network.target", "multi-user.target", "sysinit.target", "basic.target",
                     "shutdown.target"):
            (units / name).write_text("[Unit]\nDescription=-\n")
        (units / "-.mount").write_text("[Mount]\nWhat=/dev/null\nWhere=/\n")
        (units / "vaylix.service").write_text((DEPLOY / "systemd/vaylix.service").read_text())
        done = run("systemd-analyze", "verify", "--man=no", f"--root={root}", "vaylix.service")
        said = [line for line in done.stderr.splitlines() if "vaylix.service" in line]
        require(not said, "\n".join(["the unit:", *said]))
        done = run("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", f"--root={root}", "vaylix.service")
        last = done.stdout.strip().splitlines()[-1:]
        print("  ", *last)
        require(done.returncode == 0, f"the unit may do too much:\n{done.stdout}{done.stderr}")
    require(binary.name in (DEPLOY / "systemd/vaylix.service").read_text(), "the unit starts another program")
    done = run("systemd-sysusers", "--dry-run", str(DEPLOY / "systemd/vaylix.sysusers"))
    require(done.returncode == 0, f"the user: {done.stderr}")


def the_settings_file_is_taken_also_with_what_is_commented_out(binary):
    text = (DEPLOY / "systemd/vaylix.toml").read_text(encoding="utf-8")
    everything = re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.M)
    require(everything.count(" = ") > text.count("\n#") / 3, "nothing was commented out")
    with tempfile.TemporaryDirectory() as folder:
        for content in (text, everything):
            file = pathlib.Path(folder, "vaylix.toml")
            file.write_text(content)
            clean = {name: value for name, value in os.environ.items() if not name.startswith("VAYLIX_")}
            done = run(binary, "--config", file, "--print-config", env=clean)
            require(done.returncode == 0, f"the settings file: {done.stderr}")
            for name in re.findall(r"^([a-z-]+) = ", content, re.M):
                require(re.search(rf"^{name} = .*{re.escape(str(file))}", done.stdout, re.M), f"{name} is not in force:\n{done.stdout}")


def variables_of(binary):
    """The variables that the server knows."""
    return set(re.findall(r"\[env: (VAYLIX_[A-Z0-9_]+)", run(binary, "--help").stdout))


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def merged(base, patch):
    """A strategic merge, as far as the overlays here use it: mappings by key, lists of named things by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {key: merged(base[key], patch[key]) if key in base and key in patch else copy.deepcopy((base | patch)[key])
                for key in [*base, *(key for key in patch if key not in base)]}
    if isinstance(base, list) and all(isinstance(one, dict) and "name" in one for one in [*base, *patch]):
        return [merged(one, next((other for other in patch if other["name"] == one["name"]), {})) for one in base] + [
            other for other in patch if other["name"] not in [one["name"] for one in base]]
    return copy.deepcopy(patch)


def rendered(overlay):
    """What `kubectl apply -k` would send, but for generated names."""
    folder = DEPLOY / "kubernetes" / overlay
    kustomization, = documents(folder / "kustomization.yaml")
    found = []
    for name in kustomization["resources"]:
        found += rendered("") if name == ".." else documents(folder / name)
    for patch in kustomization.get("patches", []):
        for change in documents(folder / patch["path"]):
            target, = [one for one in found if one["kind"] == change["kind"] and one["metadata"]["name"] == change["metadata"]["name"]]
            found[found.index(target)] = merged(target, change)
    for generator in kustomization.get("configMapGenerator", []):
        data = {pathlib.Path(name).name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    return found


def the_manifests_are_those_of_kubernetes(_binary):
    for overlay in ("", "tls", "leader-service"):
        found = rendered(overlay)
        for document in found:
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise SystemExit(f"{overlay or 'base'}, {document['kind']}, Kubernetes {version}: {error}") from error
        print(f"   {overlay or 'base'}: {len(found)} objects, Kubernetes {', '.join(KUBERNETES)}")
    broken = copy.deepcopy(rendered("")[-1])
    broken["spec"]["noSuchField"] = 1
    try:
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise SystemExit("the schemas let everything pass")


def the_tour_on_processes_has_the_settings_of_the_compose_file(_binary):
    """Only where files are differs, and what the image sets for all containers."""
    os.environ |= {"TOUR_STATE": "/state", "TOUR_PROGRAMS": "/programs"}
    path = str(ROOT / "tests/tour/processes/docker")
    stand_in = types.ModuleType("stand_in")
    importlib.machinery.SourceFileLoader("stand_in", path).exec_module(stand_in)
    services, = (document["services"] for document in documents(ROOT / "docker-compose.yml"))
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    of_image = dict(re.findall(r"(VAYLIX_\w+)=(\S+)", re.search(r"^ENV VAYLIX_BIND.*?(?:[^\\]\n)", dockerfile, re.M | re.S)[0]))
    require(len(of_image) == 3, f"the image sets {of_image}")
    for node in stand_in.NODES:
        wanted = of_image | {name: value.replace("${VAYLIX_PASSWORD:-vaylix}", "vaylix") for name, value in services[node]["environment"].items()}
        found = {name: value for name, value in stand_in.environment(node).items() if name.startswith("VAYLIX")}
        for name in ("VAYLIX_DATA_DIR", "VAYLIX_CLUSTER_SECRET_FILE"):
            found[name] = wanted[name] if found[name].startswith("/state") else found[name]
        require(found == wanted, f"{node}: {sorted(found.items() ^ wanted.items())}")


def of_kind(found, kind):
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def the_manifests_fit_the_server_and_each_other(binary):
    known = variables_of(binary)
    require(len(known) > 40, f"the help of the server names {len(known)} variables only")
    for overlay in ("", "tls", "leader-service"):
        found = rendered(overlay)
        stateful = of_kind(found, "StatefulSet")["vaylix"]
        pod = stateful["spec"]["template"]
        server, *others = pod["spec"]["containers"]
        settings = {one["name"]: one.get("value") for one in server["env"]}
        unknown = {name for name in settings if name.startswith("VAYLIX_")} - known
        require(not unknown, f"{overlay}: the server does not know {unknown}")
        names = [f"vaylix-{number}" for number in range(stateful["spec"]["replicas"])]
        governing = stateful["spec"]["serviceName"]
        peers = ",".join(f"{name}@{name}.{governing}:9173" for name in names)
        require(settings["VAYLIX_CLUSTER_PEERS"] == peers, f"the peers are not {peers}")
        require(stateful["spec"]["podManagementPolicy"] == "Parallel", "nodes that wait for each other must start at once")
        labels = pod["metadata"]["labels"]
        ports = {port["name"] for port in server["ports"]}
        services = of_kind(found, "Service")
        require(services[governing]["spec"]["publishNotReadyAddresses"], "nodes must find each other before they are ready")
        for name, service in services.items():
            wanted = {key: value for key, value in service["spec"]["selector"].items() if key != "vaylix-role"}
            require(wanted.items() <= labels.items(), f"{name} selects no pod")
            require({port["targetPort"] for port in service["spec"]["ports"]} <= ports, f"{name} leads to no port")
        for budget in of_kind(found, "PodDisruptionBudget").values():
            require(budget["spec"]["selector"]["matchLabels"].items() <= labels.items(), "the budget is for no pod")
        probes = {name: server[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
        paths = {name: probe["path"] for name, probe in probes.items()}
        require(paths == {"startup": "/startupz", "liveness": "/livez", "readiness": "/readyz"}, f"probes: {paths}")
        with_tls = settings.get("VAYLIX_SSL") == "true"
        require(all((probe.get("scheme") == "HTTPS") == with_tls for probe in probes.values()), "probes and TLS do not agree")
        volumes = {one["name"] for one in pod["spec"]["volumes"]} | {
            one["metadata"]["name"] for one in stateful["spec"]["volumeClaimTemplates"]}
        for container in (server, *others):
            mounted = {one["name"] for one in container["volumeMounts"]}
            require(mounted <= volumes, f"{container['name']} mounts {mounted - volumes}, which is not there")
        require(not any("kubernetes" == one["name"] for one in server["volumeMounts"]), "the server needs no token of Kubernetes")


class Played(http.server.BaseHTTPRequestHandler):
    """A node that leads or not, and a Kubernetes that is told so."""

    protocol_version = "HTTP/1.1"

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer(200 if self.path == "/leader" and self.server.leads.is_set() else 503)

    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.told.put((self.path, self.headers["authorization"], self.headers["content-type"], body))
        self.answer(200)

    def log_message(self, *_arguments):
        pass


def play(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Played)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    # Whoever asks is ended in the middle of it.
    server.handle_error = lambda *_: None
    server.leads, server.told = threading.Event(), queue.Queue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def the_label_follows_the_leader(binary):
    with tempfile.TemporaryDirectory() as folder:
        done = run(binary, "provision", "--dir", folder, "--tls-host", "localhost")
        require(done.returncode == 0, done.stderr)
        files = pathlib.Path(folder)
        (files / "ca.pem").rename(files / "ca.crt")
        (files / "token").write_text("a-token\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files / "localhost.pem", files / "localhost.key")
        node, kubernetes = play(), play(context)
        program = subprocess.Popen(
            [sys.executable, DEPLOY / "kubernetes/leader-service/leader_label.py"], stdout=subprocess.DEVNULL, env={
                "POD_NAME": "vaylix-1", "POD_NAMESPACE": "prod", "NODE_URL": f"http://127.0.0.1:{node.server_port}",
                "API_URL": f"https://localhost:{kubernetes.server_port}", "CREDENTIALS": folder})
        try:
            for role in (None, "leader", None):
                (node.leads.set if role else node.leads.clear)()
                path, token, kind, body = kubernetes.told.get(timeout=PATIENCE_SECONDS)
                require(path == "/api/v1/namespaces/prod/pods/vaylix-1", path)
                require((token, kind) == ("Bearer a-token", "application/merge-patch+json"), f"{token} {kind}")
                require(body == {"metadata": {"labels": {"vaylix-role": role}}}, f"{body}, not {role}")
            require(kubernetes.told.empty(), "it says more than there is to say")
        finally:
            program.terminate()
            program.wait()
            node.shutdown()
            kubernetes.shutdown()


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    for check in (the_unit_is_understood_and_hardened, the_settings_file_is_taken_also_with_what_is_commented_out,
                  the_tour_on_processes_has_the_settings_of_the_compose_file, the_manifests_are_those_of_kubernetes,
                  the_manifests_fit_the_server_and_each_other, the_label_follows_the_leader):
        check(binary)
        print(check.__name__.replace("_", " "), flush=True)


if __name__ == "__main__":
    main()
