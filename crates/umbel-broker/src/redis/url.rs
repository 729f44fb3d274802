//! Where Redis is, as an operator writes it.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::fault::Fault;
use super::sentinel::{Master, Sentinels};

/// What a URL of one server begins with.
const SERVER_SCHEMES: [&str; 2] = ["redis://", "unix://"];

/// What a URL begins with whose server Sentinel knows.
const SENTINEL_SCHEME: &str = "redis+sentinel://";

/// Where Sentinel listens, unless it is said.
const SENTINEL_PORT: u16 = 26379;

/// The URL of one Redis server, or of the sentinels that know which server it is. It is shown without what
/// must not be.
#[derive(Clone)]
pub struct RedisUrl {
    place: Place,
    login: RedisConnectionInfo,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Server(ConnectionAddr),
    Master(Sentinels),
}

/// Why a text isn't the URL of a Redis server, or doesn't lead to one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrlError(String);

impl RedisUrl {
    /// Reads `redis://[user][:password@]host[:port][/database]`,
    /// `unix:///path?db=N&user=…&pass=…`, or
    /// `redis+sentinel://[user][:password@]host[:port],…/master?db=N&sentinel_user=…&sentinel_password=…`,
    /// where hosts and ports are of sentinels, and user, password and database of the server.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        if let Some(rest) = text.strip_prefix(SENTINEL_SCHEME) {
            return sentinel_url(rest);
        }
        if !Self::is_meant(text) {
            return Err(error("begins with neither redis:// nor redis+sentinel:// nor unix://"));
        }
        let info = info(text)?;
        Ok(Self { place: Place::Server(info.addr().clone()), login: info.redis_settings().clone() })
    }

    /// The database. Channels know none, so that two applications on one server need a prefix each.
    pub fn database(&self) -> i64 {
        self.login.db()
    }

    /// What it takes to connect to the server that it means now, which Sentinel may have to say. Takes a second
    /// at most. Cancel safe.
    pub async fn connection_info(&self) -> Result<ConnectionInfo, RedisUrlError> {
        self.server().await.map(|(info, _)| info).map_err(|fault| error(&fault.to_string()))
    }

    /// The URL with its passwords replaced, made anew from what was read of it, so that none can be left.
    pub fn masked(&self) -> String {
        let login = match (self.login.username(), self.login.password()) {
            (None, None) => String::new(),
            (user, None) => format!("{}@", user.unwrap_or_default()),
            (user, Some(_)) => format!("{}:***@", user.unwrap_or_default()),
        };
        let shown = self.to_string();
        let (scheme, rest) = shown.split_once("://").unwrap_or(("", &shown));
        match &self.place {
            Place::Server(ConnectionAddr::Unix(_)) if login.is_empty() => shown,
            Place::Server(ConnectionAddr::Unix(path)) => {
                let (user, db) = (self.login.username().unwrap_or_default(), self.database());
                format!("unix://{}?db={db}&user={user}&pass=***", path.display())
            }
            Place::Server(_) => format!("{scheme}://{login}{rest}"),
            Place::Master(sentinels) => {
                let mark = if rest.contains('?') { '&' } else { '?' };
                let sentinels = match sentinels.login().as_deref() {
                    None => String::new(),
                    Some("") => format!("{mark}sentinel_password=***"),
                    Some(user) => format!("{mark}sentinel_user={user}&sentinel_password=***"),
                };
                format!("{scheme}://{login}{rest}{sentinels}")
            }
        }
    }

    /// Whether a text is meant as one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SENTINEL_SCHEME)
            || SERVER_SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// The server that it means now, and what Sentinel said of it, if that is who knows.
    pub(super) async fn server(&self) -> Result<(ConnectionInfo, Option<Master>), Fault> {
        let (address, master) = match &self.place {
            Place::Server(address) => (address.clone(), None),
            Place::Master(sentinels) => {
                let master = sentinels.master().await?;
                (ConnectionAddr::Tcp(master.host.clone(), master.port), Some(master))
            }
        };
        let info = address.into_connection_info()?.set_redis_settings(self.login.clone());
        Ok((info, master))
    }

    /// Waits until Sentinel names another server than this; for ever where it isn't asked.
    pub(super) async fn moved(&self, master: Option<Master>) -> Fault {
        match (&self.place, master) {
            (Place::Master(sentinels), Some(master)) => sentinels.moved(&master).await,
            _ => std::future::pending().await,
        }
    }
}

fn sentinel_url(rest: &str) -> Result<RedisUrl, RedisUrlError> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = place
        .rsplit_once('/')
        .ok_or_else(|| error("lacks the name of the master: redis+sentinel://host,…/master"))?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(error("lacks the name of the master, of A-Z a-z 0-9 . _ -, behind the hosts"));
    }
    let (user, hosts) = authority
        .rsplit_once('@')
        .map_or((String::new(), authority), |(user, hosts)| (format!("{user}@"), hosts));
    let (mut database, mut sentinel_user, mut sentinel_password) = ("0", "", None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("db", value)) => database = value,
            Some(("sentinel_user", value)) => sentinel_user = value,
            Some(("sentinel_password", value)) => sentinel_password = Some(value),
            _ => {
                return Err(error(
                    "may have the parameters db, sentinel_user and sentinel_password",
                ));
            }
        }
    }
    let login = match sentinel_password {
        Some(password) => format!("{sentinel_user}:{password}@"),
        None if sentinel_user.is_empty() => String::new(),
        None => return Err(error("has a sentinel_user, but no sentinel_password")),
    };
    let mut sentinels = Vec::new();
    for host in hosts.split(',') {
        // A port is behind the last colon, but not within the brackets of IPv6.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let port = if has_port { String::new() } else { format!(":{SENTINEL_PORT}") };
        sentinels.push(info(&format!("redis://{login}{host}{port}"))?);
    }
    let login = info(&format!("redis://{user}master/{database}"))?.redis_settings().clone();
    let sentinels = Sentinels::new(sentinels, name);
    Ok(RedisUrl { place: Place::Master(sentinels), login })
}

fn info(url: &str) -> Result<ConnectionInfo, RedisUrlError> {
    let info = url
        .into_connection_info()
        .map_err(|refusal| error(refusal.detail().unwrap_or("malformed")))?;
    match info.addr() {
        ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(info),
        _ => Err(error("names a kind of address that is not supported")),
    }
}

fn error(text: &str) -> RedisUrlError {
    RedisUrlError(text.to_owned())
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place && is_same_login(&self.login, &other.login)
    }
}

impl Eq for RedisUrl {}

/// An address as URLs have it: IPv6 is in brackets.
pub(super) fn shown(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        other => other.to_string(),
    }
}

/// Whether the same user logs in to the same database.
pub(super) fn is_same_login(one: &RedisConnectionInfo, other: &RedisConnectionInfo) -> bool {
    one.db() == other.db()
        && one.username() == other.username()
        && one.password() == other.password()
}

/// Address and database; never user or password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Server(ConnectionAddr::Unix(path)) => write!(f, "unix://{}", path.display())?,
            Place::Server(tcp) => write!(f, "redis://{}", shown(tcp))?,
            Place::Master(sentinels) => write!(f, "{SENTINEL_SCHEME}{sentinels}")?,
        }
        match (&self.place, self.database()) {
            (_, 0) => Ok(()),
            (Place::Master(_), database) => write!(f, "?db={database}"),
            (Place::Server(_), database) => write!(f, "/{database}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RedisUrlError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_shown_without_secrets() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://cache", "redis://cache:6379"),
            ("redis://me:secret@cache:1/2", "redis://cache:1/2"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("redis+sentinel://a/m", "redis+sentinel://a:26379/m"),
            (
                "redis+sentinel://a,b:1,[::1],[::1]:2/m",
                "redis+sentinel://a:26379,b:1,[::1]:26379,[::1]:2/m",
            ),
            (
                "redis+sentinel://me:secret@a:1,b:2/my-master.1?db=3&sentinel_user=x&sentinel_password=secret",
                "redis+sentinel://a:1,b:2/my-master.1?db=3",
            ),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn no_character_of_a_password_gets_through() {
        for (text, shown) in [
            ("redis://h:1", "redis://h:1"),
            ("redis://me@h", "redis://me@h:6379"),
            ("redis://me:pa'ss`e cr@h:1/2", "redis://me:***@h:1/2"),
            ("redis://:ss@h", "redis://:***@h:6379"),
            ("redis://:ss@[::1]:1", "redis://:***@[::1]:1"),
            ("unix:///r?db=1&user=me&pass=s@s", "unix:///r?db=1&user=me&pass=***"),
            (
                "redis+sentinel://a/m?sentinel_password=s@ss",
                "redis+sentinel://a:26379/m?sentinel_password=***",
            ),
            (
                "redis+sentinel://me:s,s@a,b/m?sentinel_password=s's@s&db=1&sentinel_user=x",
                "redis+sentinel://me:***@a:26379,b:26379/m?db=1&sentinel_user=x&sentinel_password=***",
            ),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().masked(), shown);
        }
    }

    #[test]
    fn what_is_no_url_of_redis_is_refused_without_repeating_it() {
        for bad in [
            "",
            "http://x",
            "redis://",
            "redis://x:99999",
            "redis://x/y",
            "rediss://x",
            "redis+sentinel://",
            "redis+sentinel://secret",
            "redis+sentinel://secret/",
            "redis+sentinel:///m",
            "redis+sentinel://a,/m",
            "redis+sentinel://a:99999/m",
            "redis+sentinel://a/m m",
            "redis+sentinel://a/m?db=x",
            "redis+sentinel://a/m?secret=1",
            "redis+sentinel://a/m?sentinel_user=secret",
        ] {
            let refusal = RedisUrl::parse(bad).expect_err(bad).to_string();
            assert!(!refusal.is_empty() && !refusal.contains("secret"), "{bad}: {refusal}");
        }
    }

    #[test]
    fn a_servers_login_is_not_the_sentinels() {
        let text = "redis+sentinel://me:a%40b@h/m?sentinel_password=c%2Cd";
        let url = RedisUrl::parse(text).unwrap();
        assert_eq!((url.login.username(), url.login.password()), (Some("me"), Some("a@b")));
        let Place::Master(sentinels) = &url.place else { panic!("no sentinels") };
        let logins: Vec<_> = sentinels.logins().collect();
        assert_eq!(logins, [(None, Some("c,d"))]);
        assert_eq!(url, RedisUrl::parse(text).unwrap());
        for other in [
            "redis+sentinel://me:a%40b@h/m?sentinel_password=other",
            "redis+sentinel://me:other@h/m?sentinel_password=c%2Cd",
            "redis+sentinel://me:a%40b@h/other?sentinel_password=c%2Cd",
            "redis+sentinel://me:a%40b@h,i/m?sentinel_password=c%2Cd",
        ] {
            assert_ne!(url, RedisUrl::parse(other).unwrap(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(rest in ".{0,60}", hosts in "[a-z0-9:@,/?&=%\\[\\]]{0,40}") {
            for text in [format!("redis+sentinel://{rest}"), format!("redis+sentinel://{hosts}"), rest] {
                if let Ok(url) = RedisUrl::parse(&text) {
                    prop_assert!(!url.to_string().is_empty());
                    if let Some(password) = url.login.password().filter(|text| text.len() > 8) {
                        prop_assert!(!url.masked().contains(password));
                    }
                }
            }
        }
    }
}
