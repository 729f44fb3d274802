Promise.all([import("/page/scrape.js"), import("/page/panels.js")]).then(([scrape, panels]) => {
  // Two scrapes five seconds apart. Counters begin at 0 and grow by so many a second.
  const LE = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
  const long = (at) => `department-${at}.some-long-segment-of-a-name.*.status.of.everything`;
  const rules = ["scores.*", "<i>not HTML</i>", ...Array.from({ length: 18 }, (_, at) => long(at))];
  function text(seconds) {
    const lines = [];
    const put = (series, value) => lines.push(`${series} ${value}`);
    const grow = (series, rate) => put(series, rate * seconds);
    // Everything takes from 0.5 to 1 ms.
    const histogram = (name, rate, labels = "") => {
      const comma = labels && ",";
      for (const le of LE) grow(`${name}_bucket{${labels}${comma}le="${le}"}`, le < 0.001 ? 0 : rate);
      grow(`${name}_bucket{${labels}${comma}le="+Inf"}`, rate);
      grow(`${name}_count${labels && `{${labels}}`}`, rate);
    };
    put("process_start_time_seconds", 1);
    put('umbel_build_info{version="10.20.30"}', 1);
    put('umbel_sessions_open{transport="websocket"}', 1_200_000);
    put('umbel_sessions_open{transport="sse"}', 34_567);
    put("umbel_sessions_limit", 2_000_000);
    put("umbel_subscriptions", 12_345_678);
    put("umbel_topics", 1_234_567);
    put("umbel_deliveries_pending", 98_765);
    grow('umbel_messages_received_total{source="http"}', 123_456);
    grow('umbel_messages_received_total{source="session"}', 98_765);
    grow('umbel_sessions_opened_total{transport="websocket"}', 1234);
    for (const reason of ["client", "not_utf8", "unparseable", "overloaded", "moved"]) {
      grow(`umbel_sessions_closed_total{reason="${reason}"}`, 1234);
    }
    rules.forEach((rule, at) => {
      grow(`umbel_deliveries_total{rule="${rule}"}`, 200_000 / (at + 1));
      grow(`umbel_deliveries_expected_total{rule="${rule}"}`, 400_000 / (at + 1));
      // Half of what isn't made is the sessions' own, the rest of it is lost.
      for (const reason of ["own", "slow_drop"]) {
        grow(`umbel_deliveries_skipped_total{reason="${reason}",rule="${rule}"}`, 100_000 / (at + 1));
      }
      histogram("umbel_delivery_seconds", 1000, `transport="sse",rule="${rule}"`);
    });
    for (const name of ["fan_out", "canary", "publish", "broker_probe"]) histogram(`umbel_${name}_seconds`, 100);
    histogram("umbel_handshake_seconds", 100, 'transport="sse"');
    grow("umbel_sent_bytes_total", 1e9);
    grow("umbel_session_writes_total", 2e5);
    put('umbel_event_loop_lag_peak_seconds{worker="0"}', 0.0123);
    grow('umbel_runtime_busy_seconds_total{worker="0"}', 0.75);
    grow('umbel_runtime_busy_seconds_total{worker="1"}', 0.25);
    put('umbel_log_bytes{worker="0"}', 3e9);
    put("umbel_history_bytes", 2e9);
    for (const by of ["mailbox", "input", "control", "bodies", "connections", "streams", "replays", "sockets", "tables"]) {
      put(`umbel_held_bytes{by="${by}"}`, 1.1e9);
    }
    put("umbel_memory_budget_bytes", 2e10);
    put("process_resident_memory_bytes", 1.9e10);
    put("process_open_fds", 1_234_600);
    put("process_max_fds", 2_097_152);
    grow("process_cpu_seconds_total", 12.34);
    put("umbel_broker_up", 1);
    put("umbel_broker_clock_skew_seconds", -0.0123);
    put("umbel_broker_topics", 1_234_567);
    put("umbel_broker_topics_behind", 12);
    grow("umbel_broker_repaired_total", 12_345);
    grow("umbel_broker_gaps_total", 123_456);
    grow('umbel_broker_messages_total{form="raw"}', 345_678);
    for (const policy of ["disconnect", "drop", "latest"]) grow(`umbel_slow_consumers_total{policy="${policy}"}`, 12_345);
    for (const reason of ["slow", "broker_link", "unknown_epoch"]) grow(`umbel_gaps_total{reason="${reason}"}`, 12_345);
    for (const limit of ["sessions_per_address", "proxy_header"]) grow(`umbel_limited_total{limit="${limit}"}`, 1234);
    return lines.join("\n");
  }
  const scrapes = new scrape.Scrapes();
  const now = performance.now();
  scrapes.add(now - 5000, scrape.parse(text(0)));
  scrapes.add(now, scrape.parse(text(5)));
  panels.show(scrapes, now);
})
