"""The dashboard of one node, or a few."""

from panels import annotation, choice, dashboard, from_red, heatmap, lines, ratio_gauge, stat, steps

N = 'cluster=~"$cluster", instance=~"$node"'
JOB = f'job="umbel", {N}'
R = "[$__rate_interval]"


def rate(metric, by="instance", labels=N):
    """Per second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}{R}))"


def quantile(part, metric, by):
    return f"histogram_quantile({part}, sum by ({by}, le) (rate({metric}_bucket{{{N}}}{R})))"


STAGES = {0: "serving", 1: "announced", 2: "moving", 3: "hurried", 4: "stopping"}

AT_A_GLANCE = [
    stat("Up for", "Since the process started, and its version. Short again and again: UmbelNodeRestarting.",
         (f"(time() - process_start_time_seconds{{{JOB}}}) * on (cluster, instance) group_left (version) umbel_build_info{{{N}}}", "{{instance}} {{version}}"), unit="s", size=(4, 6), spark=False, text="value_and_name"),
    stat("Stage", "Whether it serves, or how far it is in leaving: announced to load balancers, moving its sessions, hurried, stopping.",
         (f"umbel_drain_stage{{{N}}}", "{{instance}}"), size=(4, 6), thresholds=steps((1, "orange")), names=STAGES, spark=False, text="value_and_name"),
    stat("Link to Redis", "Whether the last probe came back. Red: its clients get nothing; see Is its link to Redis well.",
         (f"umbel_broker_up{{{N}}}", "{{instance}}"), size=(4, 6), thresholds=from_red(1), names={0: "down", 1: "up"}, spark=False, text="value_and_name"),
    ratio_gauge("Sessions, of the limit", "What it has of the sessions it may have; without a limit 0. Red: UmbelSessionsNearLimit.",
                (f"instance:umbel_sessions_limit:used_ratio{{{N}}}", "{{instance}}")),
    ratio_gauge("Memory, of the budget", "What it holds of its budget. At 80 % nobody is let in. Red: UmbelMemoryNearBudget.",
                (f"instance:umbel_memory_budget:used_ratio{{{N}}}", "{{instance}}"), warn=0.6, red=0.75),
    ratio_gauge("Descriptors, of the limit", "Open file descriptors, of those it may have. Red: UmbelDescriptorsNearLimit.",
                (f"instance:umbel_descriptors:used_ratio{{{N}}}", "{{instance}}")),
]

CONNECTED = [
    lines("Sessions", "Connected clients, by transport.",
          (f"sum by (transport) (umbel_sessions_open{{{N}}})", "{{transport}}"), stack=True, size=(6, 8)),
    lines("Sessions opened and closed", "Sessions in a second that began, by transport, and that ended, by reason.",
          (rate("umbel_sessions_opened_total", "transport"), "opened: {{transport}}"), (rate("umbel_sessions_closed_total", "reason") + " > 0", "closed: {{reason}}"), unit="cps", size=(6, 8)),
    lines("Connections without a session", "Connections that are served HTTP: publishers, polls, and clients on their way to a session. If they grow and sessions don't, see who holds them (/debug/sessions, proxies).",
          (f"sum by (instance) (umbel_connections_open{{{N}}})", "{{instance}}: open"), (f"sum by (instance) (umbel_polls_waiting{{{N}}})", "{{instance}}: polls that wait"), size=(6, 8)),
    lines("Accepts", "Connections in a second that were accepted, and that couldn't be. Errors: descriptors are used up (UmbelDescriptorsNearLimit).",
          (rate("umbel_connections_accepted_total"), "{{instance}}: accepted"), (rate("umbel_accept_errors_total"), "{{instance}}: errors"), unit="cps", size=(6, 8)),
    lines("Subscriptions", "What its sessions are subscribed to, and the topics of which that is, once per worker.",
          (f"sum by (instance) (umbel_subscriptions{{{N}}})", "{{instance}}: subscriptions"), (f"sum by (instance) (umbel_topics{{{N}}})", "{{instance}}: topics"), size=(6, 8)),
    lines("Heartbeats", "Pings and comments in a second for sessions to which nothing else was written.",
          (rate("umbel_heartbeats_total"), "{{instance}}"), unit="cps", size=(6, 8)),
    lines("Requests for history", "Polls in a second by what they got.",
          (rate("umbel_polls_total", "outcome"), "{{outcome}}"), unit="cps", size=(6, 8), stack=True),
    lines("Limits met", "What met a limit in a second, by limit: refused, held back or ended.",
          (rate("umbel_limited_total", "limit") + " > 0", "{{limit}}"), unit="cps", size=(6, 8), stack=True),
]

FLOW = [
    lines("Published here", "Messages in a second that publishers gave this node and the broker took, by way.",
          (rate("umbel_messages_received_total", "source"), "{{source}}"), unit="cps", stack=True, size=(6, 8)),
    lines("Deliveries by rule", "Messages in a second written to sessions, by the pattern of their topics' rule.",
          (rate("umbel_deliveries_total", "rule"), "{{rule}}"), unit="cps", stack=True, size=(6, 8)),
    lines("Deliveries skipped", "Deliveries in a second that weren't made, by reason; slow_drop alone is a loss.",
          (rate("umbel_deliveries_skipped_total", "reason") + " > 0", "{{reason}}"), unit="cps", stack=True, size=(6, 8)),
    lines("Deliveries waiting", "Expected, neither made nor skipped yet. If it stays or grows, clients take nothing in.",
          (f"sum by (instance) (umbel_deliveries_pending{{{N}}})", "{{instance}}"), size=(6, 8)),
    lines("Sent to sessions", "Bytes in a second written to sessions.",
          (rate("umbel_sent_bytes_total"), "{{instance}}"), unit="Bps", size=(6, 8)),
    lines("Deliveries per write", "How many messages a system call carries: more is cheaper, and means that more waited.",
          (f"{rate('umbel_deliveries_total')} / ({rate('umbel_session_writes_total')} > 0)", "{{instance}}"), size=(6, 8)),
    lines("Returns", "Subscriptions in a second that named where to go on, by outcome; where it was read; messages replayed.",
          (rate("umbel_resumes_total", "outcome"), "{{outcome}}"), (rate("umbel_resume_reads_total", "from"), "read: {{from}}"), (rate("umbel_replayed_total"), "{{instance}}: messages replayed"), unit="cps", size=(6, 8)),
    lines("Slow consumers and gaps", "Sessions in a second that were too far behind, by what became of them, and gaps told, by reason.",
          (rate("umbel_slow_consumers_total", "policy") + " > 0", "slow: {{policy}}"), (rate("umbel_gaps_total", "reason") + " > 0", "gap: {{reason}}"), unit="cps", size=(6, 8)),
]

LATE = [
    heatmap("From publishing to delivery", "How old messages are when they are written to a session, by their publisher's or broker's clock.",
            f"sum by (le) (increase(umbel_delivery_seconds_bucket{{{N}}}{R}))"),
    heatmap("Fan-out", "From this node's receipt of a message to the last write of its batch: what the node itself takes. Broad: large audiences, or too little processor.",
            f"sum by (le) (increase(umbel_fan_out_seconds_bucket{{{N}}}{R}))"),
    lines("How late, by transport", "99 of 100 deliveries were faster than that. The line is the objective.",
          (quantile(0.99, "umbel_delivery_seconds", "transport"), "{{transport}}"), unit="s", red=0.25, size=(6, 8)),
    lines("Its own messages", "The message that it sends itself each second: half and 99 of 100 took less; and those lost.",
          (quantile(0.99, "umbel_canary_seconds", "instance"), "{{instance}}: 99 %"), (quantile(0.5, "umbel_canary_seconds", "instance"), "{{instance}}: 50 %"), unit="s", red=0.25, size=(6, 8)),
    lines("Handshakes and answers", "99 of 100 took less: from accept to open session, and from a publisher's whole request to its answer.",
          (quantile(0.99, "umbel_handshake_seconds", "transport"), "session: {{transport}}"), (quantile(0.99, "umbel_publish_seconds", "instance"), "answer: {{instance}}"), unit="s", red=1, size=(6, 8)),
    lines("Own messages, sent and lost", "Messages in a second that it sent itself, and that were lost; and clients' messages whose time of publishing lies in this node's future (a wrong clock somewhere). Lost ones: UmbelCanaryLost.",
          (rate("umbel_canaries_sent_total"), "{{instance}}: sent"), (rate("umbel_canaries_lost_total"), "{{instance}}: lost"), (rate("umbel_published_in_future_total"), "{{instance}}: of the future"), unit="cps", size=(6, 8)),
]

LOOPS = [
    lines("Event loop, busy", "The part of its time that a worker's loop wasn't waiting, and that of the thread which all messages of Redis pass. Near 100 %: add nodes or workers.",
          (rate("umbel_runtime_busy_seconds_total", "instance, worker"), "{{instance}} worker {{worker}}"), (rate("umbel_broker_busy_seconds_total"), "{{instance}}: Redis"), unit="percentunit", red=0.9, most=1, size=(6, 8)),
    lines("Event loop lag", "How late timers came: the worst lately of each worker, and 99 of 100 of all; and for how long a worker hasn't ticked, a quarter of a second unless it is stuck. Above the line: UmbelEventLoopStalled.",
          (f"umbel_event_loop_lag_peak_seconds{{{N}}}", "{{instance}} worker {{worker}}"), (quantile(0.99, "umbel_event_loop_lag_seconds", "instance"), "{{instance}}: 99 %"), (f"max by (instance) (umbel_event_loop_silent_seconds{{{N}}})", "{{instance}}: silent"), unit="s", red=0.25, size=(6, 8)),
    lines("Event loop, rests", "Times in a second that a worker had nothing to do. With much to do it falls.",
          (rate("umbel_runtime_parks_total", "instance, worker"), "{{instance}} worker {{worker}}"), unit="cps", size=(6, 8)),
    lines("Tasks", "Tasks of each worker: about one per session and connection. If they grow and these don't, something leaks.",
          (f"umbel_runtime_alive_tasks{{{N}}}", "{{instance}} worker {{worker}}"), size=(6, 8)),
]

MEMORY = [
    lines("Memory, by what holds it", "What counts against the budget. sockets and logs: slow clients. history: bounded by a setting. tables: sessions and topics themselves. input, bodies: publishers. replays: clients that catch up.",
          (f"sum by (by) (umbel_held_bytes{{{N}}}) > 0", "{{by}}"), (f"sum(umbel_log_bytes{{{N}}})", "logs"), (f"sum(umbel_history_bytes{{{N}}})", "history"), unit="bytes", stack=True),
    lines("Furthest behind", "How far the slowest session of each worker is behind, in bytes, and how far it may be. If the allowance falls, memory is short.",
          (f"umbel_furthest_behind_bytes{{{N}}}", "{{instance}} worker {{worker}}"), (f"umbel_allowed_behind_bytes{{{N}}}", "allowed: {{instance}} worker {{worker}}"), unit="bytes"),
    lines("The process' memory", "What the kernel says it has, what the allocator holds, and what the program asked for. If the first two stay high after the third fell, it is kept for later and given back in time.",
          (f"process_resident_memory_bytes{{{JOB}}}", "{{instance}}: resident"), (f"umbel_allocator_resident_bytes{{{N}}}", "{{instance}}: of the allocator"), (f"umbel_allocator_allocated_bytes{{{N}}}", "{{instance}}: asked for"), unit="bytes"),
    lines("Processor", "Processor time in a second: 100 % is one core.",
          (f"sum by (instance) (rate(process_cpu_seconds_total{{{JOB}}}{R}))", "{{instance}}"), unit="percentunit"),
    lines("Descriptors", "Open file descriptors: about one per session and connection.",
          (f"umbel_descriptors_open{{{N}}}", "{{instance}}")),
    lines("Logs of topics", "Bytes in each worker's logs of topics: one copy of what the slowest client of each still needs.",
          (f"umbel_log_bytes{{{N}}}", "{{instance}} worker {{worker}}"), unit="bytes"),
]

REDIS = [
    lines("Redis, round trip", "From a probe's sending to its return: 99 of 100, and half.",
          (quantile(0.99, "umbel_broker_probe_seconds", "instance"), "{{instance}}: 99 %"), (quantile(0.5, "umbel_broker_probe_seconds", "instance"), "{{instance}}: 50 %"), unit="s", red=0.1, size=(6, 8)),
    lines("Links made and failed", "Connections made to Redis in a second, and failures by cause. Again and again: UmbelBrokerLinkUnsteady.",
          (rate("umbel_broker_connects_total"), "{{instance}}: made"), (rate("umbel_broker_failures_total", "cause") + " > 0", "failed: {{cause}}"), unit="cps", size=(6, 8)),
    lines("Topics at Redis", "Topics that the node is subscribed to, and those of which it misses messages just now and reads them from history. The latter should return to 0 at once.",
          (f"umbel_broker_topics{{{N}}}", "{{instance}}: subscribed"), (f"umbel_broker_topics_behind{{{N}}}", "{{instance}}: behind"), size=(6, 8)),
    lines("Received from Redis", "Bytes in a second from the connection for subscriptions, and times that it wasn't read since a worker had no room (then this node is too slow for its topics).",
          (rate("umbel_broker_received_bytes_total"), "{{instance}}"), unit="Bps", size=(6, 8)),
    lines("Messages from Redis", "Messages in a second by form; without an id: by plain PUBLISH on a topic with history, so live only; twice: came again and were dropped.",
          (rate("umbel_broker_messages_total", "form"), "{{form}}"), (rate("umbel_broker_messages_without_id_total"), "{{instance}}: without an id"), (rate("umbel_broker_duplicates_total"), "{{instance}}: twice"), unit="cps", size=(6, 8)),
    lines("Published at Redis", "Messages in a second by outcome, and those sent again. unknown: publishers got 504. refused: 502 or 503.",
          (rate("umbel_broker_published_total", "outcome"), "{{outcome}}"), (rate("umbel_broker_publish_retries_total"), "{{instance}}: again"), unit="cps", size=(6, 8)),
    lines("Messages per round trip", "How many messages go to Redis at once: more under load, which is cheaper.",
          (f"{rate('umbel_broker_published_total')} / ({rate('umbel_broker_publish_batches_total')} > 0)", "{{instance}}"), size=(6, 8)),
    lines("Reads of history", "Reads in a second: follow compares and repairs, whole and page serve returning sessions. Refused by Redis and entries that are no messages: somebody else writes to these keys.",
          (rate("umbel_broker_reads_total", "kind"), "{{kind}}"), (rate("umbel_broker_refused_reads_total"), "{{instance}}: refused"), (rate("umbel_broker_malformed_entries_total"), "{{instance}}: no messages"), unit="cps", size=(6, 8)),
    lines("Missed and read again", "Messages in a second that were missed and read from history, and that waited for these; gaps that stayed; times that reading paused since a worker had no room for more (then this node is too slow for its topics, UmbelBrokerLinkUnsteady).",
          (rate("umbel_broker_repaired_total"), "{{instance}}: repaired"), (rate("umbel_broker_held_total"), "{{instance}}: waited"), (rate("umbel_broker_gaps_total"), "{{instance}}: gaps"), (rate("umbel_broker_intake_pauses_total"), "{{instance}}: pauses"), unit="cps", size=(12, 8)),
    lines("Redis, clock", "Redis' clock less the node's: latencies are wrong by as much (UmbelClockSkewed).",
          (f"umbel_broker_clock_skew_seconds{{{N}}}", "{{instance}}"), unit="s", least=None, size=(12, 8)),
]

LEAVING = [
    lines("Leaving", "How far it is in the time that was planned for leaving. Beyond 100 % all sessions should be gone (UmbelDrainStuck).",
          (f"umbel_drain_elapsed_seconds{{{N}}} / (umbel_drain_planned_seconds{{{N}}} > 0)", "{{instance}}"), unit="percentunit", red=1),
    lines("Sessions moved", "Sessions in a second that were told to come back elsewhere.",
          (rate("umbel_sessions_closed_total", labels=N + ', reason="moved"'), "{{instance}}"), unit="cps"),
    lines("Lost before accepted", "Connections in a second that the kernel dropped in this node's network namespace since nobody had accepted those before (UmbelAcceptQueueOverflows).",
          (rate("umbel_accept_queue_overflows_total"), "{{instance}}: queue full"), (rate("umbel_accept_queue_drops_total"), "{{instance}}: dropped"), unit="cps"),
    lines("Log", "Lines in a second that it logged, by level, that it left out so as not to repeat itself, and that were lost since nobody took them in. Errors: read them.",
          (rate("umbel_log_events_total", "level"), "{{level}}"), (rate("umbel_log_events_suppressed_total"), "{{instance}}: left out"), (rate("umbel_log_events_dropped_total"), "{{instance}}: lost"), unit="cps", size=(12, 8)),
    lines("Traces", "Spans in a second that were sent to a collector, and that were dropped (the collector is slow or away). Nothing unless tracing is set up.",
          (rate("umbel_spans_exported_total"), "{{instance}}: sent"), (rate("umbel_spans_dropped_total"), "{{instance}}: dropped"), unit="cps", size=(12, 8)),
]

ANNOTATIONS = [
    annotation("Starts", f"1000 * process_start_time_seconds{{{JOB}}} * on (cluster, instance) group_left (version) umbel_build_info{{{N}}}", "green", "{{instance}} starts", "version {{version}}", at_value=True),
    annotation("Drains", f"umbel_leaving{{{N}}} == 1", "orange", "{{instance}} leaves", "its sessions are moved"),
]

LINKS = [{"type": "link", "title": "Umbel fleet", "url": "/d/umbel-fleet", "icon": "dashboard", "includeVars": True, "keepTime": True, "targetBlank": False, "asDropdown": False, "tags": [], "tooltip": "All nodes"}]


def node():
    return dashboard(
        "umbel-node", "Umbel node", "One node, or a few: its sessions, messages, latencies, event loops, memory and link.",
        [
            choice("cluster", "Cluster", "label_values(umbel_build_info, cluster)", several=True),
            choice("node", "Node", 'label_values(umbel_build_info{cluster=~"$cluster"}, instance)', several=True),
        ],
        ANNOTATIONS, LINKS,
        [
            ("At a glance", AT_A_GLANCE),
            ("Who is connected?", CONNECTED),
            ("What flows?", FLOW),
            ("How late?", LATE),
            ("Do its event loops keep up?", LOOPS),
            ("What holds its memory?", MEMORY),
            ("Is its link to Redis well?", REDIS),
            ("Does it leave, and what does it say?", LEAVING),
        ],
    )
