"""A control plane of real programs on loopback, in a folder of its own, gone with the trial: etcd, kube-apiserver and, if
asked for, kube-controller-manager, from KUBEBUILDER_ASSETS, as envtest has them. There is no scheduler and no kubelet.
"""

import contextlib
import json
import os
import pathlib
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ASSETS = pathlib.Path(os.environ["KUBEBUILDER_ASSETS"])
KUBECTL = os.environ["KUBECTL"]
START_SECONDS = 120

CONTROLLERS = ("deployment-controller", "replicaset-controller", "endpoints-controller", "endpointslice-controller",
               "disruption-controller", "horizontal-pod-autoscaler-controller")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in held]


class Cluster:
    """Starts with `with`, and ends all that it started."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.token = secrets.token_hex(16)

    def __enter__(self):
        # As Ctrl-C does: what was started is ended on the way out.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        clients, peers, secure = free_ports(3)
        etcd, self.url = f"http://127.0.0.1:{clients}", f"https://127.0.0.1:{secure}"
        (self.folder / "tokens").write_text(f"{self.token},admin,admin,system:masters\n")
        # One key and certificate for all that must have one; nobody but this trial is there to trust it.
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out",
                        "certificate", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
                       cwd=self.folder, check=True, capture_output=True)
        self.start("etcd", "--data-dir=etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
                   f"--listen-peer-urls=http://127.0.0.1:{peers}",
                   f"--initial-advertise-peer-urls=http://127.0.0.1:{peers}",
                   f"--initial-cluster=default=http://127.0.0.1:{peers}")
        self.start("kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", f"--secure-port={secure}",
                   "--advertise-address=127.0.0.1", "--cert-dir=certificates", "--token-auth-file=tokens",
                   "--service-account-key-file=key", "--service-account-signing-key-file=key",
                   "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
                   "--requestheader-client-ca-file=certificate", "--requestheader-username-headers=X-Remote-User",
                   "--proxy-client-cert-file=certificate", "--proxy-client-key-file=key",
                   # Nobody makes the accounts' tokens.
                   "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount")
        deadline = time.monotonic() + START_SECONDS
        while not self.kubectl("get", "--raw=/readyz")[0]:
            if time.monotonic() > deadline:
                sys.exit((self.folder / "kube-apiserver.log").read_text()[-2000:])
            time.sleep(0.5)
        return self

    def __exit__(self, *_):
        self.stack.close()

    def start(self, name, *arguments):
        log = self.stack.enter_context(open(self.folder / f"{name}.log", "w"))
        child = subprocess.Popen([ASSETS / name, *arguments], cwd=self.folder, stdout=log, stderr=log)
        self.stack.callback(end, child)

    def start_controllers(self):
        access = {"apiVersion": "v1", "kind": "Config", "current-context": "trial",
                  "clusters": [{"name": "trial", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
                  "users": [{"name": "trial", "user": {"token": self.token}}],
                  "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "trial"}}]}
        (self.folder / "access").write_text(json.dumps(access))
        self.start("kube-controller-manager", "--kubeconfig=access", "--secure-port=0", "--leader-elect=false",
                   f"--controllers={','.join(CONTROLLERS)}",
                   # CPU counts from the first second of a pod, so that the trial needn't wait.
                   "--horizontal-pod-autoscaler-cpu-initialization-period=0s")

    def define_custom_resources(self, folder):
        for project in sorted(pathlib.Path(folder).iterdir()):
            taken, said = self.kubectl("apply", "--server-side", "-f", str(project))
            if not taken:
                sys.exit(f"definitions of {project.name}: {said}")
        self.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")

    def kubectl(self, *arguments, stdin=None):
        """Whether it went well, and what it said."""
        command = [KUBECTL, f"--server={self.url}", f"--token={self.token}", "--insecure-skip-tls-verify"]
        done = subprocess.run([*command, *arguments], input=stdin, capture_output=True, text=True, timeout=120)
        return done.returncode == 0, (done.stdout + done.stderr).strip()

    def apply(self, objects):
        return self.kubectl("apply", "-f", "-", stdin="\n".join(json.dumps(one) for one in objects))

    def request(self, method, path, body=None, content_type="application/json"):
        """Status and object of a request to the API server."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")


def end(child):
    child.terminate()
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()


def version():
    command = [ASSETS / "kube-apiserver", "--version"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
