"""What the image promises, with the engine: the example of docs/deployment.md, credentials, users, signals, volumes, size, start.

usage: image.py    with VAYLIX_IMAGE in the environment
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

PATIENCE_SECONDS = 60
IMAGE = os.environ["VAYLIX_IMAGE"]
DOCKER = os.environ["TOUR_DOCKER"]
ROOT = pathlib.Path(__file__).resolve().parents[2]
# A base of a few megabytes and four programs: more means that something got in that does not belong there.
SIZE_MAX = 100_000_000
READY_SECONDS_MAX = 5.0
USER = "65532"
# What the kernel lets an unprivileged container do.
RESTRICTED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
FOR_INIT = [word for name in ("CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID") for word in ("--cap-add", name)]


def docker(*words, check=True):
    done = subprocess.run([DOCKER, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise SystemExit(f"docker {' '.join(words)}: {done.stderr}")
    return done


def until(what, look):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise SystemExit(f"not within {PATIENCE_SECONDS} s: {what}")


def logs(container):
    done = docker("logs", container)
    return done.stdout + done.stderr


@contextlib.contextmanager
def container(*options, command=()):
    """A container of the image, and its volumes, until the end of the block."""
    identity = docker("run", "--detach", *options, IMAGE, *command).stdout.strip()
    try:
        yield identity
    finally:
        docker("rm", "--force", "--volumes", identity)


@contextlib.contextmanager
def volume(name):
    docker("volume", "create", name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name)


def ready(identity):
    until("the server is ready", lambda: "listener ready on" in logs(identity))


def client(identity, *command, password="vaylix", check=True):
    asks = ["exec", identity, "vaylix-client", "--user", "vaylix", "--password", password, "--exit-on-error", "--", *command]
    return docker(*asks, check=check)


def status(identity):
    """The lines of /proc/PID/status of the container's first process."""
    pid = docker("inspect", "--format", "{{.State.Pid}}", identity).stdout.strip()
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def expect(what, found, wanted):
    if found != wanted:
        raise SystemExit(f"{what}: {found!r}, not {wanted!r}")


def documented():
    """The commands of the shortest example, as docs/deployment.md has them."""
    text = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- run by tests/tour/image.py -->\n```console\n(.*?)```", text, re.S)
    return block[1].splitlines()


def the_documented_example_works_as_written():
    lines, answers = documented(), []
    # So the command in front of the engine's calls what the example calls `example` and `vaylix-data`.
    project = os.environ["COMPOSE_PROJECT_NAME"]
    with volume(f"{project}-vaylix-data"):
        try:
            for line in lines:
                if line.startswith("$ docker run"):
                    run(line[2:])
                    ready(f"{project}-example")
                elif line.startswith("$ "):
                    answers.append([run(line[2:])])
                else:
                    answers[-1].append(line)
        finally:
            docker("rm", "--force", "--volumes", f"{project}-example", check=False)
    expect("commands", len(answers), 2)
    for given, wanted in answers:
        expect("answer", given, wanted)


def run(text):
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{text}: {done.stderr}")
    return done.stdout.strip()


def without_credentials_a_password_is_made_and_shown_once():
    with container() as identity:
        ready(identity)
        found = re.findall(r"generated the password (\w{18}) for the administrator vaylix", logs(identity))
        expect("generated passwords", len(found), 1)
        expect("answer", client(identity, "set", "a", "1", password=found[0]).stdout.strip(), "OK")
        if client(identity, "get", "a", check=False).returncode == 0:
            raise SystemExit("the password that everybody knows lets somebody in")
        docker("restart", identity)
        until("it is ready again", lambda: logs(identity).count("listener ready on") == 2)
        expect("passwords shown", logs(identity).count("generated the password"), 1)
        expect("answer", client(identity, "get", "a", password=found[0]).stdout.strip(), "1")


def the_server_is_process_1_and_nobody():
    with container(*RESTRICTED, *FOR_INIT, "-e", "VAYLIX_PASSWORD=x-42-long") as identity:
        ready(identity)
        found = status(identity)
        expect("process", found["NSpid"][-1], "1")
        expect("name", found["Name"], ["vaylix"])
        expect("user", found["Uid"], [USER] * 4)
        expect("group", found["Gid"], [USER] * 4)
        expect("other groups", found["Groups"], [])
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            expect(name, int(found[name][0], 16), 0)
        begun = time.monotonic()
        docker("stop", identity)
        expect("exit status", docker("inspect", "--format", "{{.State.ExitCode}}", identity).stdout.strip(), "0")
        print(f"   docker stop took {time.monotonic() - begun:.2f} s")


def a_volume_of_somebody_else_is_repaired():
    with volume(f"{IMAGE.split(':')[1]}-owned") as name:
        mounted = ["-v", f"{name}:/var/lib/vaylix", "-e", "VAYLIX_PASSWORD=x-42-long"]
        with container(*mounted) as identity:
            ready(identity)
            client(identity, "set", "a", "1", password="x-42-long")
            docker("stop", identity)
        # As a volume that was restored by root, and then as one of another user.
        for owner in ("0", "1234"):
            give = ["-e", f"VAYLIX_RUNTIME_UID={owner}", "-e", f"VAYLIX_RUNTIME_GID={owner}"]
            docker("run", "--rm", *give, *mounted, IMAGE, "vaylix", "--version")
            with container(*mounted, *RESTRICTED, *FOR_INIT) as identity:
                ready(identity)
                expect("answer", client(identity, "get", "a", password="x-42-long").stdout.strip(), "1")


def it_runs_where_nobody_may_be_root():
    with container(*RESTRICTED, "--user", f"{USER}:{USER}", "-e", "VAYLIX_PASSWORD=x-42-long") as identity:
        ready(identity)
        expect("answer", client(identity, "set", "a", "1", password="x-42-long").stdout.strip(), "OK")


def it_becomes_healthy_and_unhealthy():
    fast = ["--health-interval", "300ms", "--health-retries", "2", "-e", "VAYLIX_PASSWORD=x-42-long"]
    health = ["inspect", "--format", "{{.State.Health.Status}}"]
    with container(*fast) as identity:
        until("it is healthy", lambda: docker(*health, identity).stdout.strip() == "healthy")
    # Nothing listens: the same program, doing something else.
    with container(*fast, "--health-start-period", "0s", "-e", "VAYLIX_BIND=127.0.0.2", "-e", "VAYLIX_ADMIN_BIND=127.0.0.2") as identity:
        until("it is unhealthy", lambda: docker(*health, identity).stdout.strip() == "unhealthy")


def failures_of_the_entry_point_are_told():
    done = docker("run", "--rm", "-e", "VAYLIX_RUNTIME_UID=nobody", IMAGE, check=False)
    expect("status", done.returncode, 1)
    expect("message", done.stderr.strip(), '[vaylix-init] VAYLIX_RUNTIME_UID is not the number of a user or group: "nobody"')


def labels_and_settings_are_those_of_the_release():
    found = json.loads(docker("image", "inspect", IMAGE).stdout)[0]
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    dockerfile = (ROOT / "Dockerfile").read_text()
    toolchain = re.search(r'channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    expect("Rust of the builder", re.search(r"BUILDER_IMAGE=\S+/rust:([\d.]+)", dockerfile)[1], toolchain)
    expect("version", re.search(r"ARG VERSION=(.*)", dockerfile)[1], version)
    expect("label", found["Config"]["Labels"]["org.opencontainers.image.version"], version)
    expect("volumes", list(found["Config"]["Volumes"]), ["/var/lib/vaylix"])
    expect("ports", sorted(found["Config"]["ExposedPorts"]), ["9173/tcp", "9174/tcp"])
    settings = dict(one.split("=", 1) for one in found["Config"]["Env"])
    expect("data directory", settings["VAYLIX_DATA_DIR"], "/var/lib/vaylix")
    expect("secrets", [name for name in settings if "PASSWORD" in name or "SECRET" in name], [])
    print(f"   the image has {found['Size'] / 1e6:.1f} MB")
    if found["Size"] > SIZE_MAX:
        raise SystemExit(f"that is more than {SIZE_MAX / 1e6} MB")


def each_program_says_what_it_is_made_of():
    with tempfile.TemporaryDirectory() as folder:
        made = docker("create", IMAGE).stdout.strip()
        try:
            docker("cp", f"{made}:/usr/share/doc/vaylix", folder)
        finally:
            docker("rm", "--volumes", made)
        found = {path.name: json.loads(path.read_text()) for path in pathlib.Path(folder, "vaylix").glob("*.cdx.json")}
    if not found:
        print("   NOT TESTED: the bill of materials, without cargo-cyclonedx where the image was built")
        return
    programs = ("vaylix", "vaylix-client", "vaylix-init", "vaylixctl")
    expect("bills", set(found), {f"{name}.cdx.json" for name in programs})
    for name, bill in found.items():
        expect(f"format of {name}", bill["bomFormat"], "CycloneDX")
    expect("parts of the server", {"openraft", "rustls", "tokio"} - {part["name"] for part in found["vaylix.cdx.json"]["components"]}, set())


def a_cold_start_is_ready_soon():
    begun = time.monotonic()
    with container("-e", "VAYLIX_PASSWORD=x-42-long") as identity:
        ready(identity)
        took = time.monotonic() - begun
    print(f"   from docker run to ready: {took:.2f} s")
    if took > READY_SECONDS_MAX:
        raise SystemExit(f"that is longer than {READY_SECONDS_MAX} s")


def nodes_speak_tls_with_the_certificates_that_are_made():
    files = ["compose", "-f", "docker-compose.yml", "-f", "deploy/compose/tls.yml"]

    def compose(*words, check=True):
        done = subprocess.run(["docker", *files, *words], capture_output=True, text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise SystemExit(f"docker compose {' '.join(words)}: {done.stderr}")
        return done

    try:
        compose("up", "-d")
        health = ["exec", "n2", "vaylixctl", "health", "--ssl"]
        until("the nodes serve", lambda: compose(*health, check=False).returncode == 0)
        expect("answer", compose("exec", "n2", "vaylix-client", "--ssl", "--", "set", "a", "1").stdout.strip(), "OK")
        if compose("exec", "n2", "vaylixctl", "whoami", check=False).returncode == 0:
            raise SystemExit("the control plane speaks without TLS")
        members = compose("exec", "n2", "vaylixctl", "members", "--ssl").stdout
        expect("members", sorted(line.split()[0] for line in members.splitlines()[1:]), ["n1", "n2", "n3"])
    finally:
        compose("down", "-v")


@contextlib.contextmanager
def image_of(program, *arguments):
    """An image of a program of this machine, in the place of its makers', which cannot be fetched everywhere."""
    path = shutil.which(program)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout)
        for file in [path, *libraries]:
            target = root / pathlib.Path(file).relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        (root / "tmp").mkdir()
        name = f"{IMAGE}-{program}"
        tar = subprocess.Popen(["tar", "--directory", folder, "--create", "."], stdout=subprocess.PIPE)
        change = f"ENTRYPOINT {json.dumps([path, *arguments])}"
        subprocess.run([DOCKER, "import", "--change", change, "-", name], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
        if tar.wait() != 0:
            raise SystemExit(f"no image of {program}")
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def the_profiles_balance_and_watch():
    missing = [name for name in ("haproxy", "prometheus") if not shutil.which(name)]
    if missing:
        print(f"   NOT TESTED: the profiles lb and observability, without {' and '.join(missing)} on this machine")
        return
    watched = free_port()
    with image_of("haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg") as haproxy, image_of(
            "prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/tmp/prometheus") as prometheus:
        settings = {**os.environ, "HAPROXY_IMAGE": haproxy, "PROMETHEUS_IMAGE": prometheus, "VAYLIX_PROMETHEUS_PORT": str(watched),
                    "VAYLIX_WRITES_PORT": str(free_port()), "VAYLIX_READS_PORT": str(free_port())}

        def compose(*words, check=True):
            done = subprocess.run(["docker", "compose", "--profile", "lb", "--profile", "observability", *words], capture_output=True,
                                  text=True, check=False, cwd=ROOT, stdin=subprocess.DEVNULL, env=settings)
            if check and done.returncode != 0:
                raise SystemExit(f"docker compose {' '.join(words)}: {done.stderr}")
            return done

        def asked(port, *command):
            """A client in the network of the containers, which knows the balancer alone."""
            ask = ["exec", "n2", "vaylix-client", "--url", f"vaylix://haproxy:{port}", "--exit-on-error", "--", *command]
            done = compose(*ask, check=False)
            return done.stdout.strip() if done.returncode == 0 else None

        def healthy():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{watched}/api/v1/targets", timeout=2) as answer:
                    targets = json.load(answer)["data"]["activeTargets"]
            except OSError:
                return False
            return sorted(one["labels"]["instance"] for one in targets if one["health"] == "up") == ["n1:9176", "n2:9176", "n3:9176"]

        try:
            compose("up", "-d")
            until("a write reaches the leader", lambda: asked(9173, "set", "a", "1") == "OK")
            compose("kill", "n1")
            until("a write reaches the next leader", lambda: asked(9173, "set", "a", "2") == "OK")
            until("reads are balanced", lambda: asked(9175, "get", "a") == "2")
            compose("start", "n1")
            until("all nodes are scraped", healthy)
        finally:
            compose("down", "-v")


def main():
    for check in CHECKS:
        begun = time.monotonic()
        check()
        print(f"{time.monotonic() - begun:6.2f} s  {check.__name__.replace('_', ' ')}", flush=True)


CHECKS = [
    the_documented_example_works_as_written,
    without_credentials_a_password_is_made_and_shown_once,
    the_server_is_process_1_and_nobody,
    a_volume_of_somebody_else_is_repaired,
    it_runs_where_nobody_may_be_root,
    it_becomes_healthy_and_unhealthy,
    failures_of_the_entry_point_are_told,
    labels_and_settings_are_those_of_the_release,
    each_program_says_what_it_is_made_of,
    a_cold_start_is_ready_soon,
    nodes_speak_tls_with_the_certificates_that_are_made,
    the_profiles_balance_and_watch,
]

if __name__ == "__main__":
    sys.exit(main())
