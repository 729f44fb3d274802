//! How a node leaves: the stages that its parts go through together.
//!
//! ```text
//!  asked ─► Announced ── pause ──► Moving ── drain ──► (all sessions gone) ─► Stopping ─► end
//!           readiness is down      listeners close,      at the latest shortly before
//!           Connection: close      sessions are moved    the deadline
//!                                  at a constant pace
//! ```
//!
//! Asked to hurry, as by a second SIGTERM, the rest of the pause is skipped and all sessions are moved at once.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::DrainSettings;

/// What the node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// To leave politely.
    Drain,
    /// To leave, and to move all sessions at once.
    Hurry,
    /// To end at once.
    Stop,
}

/// Where the node stands. Later stages follow earlier ones and never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// It serves, but says that it won't for long.
    Announced,
    /// It takes no new connections and moves its sessions away.
    Moving,
    /// It moves all of them now.
    Hurried,
    /// It ends what is left.
    Stopping,
}

impl Stage {
    /// The stage as operators see it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Announced => "announced",
            Self::Moving => "moving",
            Self::Hurried => "hurried",
            Self::Stopping => "stopping",
        }
    }
}

/// Takes a node through the stages.
#[derive(Debug)]
pub(crate) struct Leaving {
    stage: watch::Sender<Stage>,
    settings: DrainSettings,
    /// When the node was asked.
    asked: Arc<OnceLock<std::time::Instant>>,
}

/// What watches the stages.
pub(crate) type Stages = watch::Receiver<Stage>;

/// How long what is left at the deadline has to take its goodbye in.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_millis(2500);

impl Leaving {
    pub(crate) fn new(settings: DrainSettings) -> Self {
        Self { stage: watch::Sender::new(Stage::Serving), settings, asked: Arc::default() }
    }

    /// What sees the stages.
    pub(crate) fn stages(&self) -> Stages {
        self.stage.subscribe()
    }

    /// When the node was asked to leave, once it was.
    pub(crate) fn asked(&self) -> Arc<OnceLock<std::time::Instant>> {
        self.asked.clone()
    }

    /// Goes on to a stage, unless it is passed already.
    pub(crate) fn enter(&self, stage: Stage) {
        self.asked.get_or_init(std::time::Instant::now);
        self.stage.send_if_modified(|now| {
            let goes_on = *now < stage;
            *now = stage.max(*now);
            goes_on
        });
    }

    /// Leaves: from the announcement until all that was served is `gone`, or the deadline is near.
    /// `asked` gives what the node is asked for meanwhile, and must be cancel safe.
    pub(crate) async fn leave(
        &self,
        first: Asked,
        gone: impl Future<Output = ()>,
        mut asked: impl AsyncFnMut() -> Asked,
    ) {
        let DrainSettings { pause_seconds, drain_seconds, deadline_seconds } = self.settings;
        let begun = Instant::now();
        let after = |seconds: u32| begun + Duration::from_secs(seconds.into());
        let last_moment = after(deadline_seconds) - STOP_DEADLINE - Duration::from_millis(500);
        let mut gone = pin!(gone);
        tracing::info!(pause_seconds, "Leaving: not ready any more");
        self.enter(if first == Asked::Hurry { Stage::Hurried } else { Stage::Announced });
        loop {
            let is_pause = *self.stage.borrow() < Stage::Moving;
            tokio::select! {
                () = &mut gone => break,
                asked = asked() => match asked {
                    Asked::Drain => {}
                    Asked::Hurry => {
                        tracing::info!("Leaving: all sessions move now");
                        self.enter(Stage::Hurried);
                    }
                    Asked::Stop => break,
                },
                () = sleep_until(after(pause_seconds)), if is_pause => {
                    tracing::info!(drain_seconds, "Leaving: sessions move");
                    self.enter(Stage::Moving);
                }
                () = sleep_until(last_moment) => {
                    tracing::warn!(deadline_seconds, "Leaving: the deadline is near, what is left ends");
                    break;
                }
            }
        }
        self.enter(Stage::Stopping);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const SETTINGS: DrainSettings =
        DrainSettings { pause_seconds: 5, drain_seconds: 30, deadline_seconds: 50 };

    /// After how many seconds each stage was entered, if it was asked again as `asked` says and
    /// all sessions were gone at `gone`.
    async fn course(asked: &[(u64, Asked)], gone: u64) -> Vec<(Stage, u64)> {
        let leaving = Leaving::new(SETTINGS);
        let mut stages = leaving.stages();
        let start = tokio::time::Instant::now();
        let (send, mut receive) = mpsc::channel(2);
        let asks = async {
            for (at, asked) in asked {
                tokio::time::sleep_until(start + Duration::from_secs(*at)).await;
                send.send(*asked).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let watches = async {
            let mut course = Vec::new();
            while course.last().is_none_or(|(stage, _)| *stage != Stage::Stopping) {
                stages.changed().await.unwrap();
                course.push((*stages.borrow_and_update(), start.elapsed().as_secs()));
            }
            course
        };
        let leaves = async {
            let gone = tokio::time::sleep(Duration::from_secs(gone));
            leaving.leave(Asked::Drain, gone, async || receive.recv().await.unwrap()).await;
            std::future::pending::<()>().await;
        };
        let mut watches = pin!(watches);
        tokio::select! {
            course = &mut watches => course,
            () = asks => unreachable!("it waits at its end"),
            () = leaves => unreachable!("it waits at its end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_leaves_by_stages() {
        assert_eq!(
            course(&[], 20).await,
            [(Stage::Announced, 0), (Stage::Moving, 5), (Stage::Stopping, 20)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_ends_before_the_deadline() {
        assert_eq!(
            course(&[], 1000).await,
            [(Stage::Announced, 0), (Stage::Moving, 5), (Stage::Stopping, 47)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn asked_to_hurry_it_hurries_and_asked_to_stop_it_stops() {
        assert_eq!(
            course(&[(1, Asked::Drain), (2, Asked::Hurry)], 7).await,
            [(Stage::Announced, 0), (Stage::Hurried, 2), (Stage::Stopping, 7)]
        );
        assert_eq!(
            course(&[(12, Asked::Hurry), (14, Asked::Stop)], 40).await,
            [
                (Stage::Announced, 0),
                (Stage::Moving, 5),
                (Stage::Hurried, 12),
                (Stage::Stopping, 14)
            ]
        );
        assert_eq!(
            course(&[(3, Asked::Stop)], 40).await,
            [(Stage::Announced, 0), (Stage::Stopping, 3)]
        );
    }
}
