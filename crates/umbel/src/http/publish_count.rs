//! Counts requests to publish however they end: a publisher that gives up takes its request's future
//! along, and whoever counted only behind the answer would see least when publishing is slowest.

use std::rc::Rc;

use crate::worker::{Status, Worker};

/// A request to publish, until it is answered or dropped.
pub(super) struct Asked {
    worker: Rc<Worker>,
    status: Status,
}

/// Messages that the broker has, until it has answered or nobody waits for that any more.
pub(super) struct HandedOver<'w> {
    worker: &'w Worker,
    /// By the node's clock, in microseconds.
    began: u64,
}

impl Asked {
    pub(super) fn begin(worker: &Rc<Worker>) -> Self {
        Self { worker: worker.clone(), status: Status::GONE }
    }

    pub(super) fn answered(mut self, status: impl Into<Status>) {
        self.status = status.into();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.worker.metrics.publish_requests.of(self.status).add(1);
    }
}

impl<'w> HandedOver<'w> {
    pub(super) fn begin(worker: &'w Worker) -> Self {
        Self { worker, began: worker.clock.micros() }
    }
}

impl Drop for HandedOver<'_> {
    fn drop(&mut self) {
        let span = self.worker.clock.micros().saturating_sub(self.began);
        self.worker.metrics.publish_seconds.observe(span, 1);
    }
}
