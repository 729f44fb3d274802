//! The pictures that documents show. Their load is the test's own, their numbers are the node's.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use umbel_e2e::{Chromium, HttpClient, Node, Redis, Tab, World, raise_descriptor_limit, within};

use crate::reader::{assert_legible, click, open, rate_is};
use crate::{LARGE, RULES};

#[tokio::test]
async fn it_is_a_picture_of_what_goes_on() {
    if std::env::var_os("UMBEL_SCREENSHOTS").is_none() {
        return;
    }
    raise_descriptor_limit();
    let browser = Chromium::start().await;
    let redis = Redis::start(&[]).await;
    let (_, rules) = RULES.split_once("\n\n").unwrap();
    let settings = format!("[node]\nmemory_mib = 64\n{rules}");
    let world = World::new().workers(2).settings(&settings).broker(&redis.url()).start().await;
    let node = world.node(0);
    let page = open(&browser, node).await;
    page.resize(1280, 900).await;
    let mut tasks = JoinSet::new();
    for (topic, sessions, millis) in [
        ("scores.live", 240, 50),
        ("scores.quiet", 1700, 10_000),
        ("chat.berlin", 90, 30),
        ("chat.lyon", 40, 60),
        ("jobs.42.log", 12, 20),
        ("prices.eur", 60, 40),
    ] {
        for at in 0..sessions {
            listen(&mut tasks, node, topic, at % 3 == 0).await;
        }
        tasks.spawn(talk(node.client().await, topic, Duration::from_millis(millis)));
    }
    within("the first numbers", rate_is(&page, "#deliveries", 500.0, 1e9)).await;
    // So that the graphs have something to show.
    tokio::time::sleep(Duration::from_secs(90)).await;
    for (name, width, height, is_dark) in PICTURES {
        page.resize(width, height).await;
        page.prefer_dark(is_dark).await;
        assert_legible(&page, name).await;
        keep_picture(&page, name).await;
    }
    page.value(&format!("{LARGE}.then(() => 0)")).await;
    keep_picture(&page, "large-phone").await;
    page.resize(1280, 1500).await;
    page.value(&format!("{LARGE}.then(() => 0)")).await;
    keep_picture(&page, "large").await;
    click(&page, "#leave").await;
    keep_picture(&page, "ask").await;
}

const PICTURES: [(&str, u32, u32, bool); 5] = [
    ("admin", 1280, 1170, false),
    ("admin-dark", 1280, 1170, true),
    ("admin-tablet", 800, 1700, false),
    ("admin-phone-light", 360, 2700, false),
    ("admin-phone", 360, 900, true),
];

/// A session that reads whatever comes.
async fn listen(tasks: &mut JoinSet<()>, node: &Node, topic: &str, by_sse: bool) {
    if by_sse {
        let mut reader = node.sse(&format!("/topics/{topic}")).await;
        tasks.spawn(async move {
            loop {
                reader.event().await;
            }
        });
    } else {
        let mut reader = node.subscribe(topic).await;
        tasks.spawn(async move { while reader.next().await.is_some() {} });
    }
}

/// A publisher that is busier at times, so that there is something to see.
async fn talk(mut publisher: HttpClient, topic: &'static str, pause: Duration) {
    let mut pace = interval(pause);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u32.. {
        pace.tick().await;
        if (number / 200) % 4 == 3 && number % 3 > 0 {
            continue;
        }
        let body = format!("{number} {}", "·".repeat(40));
        publisher.post(&format!("/topics/{topic}"), "text/plain", body.as_bytes()).await;
    }
}

async fn keep_picture(tab: &Tab, name: &str) {
    let Some(directory) = std::env::var_os("UMBEL_SCREENSHOTS") else {
        return;
    };
    std::fs::create_dir_all(&directory).unwrap();
    let path = std::path::Path::new(&directory).join(format!("{name}.png"));
    std::fs::write(path, tab.picture().await).unwrap();
}
