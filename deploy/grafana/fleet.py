"""The dashboard of all nodes."""

from panels import NONE, annotation, choice, dashboard, from_red, heatmap, lines, ratio_bars, stat, steps, table

C = 'cluster=~"$cluster"'
R = "[$__rate_interval]"


def rate(metric, by, labels=""):
    """Per second, summed by a label."""
    return f"sum by ({by}) (rate({metric}{{{C}{labels}}}{R}))"


def quantile(part, metric, by):
    return f"histogram_quantile({part}, sum by ({by}, le) (rate({metric}_bucket{{{C}}}{R})))"


def of_nodes(metric):
    return f"sum by (cluster, instance) ({metric}{{{C}}})"


AT_A_GLANCE = [
    stat("Nodes up", "How many nodes Prometheus can scrape. Red: none; see UmbelFleetDown in the runbook.",
         (f'sum(up{{job="umbel", {C}}})', ""), thresholds=from_red(1)),
    stat("Sessions", "Clients that are connected by WebSocket or SSE.",
         (f"sum(cluster:umbel_sessions_open:sum{{{C}}})", "")),
    stat("Published", "Messages that publishers gave the nodes, by HTTP and sessions. What is published at Redis itself isn't among them.",
         (f"sum(cluster:umbel_messages_received:rate1m{{{C}}})", ""), unit="cps"),
    stat("Delivered", "Messages written to sessions. Nothing while something is published: see Deliveries waiting and skipped.",
         (f"sum(cluster:umbel_deliveries:rate1m{{{C}}})", ""), unit="cps"),
    stat("Late", "Of the deliveries of the last five minutes, those that came more than 0.25 s behind their publishing. Red: more than the objective allows; see How late below.",
         (f"max(cluster:umbel_deliveries_late:ratio_rate5m{{{C}}})", ""), unit="percentunit", thresholds=steps((0.005, "orange"), (0.01, "red"))),
    stat("Missing", "Of the deliveries expected in the last five minutes, those that were dropped or still wait. Red: see Deliveries skipped and Deliveries waiting.",
         (f"max(cluster:umbel_deliveries_missing:ratio_rate5m{{{C}}})", ""), unit="percentunit", thresholds=steps((0.005, "orange"), (0.01, "red"))),
    stat("Links down", "Nodes without a link to Redis. Red: their clients get nothing; see Is Redis well.",
         (f"sum(umbel_broker_up{{{C}}} == bool 0)", ""), thresholds=steps((1, "red"))),
    stat("Alerts", "Alerts of Umbel that fire now. Red: open Prometheus' page Alerts, each names its paragraph in the runbook.",
         (f'count(ALERTS{{alertstate="firing", alertname=~"Umbel.*", {C}}}) or vector(0)', ""), thresholds=steps((1, "red"))),
]

CONNECTED = [
    lines("Sessions by node", "Connected clients of each node. They should be about even; if one stands out, balance by least connections (UmbelSessionsUneven).",
          (f"instance:umbel_sessions_open:sum{{{C}}}", "{{instance}}"), stack=True),
    lines("Sessions by transport", "Connected clients by how they are connected.",
          (f"sum by (transport) (umbel_sessions_open{{{C}}})", "{{transport}}"), stack=True),
    lines("Subscriptions", "What sessions are subscribed to, and the topics of which that is, counted once per worker.",
          (f"sum(umbel_subscriptions{{{C}}})", "subscriptions"), (f"sum(umbel_topics{{{C}}})", "topics")),
    lines("Sessions opened", "New sessions in a second. A peak on all nodes is a storm of reconnects: see why sessions closed.",
          (rate("umbel_sessions_opened_total", "instance"), "{{instance}}"), unit="cps", stack=True),
    lines("Sessions closed, by reason", "Sessions that ended in a second. client: they left; lost: the connection broke; moved, shutdown: a node leaves; slow, memory: they took too little in; the rest: what they did wrong.",
          (rate("umbel_sessions_closed_total", "reason") + " > 0", "{{reason}}"), unit="cps", stack=True),
    lines("Requests for history", "Polls in a second by what they got, and how many wait for a message. Refused: too many, or Redis doesn't answer.",
          (rate("umbel_polls_total", "outcome"), "{{outcome}} per second"), (f"sum(umbel_polls_waiting{{{C}}})", "waiting")),
    table("Nodes", "Each node: what it has and how near it is to its limits. Click a name for its own dashboard. Red: see the paragraph of its limit in the runbook.",
          [
              ("Sessions", of_nodes("umbel_sessions_open") + f" * on (cluster, instance) group_left (version) umbel_build_info{{{C}}}", "short", None),
              ("Deliveries", rate("umbel_deliveries_total", "cluster, instance"), "cps", None),
              ("Of its sessions", f"instance:umbel_sessions_limit:used_ratio{{{C}}}", "percentunit", steps((0.7, "orange"), (0.85, "red"))),
              ("Of its memory", f"instance:umbel_memory_budget:used_ratio{{{C}}}", "percentunit", steps((0.6, "orange"), (0.75, "red"))),
              ("Of its descriptors", f"instance:umbel_descriptors:used_ratio{{{C}}}", "percentunit", steps((0.7, "orange"), (0.85, "red"))),
              ("Processor", f'sum by (cluster, instance) (rate(process_cpu_seconds_total{{job="umbel", {C}}}{R}))', "percentunit", None),
              ("Loop lag", f"max by (cluster, instance) (umbel_event_loop_lag_peak_seconds{{{C}}})", "s", steps((0.1, "orange"), (0.25, "red"))),
              ("Up for", f'sum by (cluster, instance) (time() - process_start_time_seconds{{job="umbel", {C}}})', "s", None),
          ],
          links={"instance": "/d/umbel-node?${datasource:queryparam}&var-cluster=${__data.fields.cluster}&var-node=${__value.raw}&${__url_time_range}"},
          size=(24, 5)),
]

FLOW = [
    lines("Messages published", "Messages in a second that publishers gave the nodes and the broker took, by way. If it falls to nothing, ask the publishers, or see Publishing requests.",
          (rate("umbel_messages_received_total", "source"), "{{source}}"), unit="cps", stack=True),
    lines("Deliveries by rule", "Messages in a second written to sessions, by the pattern of their topics' rule. If it falls and what is published doesn't, see Deliveries skipped and waiting.",
          (rate("umbel_deliveries_total", "rule"), "{{rule}}"), unit="cps", stack=True),
    lines("Audience by rule", "To how many subscriptions a message goes, on each worker that has any: what makes one message costly.",
          (f"{rate('umbel_deliveries_expected_total', 'rule')} / ({rate('umbel_fanned_out_total', 'rule')} > 0)", "{{rule}}")),
    lines("Deliveries skipped", "Deliveries in a second that weren't made, by reason. slow_drop: lost to slow clients, which are told. slow_latest: replaced by a newer one, as asked. catch_up: read from history instead. own: the sender's. ended: the session is gone.",
          (rate("umbel_deliveries_skipped_total", "reason") + " > 0", "{{reason}}"), unit="cps", stack=True),
    lines("Deliveries waiting", "Expected, neither made nor skipped yet. It should return to nothing at once; if it grows, clients or the way to them take nothing in (UmbelDeliveriesMissing).",
          (f"sum by (instance) (umbel_deliveries_pending{{{C}}})", "{{instance}}"), stack=True),
    lines("Publishing requests", "Requests to publish in a second, by the status they got. 503 and 504: see Is Redis well. 4xx: the publisher's mistake.",
          (rate("umbel_publish_requests_total", "status") + " > 0", "{{status}}"), unit="cps", stack=True),
]

LATE = [
    heatmap("From publishing to delivery", "How old messages are when they are written to a session, by their publisher's or broker's clock. A second band above the first is a group of clients, a node or a rule: see the next panels.",
            f"sum by (le) (increase(umbel_delivery_seconds_bucket{{{C}}}{R}))"),
    lines("How late, in all", "Half, nine of ten, and 99 of 100 deliveries were faster than that. The line is the objective for 99 of 100.",
          (quantile(0.99, "umbel_delivery_seconds", "cluster"), "99 % {{cluster}}"), (quantile(0.9, "umbel_delivery_seconds", "cluster"), "90 % {{cluster}}"), (quantile(0.5, "umbel_delivery_seconds", "cluster"), "50 % {{cluster}}"), unit="s", size=(12, 8), red=0.25),
    lines("How late, by rule", "99 of 100 deliveries were faster than that, by the pattern of the topics' rule. One rule above the line: its audience is large or slow, or its publishers' clocks are wrong.",
          (quantile(0.99, "umbel_delivery_seconds", "rule"), "{{rule}}"), unit="s", red=0.25),
    lines("How late, by transport and node", "The same by transport and node. One node above the line: see its event loop.",
          (quantile(0.99, "umbel_delivery_seconds", "transport, instance"), "{{transport}} {{instance}}"), unit="s", red=0.25),
    lines("The nodes' own messages", "Each node sends itself a message a second by the way of all others: 99 of 100 took less than that. Above the line: everything is late, see Redis, round trip and Event loop lag.",
          (quantile(0.99, "umbel_canary_seconds", "instance"), "{{instance}}"), unit="s", red=0.25),
    lines("Late, of all deliveries", "The part of deliveries that took more than 0.25 s, over several spans. The line is what the objective allows; 14 times that within an hour is an alert.",
          *[(f"cluster:umbel_deliveries_late:ratio_rate{span}{{{C}}}", f"{{{{cluster}}}} within {span}") for span in ("5m", "30m", "1h", "6h")], unit="percentunit", red=0.01),
    lines("Handshakes", "From a connection's accept to the open session, 99 of 100. Slow: the accept rate is limited, Redis confirms subscriptions late, or the loop is busy.",
          (quantile(0.99, "umbel_handshake_seconds", "transport"), "{{transport}}"), unit="s", red=1),
    lines("Answers to publishers", "From a request's whole body to its answer, 99 of 100. Slow: see Redis, round trip; 2 s: workers' mailboxes are full.",
          (quantile(0.99, "umbel_publish_seconds", "instance"), "{{instance}}"), unit="s", red=0.5),
]

SLOW = [
    lines("Slow consumers", "Sessions in a second that were further behind than their budget, by what became of them: disconnected, skipped messages, or got the newest only. Many at once: see UmbelSlowConsumerSurge.",
          (rate("umbel_slow_consumers_total", "policy"), "{{policy}}"), unit="cps", size=(6, 8), stack=True),
    lines("Furthest behind", "How far the slowest session of each node is behind, of what is allowed. At 100 % its topic's policy applies to it; only its own messages suffer.",
          (f"max by (instance) (umbel_furthest_behind_bytes{{{C}}} / (umbel_allowed_behind_bytes{{{C}}} > 0))", "{{instance}}"), unit="percentunit", size=(6, 8), red=1),
    lines("Gaps told", "Times in a second that a client was told of missing messages, by reason. broker_link, rewound: Redis was away or lost data. too_old: history is too short. slow: the client. unknown_epoch, future: a cursor of another life.",
          (rate("umbel_gaps_total", "reason") + " > 0", "{{reason}}"), unit="cps", size=(6, 8), stack=True),
    lines("Returns", "Subscriptions in a second that named where to go on, by whether all behind it could be given, and where it was read: at hand, shared, or asked of Redis. Many gaps: UmbelResumesFail.",
          (rate("umbel_resumes_total", "outcome"), "{{outcome}}"), (rate("umbel_resume_reads_total", "from"), "read: {{from}}"), (f"sum(rate(umbel_replayed_total{{{C}}}{R}))", "messages replayed"), unit="cps", size=(6, 8)),
]

REDIS = [
    lines("Links to Redis", "1 while a node's link is good. 0: its clients get nothing; the causes are in the next panel.",
          (f"umbel_broker_up{{{C}}}", "{{instance}}"), most=1.1, size=(6, 8)),
    lines("Redis, failures by cause", "Failures of links in a second. unreachable, refused: not there. silent: hangs. lost: cut. denied: password or ACL. read_only: a replica. moved: a failover by Sentinel. no_writes: memory or disk. loading: it starts.",
          (rate("umbel_broker_failures_total", "cause") + " > 0", "{{cause}}"), unit="cps", stack=True, size=(6, 8)),
    lines("Redis, round trip", "From a probe's sending to its return by the way of messages, 99 of 100. Slow: slow commands (SLOWLOG GET), a fork, the network.",
          (quantile(0.99, "umbel_broker_probe_seconds", "instance"), "{{instance}}"), unit="s", red=0.1, size=(6, 8)),
    lines("Redis, clock", "Redis' clock less the node's. What it differs by, latencies are wrong by: see to NTP (UmbelClockSkewed).",
          (f"umbel_broker_clock_skew_seconds{{{C}}}", "{{instance}}"), unit="s", least=None, size=(6, 8)),
    lines("Messages from Redis", "Messages in a second that came to the nodes, by form: of nodes and the function (envelope), of a plain PUBLISH, or broken.",
          (rate("umbel_broker_messages_total", "form"), "{{form}}"), unit="cps", stack=True),
    lines("Missed and read again", "Messages in a second that nodes had missed and read from history, messages that waited for these, and gaps that no history could fill. Always: a link is unsteady or too slow.",
          (f"sum(rate(umbel_broker_repaired_total{{{C}}}{R}))", "repaired"), (f"sum(rate(umbel_broker_held_total{{{C}}}{R}))", "waited"), (f"sum(rate(umbel_broker_gaps_total{{{C}}}{R}))", "gaps"), unit="cps"),
    lines("Own messages lost", "Of the messages that nodes send themselves, one a second, those that never came back. Again and again: clients' messages are lost the same way (UmbelCanaryLost).",
          (rate("umbel_canaries_lost_total", "instance"), "{{instance}}"), unit="cps"),
]

BREAK = [
    ratio_bars("Sessions, of the limit", "What each node has of the sessions it may have; without a limit 0. Red: add nodes or raise limits.sessions (UmbelSessionsNearLimit).",
               (f"instance:umbel_sessions_limit:used_ratio{{{C}}}", "{{instance}}")),
    ratio_bars("Memory, of the budget", "What each node holds of node.memory_mib. At 80 % nobody is let in, at 90 % slow clients are cut short (UmbelMemoryNearBudget).",
               (f"instance:umbel_memory_budget:used_ratio{{{C}}}", "{{instance}}"), warn=0.6, red=0.75),
    ratio_bars("Descriptors, of the limit", "Open file descriptors of each process, of those it may have. Red: raise its limit (UmbelDescriptorsNearLimit).",
               (f"instance:umbel_descriptors:used_ratio{{{C}}}", "{{instance}}")),
    lines("Turned away or held back", "What met a limit in a second, by limit. sessions, memory: clients are turned away. accepts: they wait. draining: they go to another node. The rest: what clients did wrong or too much of.",
          (rate("umbel_limited_total", "limit") + " > 0", "{{limit}}"), unit="cps", stack=True, size=(6, 8)),
    lines("Event loop lag", "How late the worst worker's timers were lately. Above the line all its sessions wait so long: the node is too busy or doesn't get the processor.",
          (f"max by (instance) (umbel_event_loop_lag_peak_seconds{{{C}}})", "{{instance}}"), unit="s", red=0.25, size=(6, 8)),
    lines("Lost before accepted", "Connections in a second that the kernel dropped since nobody had accepted those before. Above 0: UmbelAcceptQueueOverflows.",
          (rate("umbel_accept_queue_overflows_total", "instance"), "{{instance}}: queue full"), (rate("umbel_accept_queue_drops_total", "instance"), "{{instance}}: dropped"), unit="cps", size=(6, 8)),
    lines("Leaving nodes", "Sessions that nodes still have which were asked to leave, and how far these are in the time planned. Beyond 1 with sessions left: UmbelDrainStuck.",
          (f"instance:umbel_sessions_open:sum{{{C}}} and on (cluster, instance) umbel_leaving == 1", "{{instance}}: sessions"), (f"umbel_drain_elapsed_seconds{{{C}}} / (umbel_drain_planned_seconds{{{C}}} > 0) > 0", "{{instance}}: of the time planned"), size=(6, 8)),
]

ANNOTATIONS = [
    annotation("Starts", f'1000 * process_start_time_seconds{{job="umbel", {C}}} * on (cluster, instance) group_left (version) umbel_build_info{{{C}}}', "green", "{{instance}} starts", "version {{version}}", at_value=True),
    annotation("Drains", f"umbel_leaving{{{C}}} == 1", "orange", "{{instance}} leaves", "its sessions are moved"),
    annotation("Critical alerts", f'ALERTS{{alertstate="firing", severity="critical", alertname=~"Umbel.*", {C}}}', "red", "{{alertname}}", "{{instance}}"),
]

LINKS = [{"type": "link", "title": "Umbel node", "url": "/d/umbel-node", "icon": "dashboard", "includeVars": True, "keepTime": True, "targetBlank": False, "asDropdown": False, "tags": [], "tooltip": "One node, in more detail"}]


def fleet():
    return dashboard(
        "umbel-fleet", "Umbel fleet", "All nodes of a cluster: who is connected, what flows, how late, who is slow, and what is about to break.",
        [choice("cluster", "Cluster", "label_values(umbel_build_info, cluster)", several=True)],
        ANNOTATIONS, LINKS,
        [
            ("At a glance", AT_A_GLANCE),
            ("Who is connected, and where?", CONNECTED),
            ("What flows?", FLOW),
            ("How late?", LATE),
            ("Who is slow, and who missed something?", SLOW),
            ("Is Redis well?", REDIS),
            ("What is about to break?", BREAK),
        ],
    )
