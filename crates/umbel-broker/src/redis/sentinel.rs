//! Which server is the master, as Sentinel says.
//!
//! All sentinels are asked at once. They may disagree for a while, in a failover or when one was cut off,
//! so each is asked for its configuration's epoch too, which counts failovers: the highest is the newest.
//! For a new link that counts as an answer once more than half of them have given one, or the time is over.
//!
//! A link that stands says nothing about what sentinels do: they may have made another server the master
//! while this one still answers here. So they are asked again from time to time.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionInfo};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::fault::{Fault, FaultKind};
use super::url::{is_same_login, shown};

/// How long each sentinel has to answer.
const ANSWER_WAIT: Duration = Duration::from_millis(900);

/// How long all have together: what one didn't do in time is still told.
const ALL_WAIT: Duration = Duration::from_secs(1);

/// How often a link that stands asks whether its server is still the master.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The sentinels that watch a master.
#[derive(Clone)]
pub(super) struct Sentinels {
    addresses: Vec<ConnectionInfo>,
    name: String,
}

/// What sentinels said.
#[derive(Debug, Default)]
struct Answers {
    named: Vec<Master>,
    /// Who didn't name one, and why.
    faults: Vec<(String, Fault)>,
}

/// A server that sentinels call the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Master {
    pub(super) host: String,
    pub(super) port: u16,
    /// How many failovers the sentinels have counted.
    epoch: u64,
}

impl Sentinels {
    /// The sentinels at these addresses, and the name by which they know the master.
    pub(super) fn new(addresses: Vec<ConnectionInfo>, name: &str) -> Self {
        Self { addresses, name: name.to_owned() }
    }

    /// The server that is the master now. Takes a second at most. Cancel safe.
    pub(super) async fn master(&self) -> Result<Master, Fault> {
        let Answers { named, faults } = self.ask(self.addresses.len() / 2 + 1).await;
        newest(named).ok_or_else(|| self.nobody(&faults))
    }

    /// Waits until another server is the master. Cancel safe.
    pub(super) async fn moved(&self, from: &Master) -> Fault {
        let mut times = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            // Without an answer the link is good as long as the probe says so. All are heard: some that are behind
            // may agree, and must not lead back where another knows better.
            let Answers { named, .. } = self.ask(self.addresses.len()).await;
            if let Some(Master { host, port, .. }) = successor(from, named, self.addresses.len()) {
                let text = format!("Sentinel made {host}:{port} the master");
                return Fault::new(FaultKind::Moved, text);
            }
        }
    }

    /// Asks all, until so many have named a master, or the time is over.
    async fn ask(&self, enough: usize) -> Answers {
        let deadline = Instant::now() + ALL_WAIT;
        let mut asked = JoinSet::new();
        for address in &self.addresses {
            let (address, name) = (address.clone(), self.name.clone());
            asked.spawn(async move {
                let answer = timeout(ANSWER_WAIT, ask_one(&address, &name)).await;
                let answer = answer.unwrap_or_else(|_| Err(silent()));
                answer.map_err(|fault| (shown(address.addr()), fault))
            });
        }
        let mut answers = Answers::default();
        while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
            match answer {
                Ok(Ok(master)) => answers.named.push(master),
                Ok(Err(fault)) => answers.faults.push(fault),
                // A task that panicked has told so on the standard error.
                Err(_) => {}
            }
            if answers.named.len() >= enough {
                break;
            }
        }
        answers
    }

    /// Nobody named a master. What a sentinel said tells more than that another couldn't be reached.
    fn nobody(&self, faults: &[(String, Fault)]) -> Fault {
        let spoke = faults.iter().find(|(_, fault)| fault.kind != FaultKind::Unreachable);
        let kind =
            spoke.or_else(|| faults.first()).map_or(FaultKind::Silent, |(_, fault)| fault.kind);
        let said: Vec<_> =
            faults.iter().map(|(address, fault)| format!("{address}: {}", fault.text())).collect();
        let said = if said.is_empty() { "no answer".to_owned() } else { said.join("; ") };
        Fault::new(kind, format!("no sentinel names a master {}: {said}", self.name))
    }

    /// The user that logs in to them, which may be nameless, if they want a login.
    pub(super) fn login(&self) -> Option<String> {
        let login = self.addresses.first()?.redis_settings();
        login.password().map(|_| login.username().unwrap_or_default().to_owned())
    }

    #[cfg(test)]
    pub(super) fn logins(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>)> {
        let settings = self.addresses.iter().map(ConnectionInfo::redis_settings);
        settings.map(|login| (login.username(), login.password()))
    }
}

impl Master {
    fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

/// Who is the master after this one, of those that were named by some of so many sentinels: another server of a
/// later failover. Sentinels that were set up anew count from the beginning, so what more than half of them name is
/// believed, too, if none that answered says otherwise.
fn successor(from: &Master, named: Vec<Master>, sentinels: usize) -> Option<Master> {
    let agree = named.len() * 2 > sentinels && named.iter().all(|one| one.is_at(&named[0]));
    newest(named).filter(|master| !master.is_at(from) && (agree || master.epoch > from.epoch))
}

/// The master of the last failover that anybody knows of.
fn newest(named: Vec<Master>) -> Option<Master> {
    named.into_iter().max_by_key(|master| master.epoch)
}

fn silent() -> Fault {
    Fault::new(FaultKind::Silent, format!("no answer within {} s", ALL_WAIT.as_secs()))
}

/// What one sentinel says.
async fn ask_one(address: &ConnectionInfo, name: &str) -> Result<Master, Fault> {
    // Whoever asks has a deadline.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = Client::open(address.clone())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // The epoch first: should there be a failover between the two, the address isn't the older of them. A link
    // to an old address with the new epoch would never be given up. (While replicas are being told of a failover, only
    // the second question gives the new address.)
    let question = redis::cmd("SENTINEL").arg("MASTER").arg(name).to_owned();
    let state: HashMap<String, String> = question.query_async(&mut connection).await?;
    let question = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).to_owned();
    let place: Option<(String, u16)> = question.query_async(&mut connection).await?;
    let epoch = state.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    match (place, epoch) {
        (Some((host, port)), Some(epoch)) => Ok(Master { host, port, epoch }),
        _ => Err(Fault::new(FaultKind::Protocol, "a sentinel's answer lacks address or epoch")),
    }
}

impl PartialEq for Sentinels {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.addresses.len() == other.addresses.len()
            && self.addresses.iter().zip(&other.addresses).all(|(own, theirs)| {
                own.addr() == theirs.addr()
                    && is_same_login(own.redis_settings(), theirs.redis_settings())
            })
    }
}

impl Eq for Sentinels {}

/// Addresses and name; never user or password.
impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> =
            self.addresses.iter().map(|address| shown(address.addr())).collect();
        write!(f, "{}/{}", addresses.join(","), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(host: &str, epoch: u64) -> Master {
        Master { host: host.to_owned(), port: 6379, epoch }
    }

    #[test]
    fn who_has_seen_the_last_failover_is_right() {
        let stale = || master("old", 3);
        assert_eq!(newest(vec![stale(), master("new", 4), stale()]), Some(master("new", 4)));
        assert_eq!(newest(vec![]), None);
    }

    #[test]
    fn a_link_moves_after_a_later_failover_or_where_all_agree() {
        let (a, b) = (|epoch| master("a", epoch), |epoch| master("b", epoch));
        for (named, moves) in [
            (vec![b(4)], true),
            (vec![b(4), a(3)], true),
            (vec![a(4)], false),
            (vec![b(3)], false),
            (vec![b(2), a(3)], false),
            (vec![b(0), b(0)], true),
            (vec![b(0), a(0)], false),
            (vec![a(0), a(0)], false),
            (vec![], false),
        ] {
            let moved = successor(&a(3), named.clone(), 3).is_some();
            assert_eq!(moved, moves, "{named:?}");
        }
    }
}
