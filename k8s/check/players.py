"""Plays what a control plane alone lacks: the scheduler, the kubelets of the nodes' pods, and the two metrics APIs that an
autoscaler asks. A pod is ready a while after it was bound, and gone a while after it was told to go.
"""

import contextlib
import http.server
import json
import ssl
import threading
import time
import urllib.parse

import cluster

START_SECONDS = 3
LEAVE_SECONDS = 36  # what a node takes with the settings as they are

NAMESPACE = "umbel"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
MACHINE = "machine"


class Players:
    """The state of play: what trials change, and what they look at."""

    def __init__(self, server):
        self.server = server
        self.sessions = 0         # of all nodes
        self.millicores = 100     # of each node
        self.unready = set()      # names of pods that say that they aren't
        self.broken_image = None  # pods that have it never become ready
        self.ready = []           # names of pods that are
        self.fewest_ready = self.most_staying = 0
        self.bound, self.left = {}, {}
        self.addresses = 0

    def begin(self):
        self.server.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": MACHINE}}, *self.metrics_apis()])
        threading.Thread(target=self.play, daemon=True).start()

    def watch_anew(self):
        self.fewest_ready, self.most_staying = len(self.ready), len(self.ready)

    def play(self):
        while True:
            # The cluster may end while it is asked.
            with contextlib.suppress(OSError):
                status, pods = self.server.request("GET", PODS)
                if status == 200:
                    self.turn(pods["items"])
            time.sleep(0.3)

    def turn(self, pods):
        now = time.monotonic()
        staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        for pod in pods:
            name = pod["metadata"]["name"]
            if pod not in staying:
                if now - self.left.setdefault(name, now) > LEAVE_SECONDS:
                    self.server.request("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
            elif name not in self.bound:
                self.bound[name] = now
                target = {"apiVersion": "v1", "kind": "Node", "name": MACHINE}
                self.server.request("POST", f"{PODS}/{name}/binding", {
                    "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target})
            elif self.is_ready(pod, now) != is_said_ready(pod):
                self.say(pod, self.is_ready(pod, now))
        self.ready = [pod["metadata"]["name"] for pod in staying if self.is_ready(pod, now)]
        self.fewest_ready = min(self.fewest_ready, len(self.ready))
        self.most_staying = max(self.most_staying, len(staying))

    def is_ready(self, pod, now):
        name = pod["metadata"]["name"]
        is_broken = pod["spec"]["containers"][0]["image"] == self.broken_image
        return now - self.bound.get(name, now) > START_SECONDS and name not in self.unready and not is_broken

    def say(self, pod, is_ready):
        """A pod's status, as a kubelet gives it after a probe."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        status = {"phase": "Running", "conditions": [
            {"type": kind, "status": str(is_ready), "lastTransitionTime": since} for kind in ("Ready", "ContainersReady")]}
        if "podIP" not in pod["status"]:
            self.addresses += 1
            address = f"10.1.0.{self.addresses}"
            status |= {"podIP": address, "podIPs": [{"ip": address}], "startTime": since}
        self.server.request("PATCH", f"{PODS}/{pod['metadata']['name']}/status", {"status": status},
                            "application/strategic-merge-patch+json")

    def metrics_apis(self):
        """Starts them, and gives the objects by which the API server finds them."""
        (port,) = cluster.free_ports(1)
        apis = http.server.ThreadingHTTPServer(("127.0.0.1", port), lambda *arguments: Metrics(self, *arguments))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.folder / "certificate", self.server.folder / "key")
        apis.socket = context.wrap_socket(apis.socket, server_side=True)
        threading.Thread(target=apis.serve_forever, daemon=True).start()
        name = {"name": "metrics", "namespace": "kube-system"}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": name,
               "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}}
        for group, version in (("custom.metrics.k8s.io", "v1beta2"), ("metrics.k8s.io", "v1beta1")):
            yield {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                   "metadata": {"name": f"{version}.{group}"},
                   "spec": {"service": name | {"port": port}, "group": group, "version": version,
                            "insecureSkipTLSVerify": True, "groupPriorityMinimum": 100, "versionPriority": 100}}


def is_said_ready(pod):
    return any(condition["type"] == "Ready" and condition["status"] == "True"
               for condition in pod["status"].get("conditions", []))


class Metrics(http.server.BaseHTTPRequestHandler):
    """What prometheus-adapter and metrics-server would answer."""

    protocol_version = "HTTP/1.1"

    def __init__(self, players, *arguments):
        self.players = players
        super().__init__(*arguments)

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = urllib.parse.unquote(self.path.partition("?")[0])
        answer = json.dumps(self.answer(path) or {}).encode()
        self.send_response(200 if self.answer(path) else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def answer(self, path):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = self.players.ready
        custom, core = "custom.metrics.k8s.io/v1beta2", "metrics.k8s.io/v1beta1"
        if path == f"/apis/{custom}":
            return resources(custom, "pods/umbel_sessions", "MetricValueList")
        if path == f"/apis/{core}":
            return resources(core, "pods", "PodMetrics")
        if path.endswith("/pods/*/umbel_sessions"):
            value = str(self.players.sessions // max(len(ready), 1))
            return {"kind": "MetricValueList", "apiVersion": custom, "metadata": {}, "items": [
                {"describedObject": {"kind": "Pod", "namespace": NAMESPACE, "name": name, "apiVersion": "/v1"},
                 "metric": {"name": "umbel_sessions"}, "timestamp": now, "value": value} for name in ready]}
        if path.endswith("/pods"):
            usage = {"cpu": f"{self.players.millicores}m", "memory": "100Mi"}
            return {"kind": "PodMetricsList", "apiVersion": core, "metadata": {}, "items": [
                {"metadata": {"name": name, "namespace": NAMESPACE}, "timestamp": now, "window": "15s",
                 "containers": [{"name": "umbel", "usage": usage}]} for name in ready]}
        return None


def resources(group, name, kind):
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [
        {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}]}
