//! When nodes leave, are killed, or break off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use umbel_e2e::{Backend, Front, Product, Redis, WebSocketClient, World, eventually, within};

use super::{TOPICS, held, post, session};

pub(super) async fn a_killed_node_s_clients_come_back_through_the_other(product: Product) {
    let redis = Redis::start(&[]).await;
    let world = World::new().nodes(2).settings(TOPICS).broker(&redis.url());
    let mut world = world.start().await;
    let proxy = Front::before(product, world.nodes()).await;
    let front = proxy.address();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(session(front, "news").await);
    }
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(WebSocketClient::open(front, "/topics/news").await);
    }
    let held = eventually("all sessions", || async {
        let held = [held(world.node(0)).await, held(world.node(1)).await];
        (held[0] + held[1] == 20).then_some(held[0])
    })
    .await;
    assert!((5..=15).contains(&held), "nodes have about as many each: {held}");
    world.node(0).signal("KILL");
    world.node_mut(0).exit_code().await;
    // Nobody needs a second attempt.
    for _ in 0..10 {
        assert_eq!(post(front, "/topics/other", &[], "x").await.status, 200);
        streams.push(session(front, "news").await);
        sockets.push(WebSocketClient::open(front, "/topics/news").await);
    }
    world.node(1).publish("news", "on").await;
    let mut ended = 0;
    for mut stream in streams {
        // The streams of the node that was killed end before they say anything.
        match within("an event or the end", stream.next_event()).await {
            Some(event) => assert_eq!(event.data, "on"),
            None => ended += 1,
        }
    }
    for mut socket in sockets {
        match socket.next().await {
            Some(frame) => assert_eq!(frame.text(), "on"),
            None => ended += 1,
        }
    }
    assert_eq!(ended, held);
}

/// Takes connections, reads what comes, and breaks off before an answer, as a node that is just
/// being killed does. Counts the requests that were sent.
async fn break_off(listener: TcpListener, requests: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut bytes = vec![0; 4096];
        if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
            requests.fetch_add(1, Ordering::SeqCst);
        }
    }
}

pub(super) async fn what_was_sent_is_sent_again_only_if_that_does_no_harm(product: Product) {
    let world = World::new().settings(TOPICS).start().await;
    let node = world.node(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = Backend { http: listener.local_addr().unwrap(), admin: node.admin() };
    let requests = Arc::new(AtomicUsize::new(0));
    let mut task = JoinSet::new();
    task.spawn(break_off(listener, Arc::clone(&requests)));
    let proxy = Front::start(product, &[broken, Backend::from(node)], &[]);
    let front = proxy.address();
    proxy.passes().await;

    let sent = || requests.load(Ordering::SeqCst);
    // Sessions are never noticed to have met the broken node first.
    let seen = sent();
    let mut held = Vec::new();
    while sent() == seen {
        held.push(session(front, "news").await);
    }
    let seen = sent();
    eventually("a WebSocket that was tried at the broken node", || async {
        drop(WebSocketClient::open(front, "/topics/news").await);
        (sent() > seen).then_some(())
    })
    .await;

    // A message may have been published by a node that broke off, so nobody sends it again unasked.
    let mut stream = node.sse("/topics/paid").await;
    let mut published = 0;
    eventually("a publisher who met the broken node", || {
        let (before, text) = (sent(), published.to_string());
        published += 1;
        async move {
            let answer = post(front, "/topics/paid", &[], &text).await;
            if answer.status == 200 {
                assert_eq!(sent(), before, "sent twice");
                return None;
            }
            assert_eq!((answer.status, sent()), (502, before + 1), "{}", answer.text());
            Some(())
        }
    })
    .await;
    node.publish("paid", "end").await;
    for expected in 0..published - 1 {
        assert_eq!(stream.data().await, expected.to_string());
    }
    assert_eq!(stream.data().await, "end");

    // With a key it does no harm, for who knows of it: nginx doesn't.
    if product == Product::Nginx {
        return;
    }
    let mut key = 0;
    eventually("a publisher with a key who met the broken node", || {
        let before = sent();
        key += 1;
        async move {
            let headers = [("idempotency-key", &*format!("order-{key}"))];
            assert_eq!(post(front, "/topics/paid", &headers, "once").await.status, 200);
            (sent() > before).then_some(())
        }
    })
    .await;
}

pub(super) async fn nobody_notices_a_node_that_leaves(product: Product) {
    let redis = Redis::start(&[]).await;
    let mut world = World::new().nodes(2).settings(TOPICS).broker(&redis.url());
    for (name, seconds) in [("PAUSE", "3"), ("DRAIN", "2"), ("DEADLINE", "15")] {
        world = world.environment(&format!("UMBEL_DRAIN__{name}_SECONDS"), seconds);
    }
    let mut world = world.start().await;
    let proxy = Front::before(product, world.nodes()).await;
    let front = proxy.address();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(session(front, "news").await);
    }
    world.node(0).signal("TERM");
    // Whoever comes meanwhile is served, and each that is moved finds its place at once.
    let mut moved = JoinSet::new();
    for mut stream in streams {
        moved.spawn(async move {
            let (mut count, mut is_told) = (0, false);
            loop {
                match stream.next_event().await {
                    Some(event) if event.name == "umbel.moving" => is_told = true,
                    Some(event) => {
                        assert_eq!(event.data, "end");
                        return count;
                    }
                    None => {
                        assert!(is_told, "the node moves its sessions, the proxy cuts none off");
                        count += 1;
                        stream = session(front, "news").await;
                    }
                }
            }
        });
    }
    let exit = world.node_mut(0).exit_code();
    tokio::pin!(exit);
    let code = loop {
        tokio::select! {
            code = &mut exit => break code,
            answer = post(front, "/topics/other", &[], "x") => assert_eq!(answer.status, 200),
        }
        let _ = session(front, "other").await;
    };
    assert_eq!(code, Some(0));
    assert_eq!(post(front, "/topics/news", &[], "end").await.status, 200);
    let mut all = 0;
    while let Some(count) = moved.join_next().await {
        all += count.unwrap();
    }
    assert!(all > 0, "some were moved");
}
