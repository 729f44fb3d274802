//! Clients that come back whatever happens: nodes leave, lines break, and the load goes on.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use umbel_e2e::{HANDSHAKE, request};

/// One request on a connection of its own, and the status of its answer if there is one.
pub(crate) async fn post(
    door: SocketAddr,
    topic: &str,
    key: Option<&str>,
    body: &str,
) -> Option<u16> {
    let mut headers = vec![("content-type", "text/plain"), ("connection", "close")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let bytes = request("POST", &format!("/topics/{topic}"), &headers, body.as_bytes());
    exchange(door, &bytes).await
}

async fn exchange(door: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let talk = async {
        let mut stream = TcpStream::connect(door).await.ok()?;
        stream.write_all(bytes).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
    };
    timeout(Duration::from_secs(10), talk).await.ok()?
}

/// A load that lasts until it is dropped: at each door readers of both transports, publishers, polls.
pub(crate) fn load(doors: &[SocketAddr], readers: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for &door in doors {
        for number in 0..readers {
            let topic = ["live.1", "feed.1", "value.1"][number % 3];
            tasks.spawn(read(door, format!("/topics/{topic}"), number % 2 == 0));
        }
        tasks.spawn(publish(door));
        tasks.spawn(poll(door));
        tasks.spawn(speak(door));
    }
    tasks
}

async fn publish(door: SocketAddr) {
    let mut pace = interval(Duration::from_millis(50));
    for number in 0_u64.. {
        pace.tick().await;
        let topic = ["live.1", "feed.1", "value.1"][usize::try_from(number % 3).unwrap()];
        post(door, topic, None, &format!("{number} of the load")).await;
    }
}

async fn poll(door: SocketAddr) {
    for path in
        ["/topics/feed.1?after=0", "/topics/feed.2?wait=1", "/topics/live.1?limit=1"].iter().cycle()
    {
        exchange(door, &request("GET", path, &[("connection", "close")], b"")).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// A session that is read from, and opened again when it ends.
async fn read(door: SocketAddr, path: String, by_websocket: bool) {
    loop {
        if let Some(mut stream) = open(door, &path, by_websocket).await {
            let mut buffer = vec![0; 64 * 1024];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// A session that publishes each second.
async fn speak(door: SocketAddr) {
    loop {
        if let Some(mut stream) = open(door, "/topics/live.1?echo=false", true).await {
            let frame = umbel_e2e::masked_frame(true, 1, b"said by a session");
            let mut buffer = vec![0; 64 * 1024];
            while stream.write_all(&frame).await.is_ok() {
                let read = timeout(Duration::from_millis(500), stream.read(&mut buffer)).await;
                if matches!(read, Ok(Ok(0) | Err(_))) {
                    break;
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn open(door: SocketAddr, path: &str, by_websocket: bool) -> Option<TcpStream> {
    let headers = if by_websocket { &HANDSHAKE[..] } else { &[("accept", "text/event-stream")] };
    let mut stream = TcpStream::connect(door).await.ok()?;
    stream.write_all(&request("GET", path, headers, b"")).await.ok()?;
    Some(stream)
}
