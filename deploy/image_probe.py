#!/usr/bin/env python3
"""Looks at an image of Umbel and runs it as a container engine would: as the image's user, as process 1,
with a root file system that can't be written, and with nothing but what the image's config says.

image-test.sh starts this in namespaces of its own. Any check that doesn't hold ends it with exit code 1.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

# What is in the image, but for the libraries; and how much it may be.
FILES = {"umbel", "etc/nsswitch.conf", "usr/share/doc/umbel/LICENSE"}
LIBRARIES = {"ld-linux", "libc.so", "libgcc_s.so", "libm.so"}
MAX_MIB = 16
DEADLINE_SECONDS = 20

SETTINGS = """
[drain]
pause_seconds = 0
drain_seconds = 1
deadline_seconds = 11
[[topics]]
match = "news"
subscribe = "anyone"
publish = "anyone"
"""


def check(holds, what):
    """Ends the run unless the condition holds."""
    if not holds:
        sys.exit(f"image-test: FAILED: {what}")


def until(what, condition):
    """Waits until the condition gives something."""
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.05)
    return check(False, f"{what} within {DEADLINE_SECONDS} s")


def check_config(config, labels):
    """The image says how it is run, by whom, and what it is."""
    expected = {
        "User": "65532:65532",
        "Entrypoint": ["/umbel"],
        "Cmd": ["serve", "--config", "/etc/umbel/umbel.toml"],
        "StopSignal": "SIGTERM",
    }
    for key, value in expected.items():
        check(config.get(key) == value, f"{key} is {config.get(key)}, not {value}")
    ports = sorted(config["ExposedPorts"])
    check(ports == ["8080/tcp", "9464/tcp"], f"it exposes {ports}")
    health = config.get("Healthcheck") or {}
    check(health.get("Test") == ["CMD", "/umbel", "health"], f"its health check is {health}")
    check(0 < health["Timeout"] < health["Interval"], f"its health check is {health}")
    labels = labels | {"title": "umbel", "licenses": "Apache-2.0"}
    for name, value in labels.items():
        found = config["Labels"].get(f"org.opencontainers.image.{name}")
        check(found == value, f"the label {name} is {found}, not {value}")


def check_files(root):
    """The program and what it needs is there, and nothing else. Gives the sum of sizes."""
    size = 0
    for path in (path for path in root.rglob("*") if not path.is_dir()):
        name = str(path.relative_to(root))
        is_library = any(path.name.startswith(library) for library in LIBRARIES)
        check(name in FILES or is_library, f"{name} is in the image")
        size += path.lstat().st_size
        print(f"  {path.lstat().st_size:>9} {name}")
    check(size < MAX_MIB << 20, f"it has {size} bytes")
    return size


class Container:
    """A root file system and how the image's config has it run."""

    def __init__(self, root, config):
        self.root = root
        self.config = config
        for place in ("proc", "dev"):
            (root / place).mkdir(exist_ok=True)
        run("mount", "--make-rprivate", "/")
        run("mount", "--bind", root, root)
        (root / "dev/null").touch()
        run("mount", "--bind", "/dev/null", root / "dev/null")
        run("ip", "link", "set", "lo", "up")

    def close(self, settings):
        """Mounts the settings, after which nothing in it can be written."""
        file = self.root / "etc/umbel/umbel.toml"
        file.touch()
        given = self.root.parent / "umbel.toml"
        given.write_text(settings)
        run("mount", "--bind", given, file)
        run("mount", "-o", "remount,bind,ro", self.root)
        try:
            (self.root / "written").touch()
        except OSError:
            return
        check(False, "the root file system can be written")

    def command(self, *arguments):
        """The program in it, as the image's user, who can't gain anything."""
        user, group = self.config["User"].split(":")
        return [
            "setpriv", "--no-new-privs", "--inh-caps=-all",
            "chroot", f"--userspec={user}:{group}", "--groups=", str(self.root),
            *self.config["Entrypoint"], *arguments,
        ]  # fmt: skip

    def environment(self):
        """The image's own, without anything of this machine's but where programs are."""
        given = dict(pair.split("=", 1) for pair in self.config["Env"])
        return {"PATH": os.environ["PATH"]} | given

    def run(self, *arguments):
        """Runs it to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment(), text=True,
            capture_output=True, timeout=DEADLINE_SECONDS,
        )  # fmt: skip

    def start(self, *arguments, **how):
        """Starts it."""
        return subprocess.Popen(arguments, env=self.environment(), text=True, **how)

    def health(self):
        """What the image's own health check says: its exit code, and what it wrote."""
        test = self.config["Healthcheck"]["Test"]
        check(test[:2] == ["CMD", *self.config["Entrypoint"]], f"the health check is {test}")
        done = self.run(*test[2:])
        return done.returncode, (done.stdout + done.stderr).strip()


def run(*words):
    """Runs a command of the machine's."""
    subprocess.run([str(word) for word in words], check=True)


def ready():
    """Whether the node answers that it is ready."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=5) as answer:
            return answer.read() == b"ok\n"
    except OSError:
        return False


def check_refusal(container):
    """Without settings it says so."""
    done = container.run(*container.config["Cmd"])
    check(done.returncode == 2, f"without settings it ends with {done.returncode}")
    for text in ("/etc/umbel/umbel.toml: can't be read", "no rule says who may do what"):
        check(text in done.stderr, f"without settings it says {done.stderr}")
    print("  without settings it ends and says why")


def check_rights(pid):
    """The node is who the image says, as process 1, and may do nothing beyond that."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    for key, expected in {
        "Uid": ["65532"] * 4, "Gid": ["65532"] * 4, "Groups": [],
        "CapEff": ["0" * 16], "CapPrm": ["0" * 16], "NoNewPrivs": ["1"],
    }.items():  # fmt: skip
        check(status[key].split() == expected, f"{key} of the node is {status[key]}")
    check(status["NSpid"].split()[-1] == "1", f"its process ids are {status['NSpid']}")


def check_message(container):
    """A message that is published is received, both by the program in the image."""
    subscriber = container.start(
        *container.command("subscribe", "news", "--count", "1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    said = subscriber.stderr.readline()
    check("subscribed to news" in said, f"subscribing: {said}")
    done = container.run("publish", "news", "hello")
    check(done.returncode == 0, f"publishing: {done.stderr}")
    received, _ = subscriber.communicate(timeout=DEADLINE_SECONDS)
    check((subscriber.returncode, received) == (0, "hello\n"), f"received {received!r}")
    print("  a message was published and received")


def check_life(container):
    """It starts, works, tells its health, and ends when it is told to."""
    node = container.start(
        "unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={container.root}/proc",
        *container.command(*container.config["Cmd"]), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until("the node to be ready", ready)
    (pid,) = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    check_rights(pid)
    print("  ready as process 1, user 65532, without capabilities, on a read-only root")
    check_message(container)
    health = container.health()
    check(health == (0, "the node is live"), f"the health check gives {health}")
    os.kill(int(pid), signal.SIGTERM)
    check(node.wait(DEADLINE_SECONDS) == 0, f"after SIGTERM it ends with {node.returncode}")
    code, text = container.health()
    check(code == 1, f"without a node the health check gives {code}, {text}")
    print(f"  SIGTERM ends it with 0; the health check gave 0 before and gives 1 after: {text}")


def main():
    """Runs all checks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, required=True, help="what buildah inspect says")
    parser.add_argument("--root", type=Path, required=True, help="the image's files")
    parser.add_argument("--label", action="append", default=[], help="name=value that it must have")
    arguments = parser.parse_args()
    config = json.loads(arguments.image.read_text())["Docker"]["config"]
    check_config(config, dict(label.split("=", 1) for label in arguments.label))
    size = check_files(arguments.root)
    print(f"  {size / (1 << 20):.1f} MiB in all, labels and health check as they should be")
    container = Container(arguments.root, config)
    check_refusal(container)
    container.close(SETTINGS)
    check_life(container)


if __name__ == "__main__":
    main()
