"""Stops the leader, as an upgrade does, while a client writes: nothing that was acknowledged is lost, and writes go on within a second.

usage: stop.py    with the cluster of docker-compose.yml running, n1 and n3 members of it
"""

import subprocess
import sys
import time

PATIENCE_SECONDS = 60
PAUSE_SECONDS_MAX = 1.0
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 3.0
VICTIM, WITNESS = "n1", "n3"


def inside(*command):
    return subprocess.run(["docker", "compose", "exec", WITNESS, *command], capture_output=True, text=True, check=True,
                          stdin=subprocess.DEVNULL).stdout


def lost(numbers):
    """Those of these writes that are not there. A client of its own reads them all."""
    script = "".join(f"get stop:{number}\n" for number in numbers)
    reader = subprocess.run(["docker", "compose", "exec", WITNESS, "vaylix-client", "--consistency", "linearizable"],
                            input=script, capture_output=True, text=True, check=True)
    # Besides them, the client shows the answer to the login and its farewell.
    answers = [line for line in reader.stdout.splitlines() if not line.startswith("[INFO]")][1:-1]
    return [number for number, answer in zip(numbers, answers, strict=True) if answer.strip() != str(number)]


def await_cluster():
    """Waits until every node serves."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for node in ("n1", "n2", "n3"):
        asks = ["docker", "compose", "exec", WITNESS, "vaylixctl", "health", "--endpoint", node]
        while subprocess.run(asks, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"{node} does not serve within {PATIENCE_SECONDS} s")
            time.sleep(0.1)


def main():
    await_cluster()
    inside("vaylixctl", "leader", "transfer", VICTIM, "--yes")
    client = subprocess.Popen(["docker", "compose", "exec", WITNESS, "vaylix-client"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)

    def answer():
        """The next one, which is empty when the client has ended."""
        while (line := client.stdout.readline()).startswith("[INFO]"):
            pass
        return line.strip()

    def ask(command):
        client.stdin.write(command + "\n")
        client.stdin.flush()
        return answer()

    # The answer to the login comes before.
    found = ask("ping here")
    while found != "here":
        if not found:
            raise SystemExit("the client ended")
        found = answer()
    acknowledged, stopping, begun, end, number = [], None, time.monotonic(), None, 0
    while end is None or time.monotonic() < end:
        number += 1
        if (answered := ask(f"set stop:{number} {number}")) != "OK":
            raise SystemExit(f"write {number} was not acknowledged: {answered}")
        acknowledged.append((time.monotonic(), number))
        if stopping is None and time.monotonic() - begun > BEFORE_SECONDS:
            stopping = subprocess.Popen(["docker", "compose", "stop", VICTIM], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
            end = time.monotonic() + AFTER_SECONDS
    client.stdin.close()
    if client.wait() != 0 or stopping.wait() != 0:
        raise SystemExit("the client, or the stop, failed")
    pause = max(later[0] - earlier[0] for earlier, later in zip(acknowledged, acknowledged[1:]))
    missing = lost([number for _, number in acknowledged])
    print(f"the leader was told to stop: {len(acknowledged)} writes acknowledged, {len(missing)} lost, the longest pause "
          f"{pause * 1000:.0f} ms")
    if missing:
        raise SystemExit(f"acknowledged writes are lost: {missing[:10]} and so on")
    if pause > PAUSE_SECONDS_MAX:
        raise SystemExit(f"writers waited longer than {PAUSE_SECONDS_MAX} s")


if __name__ == "__main__":
    sys.exit(main())
