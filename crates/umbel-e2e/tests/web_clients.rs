//! Client code as it is written everywhere, with the browser's own WebSocket and EventSource, against
//! a node with `deploy/examples/web-clients.toml`: hooks and classes for each use, URLs as they build
//! them.
//!
//! Each test does what the code does: connects, sends, reads, closes. Since messages come in order, a
//! message that follows shows that nothing came before it that shouldn't have.
//!
//! Four of them show nothing before they have a state: the game's hook and class, and the job's. They
//! get the last one when they connect. Lists (feeds, notifications) begin empty and grow; what comes
//! while an `EventSource` is between two connections is not missing in them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use umbel_e2e::{Node, Page, SseClient, WebSocketClient, World};

const ROUTES: &str = include_str!("../../../deploy/examples/web-clients.toml");

async fn world() -> World {
    World::new().settings(ROUTES).start().await
}

/// A page of the development server whose origin the example allows.
fn page(world: &World) -> Page<'_> {
    Page::of("http://localhost:3000", world.node(0))
}

/// What a backend does: `POST /topics/…` with JSON.
async fn publish(node: &Node, topic: &str, message: &Value) {
    publish_named(node, topic, None, message).await;
}

async fn publish_named(node: &Node, topic: &str, event: Option<&str>, message: &Value) {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(event.map(|name| ("umbel-event", name)));
    let path = format!("/topics/{topic}");
    let mut client = node.client().await;
    let answer = client.request("POST", &path, &headers, message.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A stream is cut and meanwhile `publish` happens; then the browser is back.
async fn is_back(
    page: Page<'_>,
    url: &str,
    lost: SseClient,
    meanwhile: impl Future<Output = ()>,
) -> SseClient {
    let id = lost.last_event_id().to_owned();
    drop(lost);
    meanwhile.await;
    page.event_source_again(url, &id).await
}

/// `JSON.parse(event.data)` in `onmessage`, which only unnamed events reach.
async fn unnamed(stream: &mut SseClient) -> Value {
    serde_json::from_str(&stream.data().await).unwrap()
}

/// `JSON.parse(event.data)` of the next event, which must have this name.
async fn named(stream: &mut SseClient, name: &str) -> Value {
    let event = stream.event().await;
    assert_eq!(event.name, name, "{event:?}");
    serde_json::from_str(&event.data).unwrap()
}

/// `ws.close()`.
async fn close_socket(node: &Node, socket: WebSocketClient) {
    let held = node.metrics().await.value("umbel_subscriptions");
    socket.close().await;
    left_within_a_second(node, held - 1.0).await;
}

/// `eventSource.close()`, which ends the connection.
async fn close_stream(node: &Node, stream: SseClient, topics: u32) {
    node.metric_exceeds("umbel_subscriptions", f64::from(topics) - 0.5).await;
    let held = node.metrics().await.value("umbel_subscriptions");
    drop(stream);
    left_within_a_second(node, held - f64::from(topics)).await;
}

async fn left_within_a_second(node: &Node, held: f64) {
    let start = Instant::now();
    node.metric_becomes("umbel_subscriptions", held).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

mod generic {
    use super::*;

    fn greeting() -> Value {
        json!({"type": "greeting", "message": "Hello Server!"})
    }

    #[tokio::test]
    async fn the_websocket_hook_hears_others_and_its_own_greeting() {
        let world = world().await;
        let mut other = page(&world).web_socket("ws://localhost:8080").await;
        let mut own = page(&world).web_socket("ws://localhost:8080").await;
        own.send_text(&greeting().to_string()).await;
        assert_eq!(own.text().await, greeting().to_string(), "byte for byte, as text");
        assert_eq!(other.json().await, greeting());
        other.send_text("not JSON either").await;
        assert_eq!(own.text().await, "not JSON either");
        world.node(0).metric_becomes("umbel_subscriptions", 2.0).await;
        close_socket(world.node(0), own).await;
        world.node(0).publish("lobby", "still open").await;
        assert_eq!(other.text().await, "not JSON either");
        assert_eq!(other.text().await, "still open");
    }

    #[tokio::test]
    async fn the_websocket_class_sends_nothing_before_it_is_open_and_hears_others() {
        let world = world().await;
        // `connect(); send(…)`: the class itself drops what is sent while it connects.
        let mut own = page(&world).web_socket("ws://localhost:8080").await;
        let mut other = page(&world).web_socket("ws://localhost:8080").await;
        other.send_text(&greeting().to_string()).await;
        assert_eq!(own.json().await, greeting(), "the first frame: there is no greeting of ours");
        own.send_text(&json!({"n": 1}).to_string()).await;
        assert_eq!(own.json().await, json!({"n": 1}));
        world.node(0).metric_becomes("umbel_subscriptions", 2.0).await;
        close_socket(world.node(0), own).await;
    }

    #[tokio::test]
    async fn the_event_source_hook_gets_messages_and_notifications_apart() {
        let world = world().await;
        let node = world.node(0);
        let mut stream = page(&world).event_source("http://localhost:8080/events").await;
        assert_eq!(named(&mut stream, "connected").await, json!({"message": "Connected!"}));
        publish(node, "events", &json!({"timestamp": 1, "value": 0.5})).await;
        publish_named(node, "events", Some("notification"), &json!({"title": "t"})).await;
        publish(node, "events", &json!({"timestamp": 2, "value": 0.25})).await;
        assert_eq!(unnamed(&mut stream).await, json!({"timestamp": 1, "value": 0.5}));
        assert_eq!(named(&mut stream, "notification").await, json!({"title": "t"}));
        assert_eq!(unnamed(&mut stream).await, json!({"timestamp": 2, "value": 0.25}));
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_sse_class_gets_messages_and_notifications_apart() {
        let world = world().await;
        let node = world.node(0);
        let mut stream = page(&world).event_source("http://localhost:8080/events").await;
        publish_named(node, "events", Some("notification"), &json!([1])).await;
        publish(node, "events", &json!({"n": 1})).await;
        named(&mut stream, "connected").await;
        assert_eq!(named(&mut stream, "notification").await, json!([1]));
        assert_eq!(unnamed(&mut stream).await, json!({"n": 1}));
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_echo_client_hears_what_it_said_and_what_a_server_answers() {
        let world = world().await;
        let mut socket = page(&world).web_socket("ws://localhost:8080").await;
        socket.send_text("Hello Server!").await;
        assert_eq!(socket.text().await, "Hello Server!");
        world.node(0).publish("lobby", "Echo: Hello Server!").await;
        assert_eq!(socket.text().await, "Echo: Hello Server!");
        world.node(0).metric_becomes("umbel_subscriptions", 1.0).await;
        close_socket(world.node(0), socket).await;
    }

    #[tokio::test]
    async fn the_clock_s_client_gets_text_that_is_not_json() {
        let world = world().await;
        let node = world.node(0);
        let mut stream = page(&world).event_source("/events").await;
        named(&mut stream, "connected").await;
        for time in ["2026-01-12T10:00:00.000Z", "2026-01-12T10:00:01.000Z"] {
            node.publish("events", time).await;
            assert_eq!(stream.data().await, time);
        }
        close_stream(node, stream, 1).await;
    }
}

mod rooms {
    use super::*;

    #[tokio::test]
    async fn the_document_collaborator_gets_the_changes_of_others_alone() {
        let world = world().await;
        let node = world.node(0);
        let url = "ws://localhost:8080/collab/doc-42";
        let mut own = page(&world).web_socket(url).await;
        let mut other = page(&world).web_socket(url).await;
        let mut elsewhere = page(&world).web_socket("ws://localhost:8080/collab/doc-43").await;
        own.send_text(&json!({"type": "text_insert", "at": 0, "text": "mine"}).to_string()).await;
        assert_eq!(other.json().await["text"], "mine");
        for change in ["text_insert", "text_delete", "cursor_move"] {
            other.send_text(&json!({"type": change}).to_string()).await;
            assert_eq!(own.json().await, json!({"type": change}), "its own did not come");
        }
        publish(node, "collab.doc-43", &json!({"type": "cursor_move"})).await;
        assert_eq!(elsewhere.json().await, json!({"type": "cursor_move"}), "nothing else came");
        node.metric_becomes("umbel_subscriptions", 3.0).await;
        close_socket(node, own).await;
    }

    /// What a chat client sends: without id and user, which its list shows.
    fn line(text: &str) -> Value {
        json!({"type": "message", "text": text, "timestamp": 1_768_212_000_000_u64})
    }

    /// A line as it must arrive: with an id, and with the sender that the node knows.
    fn assert_is_line(got: &Value, text: &str, user: &str) {
        let id = got["id"].as_str().unwrap();
        assert_eq!(id.len(), 32, "{got}");
        let mut expected = line(text);
        expected["id"] = id.into();
        expected["user"] = user.into();
        assert_eq!(got, &expected);
    }

    #[tokio::test]
    async fn the_chat_hook_shows_each_line_once_its_own_too_with_id_and_user() {
        let world = world().await;
        let node = world.node(0);
        let mut ann = page(&world).web_socket("ws://localhost:8080/chat/room123").await;
        let mut ben = page(&world).web_socket("ws://localhost:8080/chat/room123").await;
        let users = (ann.session(), ben.session());
        ann.send_text(&line("hello").to_string()).await;
        ben.send_text(&line("hi").to_string()).await;
        let mut lines = Vec::new();
        for client in [&mut ann, &mut ben] {
            let mut both = [client.json().await, client.json().await];
            both.sort_by_key(|line| line["text"].as_str().unwrap().len());
            assert_is_line(&both[0], "hi", &users.1);
            assert_is_line(&both[1], "hello", &users.0);
            lines.push(both);
        }
        assert_eq!(lines[0], lines[1], "everyone sees the same ids");
        assert_ne!(lines[0][0]["id"], lines[0][1]["id"]);
        node.metric_becomes("umbel_subscriptions", 2.0).await;
        close_socket(node, ann).await;
    }

    #[tokio::test]
    async fn the_chat_class_can_t_speak_as_another_user() {
        let world = world().await;
        let node = world.node(0);
        // As `encodeURIComponent` writes `team:42`, and as a browser leaves it.
        let mut own = page(&world).web_socket("ws://localhost:8080/chat/team%3A42").await;
        let mut other = page(&world).web_socket("ws://localhost:8080/chat/team:42").await;
        let mut forged = line("x");
        forged["user"] = "admin".into();
        forged["id"] = "1".into();
        own.send_text(&forged.to_string()).await;
        let user = own.session();
        for client in [&mut own, &mut other] {
            let text = client.text().await;
            assert_is_line(&serde_json::from_str(&text).unwrap(), "x", &user);
            assert_eq!(text.matches("\"user\"").count(), 1, "what was forged is gone: {text}");
        }
        node.metric_becomes("umbel_subscriptions", 2.0).await;
        close_socket(node, own).await;
    }
}

mod games {
    use super::*;

    fn state(class: bool, round: u32) -> Value {
        if class {
            json!({"players": [], "ball": {"x": round}, "score": {"left": 0, "right": round}})
        } else {
            json!({"players": [{"id": 1}], "ball": {}, "score": round})
        }
    }

    async fn plays(game: &str, class: bool) {
        let world = world().await;
        let node = world.node(0);
        let topic = format!("game.{game}.state");
        let mut server = node.subscribe(&format!("game.{game}.actions")).await;
        // The game goes on already: without a state there is nothing to see and no button.
        for round in [1, 2] {
            publish(node, &topic, &state(class, round)).await;
        }
        let url = format!("ws://localhost:8080/game/{game}");
        let mut player = page(&world).web_socket(&url).await;
        let mut rival = page(&world).web_socket(&url).await;
        for client in [&mut player, &mut rival] {
            assert_eq!(client.json().await, state(class, 2), "the last state, and no older one");
        }
        let action = json!({"type": "move", "data": {"direction": "up"}}).to_string();
        player.send_text(&action).await;
        assert_eq!(server.text().await, action, "the game's server gets it as it was sent");
        publish(node, &topic, &state(class, 3)).await;
        for client in [&mut player, &mut rival] {
            assert_eq!(client.json().await, state(class, 3), "no action came as a state");
        }
        node.metric_becomes("umbel_subscriptions", 3.0).await;
        close_socket(node, player).await;
        let mut player = page(&world).web_socket(&url).await;
        assert_eq!(player.json().await, state(class, 3), "whoever connects anew sees it again");
    }

    #[tokio::test]
    async fn a_game_that_has_no_state_yet_begins_with_the_first() {
        let world = world().await;
        let mut player = page(&world).web_socket("ws://localhost:8080/game/new").await;
        publish(world.node(0), "game.old.state", &state(false, 7)).await;
        publish(world.node(0), "game.new.state", &state(false, 1)).await;
        assert_eq!(player.json().await, state(false, 1));
    }

    #[tokio::test]
    async fn the_game_hook_sends_actions_and_gets_states() {
        plays("g1", false).await;
    }

    #[tokio::test]
    async fn the_game_class_sends_actions_and_gets_states() {
        plays("arena-7", true).await;
    }
}

mod feeds {
    use super::*;

    const STOCKS: &str = "/api/feeds/stock-prices";

    async fn price(node: &Node, price: u32) {
        publish(node, "feeds.stock-prices", &json!({"ACME": price})).await;
    }

    #[tokio::test]
    async fn the_live_feed_hook_gets_updates_without_names() {
        let world = world().await;
        let node = world.node(0);
        price(node, 0).await;
        let mut stream = page(&world).event_source(STOCKS).await;
        publish(node, "feeds.news", &json!({"no": 1})).await;
        for n in [1, 2] {
            price(node, n).await;
            assert_eq!(unnamed(&mut stream).await, json!({"ACME": n}), "its list begins empty");
        }
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_live_feed_hook_s_list_lacks_nothing_after_a_lost_connection() {
        let world = world().await;
        let node = world.node(0);
        let stream = page(&world).event_source(STOCKS).await;
        // Lost before its first message, then behind one.
        let mut stream = is_back(page(&world), STOCKS, stream, price(node, 1)).await;
        assert_eq!(unnamed(&mut stream).await, json!({"ACME": 1}));
        let away = async {
            price(node, 2).await;
            price(node, 3).await;
        };
        let mut stream = is_back(page(&world), STOCKS, stream, away).await;
        price(node, 4).await;
        for n in [2, 3, 4] {
            assert_eq!(unnamed(&mut stream).await, json!({"ACME": n}), "each once, in order");
        }
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn two_live_feed_classes_get_a_feed_each() {
        let world = world().await;
        let node = world.node(0);
        let mut stocks = page(&world).event_source(STOCKS).await;
        let mut news = page(&world).event_source("/api/feeds/news").await;
        price(node, 1).await;
        publish(node, "feeds.news", &json!({"headline": "h"})).await;
        assert_eq!(unnamed(&mut stocks).await, json!({"ACME": 1}));
        assert_eq!(unnamed(&mut news).await, json!({"headline": "h"}));
        node.metric_becomes("umbel_subscriptions", 2.0).await;
        close_stream(node, stocks, 1).await;
    }
}

mod notifications {
    use super::*;

    fn notification(title: &str) -> Value {
        json!({"id": "n1", "type": "info", "title": title, "message": "m", "timestamp": 1})
    }

    #[tokio::test]
    async fn the_notifications_hook_gets_named_events_of_its_user_alone() {
        let world = world().await;
        let node = world.node(0);
        let url = "/api/notifications/user-1";
        let mut stream = page(&world).event_source(url).await;
        publish(node, "notifications.user-2", &notification("another's")).await;
        publish(node, "notifications.user-1", &notification("first")).await;
        publish_named(node, "notifications.user-1", Some("notification"), &notification("second"))
            .await;
        for title in ["first", "second"] {
            assert_eq!(named(&mut stream, "notification").await, notification(title));
        }
        // What comes again has its name too.
        let away = async {
            publish(node, "notifications.user-2", &notification("another's")).await;
            publish(node, "notifications.user-1", &notification("third")).await;
        };
        let mut stream = is_back(page(&world), url, stream, away).await;
        assert_eq!(named(&mut stream, "notification").await, notification("third"));
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_notification_class_gets_named_events_whatever_its_id_looks_like() {
        let world = world().await;
        let node = world.node(0);
        // `user:7@home` as a template literal leaves it, and encoded.
        for url in ["/api/notifications/user:7@home", "/api/notifications/user%3A7%40home"] {
            let mut stream = page(&world).event_source(url).await;
            publish(node, "notifications.user:7@home", &notification("t")).await;
            assert_eq!(named(&mut stream, "notification").await, notification("t"));
            close_stream(node, stream, 1).await;
        }
    }
}

mod jobs {
    use super::*;

    fn progress(job: &str, percent: u32) -> Value {
        json!({"jobId": job, "progress": percent, "status": "running", "completed": percent == 100})
    }

    async fn report(node: &Node, job: &str, percent: u32) {
        publish(node, &format!("jobs.{job}.progress"), &progress(job, percent)).await;
    }

    /// Reads until the job is done, then closes, as both do.
    async fn tracks(world: &World, job: &str) {
        let node = world.node(0);
        for percent in [10, 20] {
            report(node, job, percent).await;
        }
        let url = format!("/api/jobs/{job}/progress");
        let mut stream = page(world).event_source(&url).await;
        assert_eq!(unnamed(&mut stream).await, progress(job, 20), "what it shows at first");
        report(node, job, 60).await;
        assert_eq!(unnamed(&mut stream).await, progress(job, 60));
        let away = async {
            report(node, job, 70).await;
            report(node, job, 80).await;
        };
        let mut stream = is_back(page(world), &url, stream, away).await;
        report(node, job, 100).await;
        for percent in [70, 80, 100] {
            assert_eq!(unnamed(&mut stream).await, progress(job, percent), "each once, in order");
        }
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_job_progress_hook_closes_when_the_job_is_done() {
        tracks(&world().await, "job-9").await;
    }

    #[tokio::test]
    async fn the_progress_tracker_may_track_one_job_after_the_other() {
        let world = world().await;
        tracks(&world, "job-9").await;
        tracks(&world, "job-10").await;
    }

    #[tokio::test]
    async fn a_page_that_opens_when_the_job_is_done_gets_to_know_it() {
        let world = world().await;
        let node = world.node(0);
        report(node, "job-9", 100).await;
        let mut stream = page(&world).event_source("/api/jobs/job%2D9/progress").await;
        assert_eq!(unnamed(&mut stream).await, progress("job-9", 100));
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn a_page_that_lost_its_connection_before_the_first_report_gets_all_of_them() {
        let world = world().await;
        let node = world.node(0);
        let url = "/api/jobs/job-9/progress";
        let stream = page(&world).event_source(url).await;
        let away = async {
            report(node, "job-9", 10).await;
            report(node, "job-9", 20).await;
        };
        let mut stream = is_back(page(&world), url, stream, away).await;
        for percent in [10, 20] {
            assert_eq!(unnamed(&mut stream).await, progress("job-9", percent));
        }
    }
}

mod metrics {
    use super::*;

    #[tokio::test]
    async fn the_data_stream_hook_gets_the_metrics_that_it_lists() {
        let world = world().await;
        let node = world.node(0);
        // `new URLSearchParams({ metrics: ['cpu', 'mem'].join(',') })`
        let mut stream = page(&world).event_source("/api/stream?metrics=cpu%2Cmem").await;
        for (metric, value) in [("cpu", 1), ("disk", 2), ("mem", 3), ("cpu", 4)] {
            publish(node, &format!("metrics.{metric}"), &json!({metric: value})).await;
        }
        for expected in [json!({"cpu": 1}), json!({"mem": 3}), json!({"cpu": 4})] {
            assert_eq!(unnamed(&mut stream).await, expected);
        }
        close_stream(node, stream, 2).await;
    }

    #[tokio::test]
    async fn the_data_stream_class_waits_when_it_lists_none() {
        let world = world().await;
        let node = world.node(0);
        let mut waiting = page(&world).event_source("/api/stream?metrics=").await;
        let mut one = page(&world).event_source("/api/stream?metrics=cpu").await;
        publish(node, "metrics.cpu", &json!({"cpu": 1})).await;
        assert_eq!(unnamed(&mut one).await, json!({"cpu": 1}));
        node.metric_becomes("umbel_sessions_open{transport=\"sse\"}", 2.0).await;
        close_stream(node, one, 1).await;
        node.signal("INT");
        assert!(waiting.ends().await, "it was open and got nothing");
    }
}

mod hybrid {
    use super::*;

    async fn both(room: &str, user: &str) {
        let world = world().await;
        let node = world.node(0);
        let url = format!("ws://localhost:8080/collab/{room}");
        let mut socket = page(&world).web_socket(&url).await;
        let mut stream = page(&world).event_source(&format!("/api/notifications/{user}")).await;
        publish(node, &format!("collab.{room}"), &json!({"type": "cursor_move"})).await;
        publish(node, &format!("notifications.{user}"), &json!({"title": "t"})).await;
        assert_eq!(socket.json().await, json!({"type": "cursor_move"}));
        assert_eq!(named(&mut stream, "notification").await, json!({"title": "t"}));
        node.metric_becomes("umbel_subscriptions", 2.0).await;
        close_socket(node, socket).await;
        close_stream(node, stream, 1).await;
    }

    #[tokio::test]
    async fn the_hybrid_hook_has_a_socket_and_a_stream() {
        both("room-1", "user-1").await;
    }

    #[tokio::test]
    async fn the_hybrid_class_has_a_socket_and_a_stream() {
        both("b3f1c2", "42").await;
    }
}
