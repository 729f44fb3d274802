//! Which server is the master, as Sentinel says.
//!
//! All sentinels are asked at once. They may disagree for a while, in a failover or when one was cut off,
//! so each is asked for its configuration's epoch too, which counts failovers: the highest is the newest.
//! That counts as an answer once more than half of them have given one, or the time is over.
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
use super::url::is_same_login;

/// How long sentinels have to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// How often a link that stands asks whether its server is still the master.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The sentinels that watch a master.
#[derive(Clone)]
pub(super) struct Sentinels {
    addresses: Vec<ConnectionInfo>,
    name: String,
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
        let deadline = Instant::now() + ANSWER_WAIT;
        let mut asked = JoinSet::new();
        for address in &self.addresses {
            let (address, name) = (address.clone(), self.name.clone());
            asked.spawn(async move {
                let answer = timeout(ANSWER_WAIT, ask(&address, &name)).await;
                let answer = answer.unwrap_or_else(|_| Err(silent()));
                answer.map_err(|fault| (address.addr().to_string(), fault))
            });
        }
        let (mut named, mut faults) = (Vec::new(), Vec::new());
        while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
            match answer {
                Ok(Ok(master)) => named.push(master),
                Ok(Err(fault)) => faults.push(fault),
                // A task that panicked has told so on the standard error.
                Err(_) => {}
            }
            if named.len() * 2 > self.addresses.len() {
                break;
            }
        }
        newest(named).ok_or_else(|| self.nobody(&faults))
    }

    /// Waits until a newer failover made another server the master. Cancel safe.
    pub(super) async fn moved(&self, from: &Master) -> Fault {
        let mut times = interval_at(Instant::now() + ASK_EVERY, ASK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            // Without an answer the link is good as long as the probe says so.
            if let Ok(master) = self.master().await
                && master.replaces(from)
            {
                let Master { host, port, .. } = master;
                let text = format!("Sentinel made {host}:{port} the master");
                return Fault::new(FaultKind::Moved, text);
            }
        }
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

    #[cfg(test)]
    pub(super) fn logins(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>)> {
        let settings = self.addresses.iter().map(ConnectionInfo::redis_settings);
        settings.map(|login| (login.username(), login.password()))
    }
}

impl Master {
    /// Whether it is another server, by a later failover.
    fn replaces(&self, earlier: &Self) -> bool {
        (&self.host, self.port) != (&earlier.host, earlier.port) && self.epoch > earlier.epoch
    }
}

/// The master of the last failover that anybody knows of.
fn newest(named: Vec<Master>) -> Option<Master> {
    named.into_iter().max_by_key(|master| master.epoch)
}

fn silent() -> Fault {
    Fault::new(FaultKind::Silent, format!("no answer within {} s", ANSWER_WAIT.as_secs()))
}

/// What one sentinel says.
async fn ask(address: &ConnectionInfo, name: &str) -> Result<Master, Fault> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WAIT))
        .set_response_timeout(Some(ANSWER_WAIT));
    let client = Client::open(address.clone())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // While replicas are being told of a failover, only the first answer has the new address; the epoch goes
    // with it. It comes second, so that it isn't older.
    let question = redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).to_owned();
    let place: Option<(String, u16)> = question.query_async(&mut connection).await?;
    let question = redis::cmd("SENTINEL").arg("MASTER").arg(name).to_owned();
    let state: HashMap<String, String> = question.query_async(&mut connection).await?;
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
            self.addresses.iter().map(|address| address.addr().to_string()).collect();
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
    fn only_a_later_failover_to_another_server_moves_a_link() {
        for (named, moves) in [
            (master("b", 4), true),
            (master("a", 4), false),
            (master("b", 3), false),
            (master("b", 2), false),
        ] {
            assert_eq!(named.replaces(&master("a", 3)), moves, "{named:?}");
        }
    }
}
