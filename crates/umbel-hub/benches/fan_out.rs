//! What the hub itself costs per delivery: everything but the write.
//!
//! `cargo bench -p umbel-hub`. The number to watch is the time per delivery at one message at
//! hand: the marks, the slices and the positions of 1000 subscribers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use umbel_hub::{Hub, OnSlow};
use umbel_protocol::{Delivery, Dialect, Message, Payload, SessionId, Timestamp, Topic};

const SUBSCRIBERS: usize = 1000;

fn delivery(topic: &Topic) -> Delivery {
    Delivery {
        message: Message {
            topic: topic.clone(),
            payload: Payload::text("x".repeat(128)),
            event: None,
            published: Timestamp(0),
            origin: None,
            trace: None,
            id: None,
        },
        received: 0,
        bare: false,
        life: 0,
    }
}

fn topic(number: usize) -> Topic {
    Topic::new(&format!("bench.{number}")).expect("a valid name")
}

/// A hub with one subscription for each session, over so many topics.
fn hub(topics: usize) -> Hub<()> {
    let mut hub = Hub::new(1 << 20);
    for number in 0..SUBSCRIBERS {
        let session = hub.open(SessionId(number as u64), Dialect::Plain, ());
        hub.subscribe(session, &topic(number % topics), OnSlow::Disconnect, None)
            .expect("a new session holds nothing");
    }
    hub
}

fn deliver(hub: &mut Hub<()>, batch: &[Delivery]) {
    hub.fan_out(batch);
    while let Some(session) = hub.next_due() {
        let bytes = hub.pending(session).map(|slice| black_box(slice).len()).sum();
        hub.advance(session, bytes);
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one topic, 1000 subscribers");
    for at_hand in [1, 8, 64] {
        let mut hub = hub(1);
        let batch = vec![delivery(&topic(0)); at_hand];
        group.throughput(Throughput::Elements((at_hand * SUBSCRIBERS) as u64));
        group.bench_with_input(BenchmarkId::new("at hand", at_hand), &batch, |bencher, batch| {
            bencher.iter(|| deliver(&mut hub, batch));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("1000 topics, one subscriber each");
    let mut hub = hub(SUBSCRIBERS);
    let batch: Vec<_> = (0..SUBSCRIBERS).map(|number| delivery(&topic(number))).collect();
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    group.bench_function("one message each", |bencher| {
        bencher.iter(|| deliver(&mut hub, &batch));
    });
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
