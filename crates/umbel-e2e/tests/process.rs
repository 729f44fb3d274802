//! The process: how it starts, what it says, how it ends.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use umbel_e2e::{ConfiguredNode, HttpClient, World};

#[tokio::test]
async fn all_mistakes_are_told_in_one_run_each_with_its_place() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = "[limits]\npayload_bytes = \"big\"\nbody_byte = 5\n\n[[topics]]\nmatch = \"a.*\"\n\n[[topics]]\nmatch = \"*.b\"\n";
    let arguments = ["serve", "--listen", "nonsense", "--admin", &taken, "--workers=-1"];
    let (code, output, errors) = ConfiguredNode::run(
        &arguments,
        &[("UMBEL_BROKER__URL", "kafka://me:secret@x"), ("UMBEL_PORT", "x")],
        Some(file),
    )
    .await;
    assert_eq!((code, output.as_str()), (2, ""));
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "umbel: umbel.toml:2: limits.payload_bytes: must be a whole number from 0 to 1073741824, not a string",
            "umbel: umbel.toml:3: unknown key `limits.body_byte`, did you mean `limits.body_bytes`?",
            "umbel: umbel.toml:8: `*.b` and `a.*` of line 5 both match some topics and neither is closer; make one more specific",
            "umbel: UMBEL_BROKER__URL: broker.url: is not memory:, redis://host:port, redis+sentinel://host,…/master or unix:///path: begins with neither redis:// nor redis+sentinel:// nor unix://",
            "umbel: --listen: listen.http: `nonsense` is not an address and port such as \"127.0.0.1:8080\"",
            "umbel: --workers: node.workers: `-1` is not a whole number from 0 to 128",
            &format!(
                "umbel: listen.admin: {taken} is taken by another program or another Umbel; choose another port"
            ),
        ],
    );
}

#[tokio::test]
async fn a_flag_that_does_not_exist_is_told() {
    let (code, _, errors) = ConfiguredNode::run(&["--lisen", "127.0.0.1:0"], &[], None).await;
    assert_eq!(code, 2);
    assert!(
        errors.contains("unexpected argument '--lisen'") && errors.contains("--listen"),
        "{errors}"
    );
}

#[tokio::test]
async fn another_umbel_on_the_port_is_noticed() {
    let world = World::new().workers(2).start().await;
    let (http, admin) = (world.node(0).http().to_string(), world.node(0).admin().to_string());
    let (code, _, errors) =
        ConfiguredNode::run(&["--listen", &http, "--admin", &admin], &[], None).await;
    assert_eq!(code, 2);
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(
        errors.lines().all(|line| line.contains("is taken by another program or another Umbel")),
        "{errors}"
    );
}

#[tokio::test]
async fn listening_to_the_world_needs_rules() {
    let (code, _, errors) =
        ConfiguredNode::run(&["--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"], &[], None).await;
    assert_eq!(code, 2);
    assert!(
        errors.contains("no rule says who may do what; add at least: [[topics]] match = \"**\""),
        "{errors}"
    );
}

#[tokio::test]
async fn a_missing_file_is_told() {
    let (code, _, errors) = ConfiguredNode::run(
        &["--config", "nowhere.toml", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0"],
        &[],
        None,
    )
    .await;
    assert_eq!(code, 2);
    assert!(errors.starts_with("umbel: nowhere.toml: can't be read: No such file"), "{errors}");
}

#[tokio::test]
async fn the_reference_is_a_file_that_the_node_takes() {
    let (code, reference, _) = ConfiguredNode::run(&["reference"], &[], None).await;
    assert_eq!(code, 0);
    let world = World::new().settings(&reference).start().await;
    world.node(0).publish("a", "x").await;
}

#[tokio::test]
async fn an_interrupt_ends_it_at_once_and_sessions_are_told() {
    let mut world = World::new()
        .workers(2)
        .environment("UMBEL_DRAIN__PAUSE_SECONDS", "1000")
        .environment("UMBEL_DRAIN__DEADLINE_SECONDS", "2000")
        .start()
        .await;
    let node = world.node(0);
    let mut plain = node.subscribe("a").await;
    let mut json = node.json().await;
    let mut sse = node.sse("/topics/a").await;
    let mut idle = node.client().await;
    assert_eq!(idle.get("/").await.status, 200);
    node.signal("INT");
    assert_eq!(plain.closed_with(1001).await, "the node stops");
    json.closed_with(1001).await;
    assert!(sse.ends().await);
    assert!(idle.ends().await);
    drop((plain, json, sse, idle));
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let mut world = World::new().start().await;
    let stuck = world.node(0).subscribe("a").await;
    for _ in 0..50 {
        world.node(0).publish("a", &"x".repeat(60_000)).await;
    }
    world.node(0).signal("TERM");
    assert_eq!(world.node_mut(0).exit_code().await, Some(0));
    drop(stuck);
}

#[tokio::test]
async fn the_admin_listener_tells_health_and_counts() {
    let world = World::new().workers(2).start().await;
    let node = world.node(0);
    let _sessions = (node.subscribe("a").await, node.sse("/topics/a,b").await);
    node.metric_becomes("umbel_subscriptions", 3.0).await;
    let mut admin = HttpClient::connect(node.admin()).await;
    for path in ["/livez", "/readyz"] {
        let answer = admin.get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    }
    let counts = admin.get("/debug/sessions").await.json();
    let workers = counts["workers"].as_array().unwrap();
    let sum =
        |field: &str| workers.iter().map(|worker| worker[field].as_f64().unwrap()).sum::<f64>();
    assert_eq!(
        (workers.len(), sum("websocket"), sum("sse"), sum("subscriptions")),
        (2, 1.0, 1.0, 3.0)
    );
    assert_eq!(admin.get("/nothing").await.status, 404);
    assert_eq!(admin.post("/metrics", "text/plain", b"x").await.status, 405);
    let metrics = admin.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
}
