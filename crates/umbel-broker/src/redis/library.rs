//! The library of functions that history is made of, and how it gets into a server.
//!
//! A server of version 7 or later has functions; elsewhere the same code runs as scripts. A node
//! loads what is missing or older than its own when it connects, and again when the server says
//! that it doesn't know it.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};

use super::fault::{Fault, FaultKind};

/// The library, as it is loaded: for `FUNCTION LOAD`.
pub const LIBRARY: &str = include_str!("library.lua");

/// Its version, which must be the one in its text.
const VERSION: i64 = 4;

/// The oldest that serves a node which may not load its own.
const OLDEST: i64 = 2;

/// Those that began to take traces, and to compare many topics at once.
const TRACES: i64 = 3;
const COMPARES: i64 = 4;

/// Where the functions end and their registration begins.
const REGISTRATION: &str = "redis.register_function";

/// How long a server is left alone that doesn't take the library.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a server is asked for the library's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Library {
    /// By functions.
    Functions {
        /// Of the library that is there.
        version: i64,
    },
    /// By scripts of these digests.
    Scripts([String; Work::ALL.len()]),
    /// Not at all, as of then.
    Unusable(Fault, Instant),
}

/// What the library does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Publish,
    Read,
    Tend,
    Stands,
}

impl Work {
    const ALL: [Self; 4] = [Self::Publish, Self::Read, Self::Tend, Self::Stands];

    /// What does it in the library's text; as a function, it is called `umbel_…`.
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Tend => "tend",
            Self::Stands => "stands",
        }
    }
}

impl Library {
    /// Finds out what the server has, and loads what it lacks, if it may. An error says that the connection
    /// failed, or that the server can't be used as yet.
    pub(super) async fn load(commands: &mut MultiplexedConnection) -> Result<Self, Fault> {
        let loaded = match ask(commands, redis::cmd("FCALL").arg("umbel_version").arg(0)).await? {
            Ok(Value::Int(version @ VERSION..)) => Ok(Self::Functions { version }),
            Ok(Value::Int(version @ OLDEST..)) => match functions(commands).await? {
                Err(error) if is_denied(&error) => {
                    tracing::warn!(version, %error, "Redis has an older library, which does less");
                    Ok(Self::Functions { version })
                }
                loaded => loaded,
            },
            Ok(_) => functions(commands).await?,
            Err(error) if is_function_missing(&error) => functions(commands).await?,
            Err(error) if is_unknown_command(&error) => scripts(commands).await?,
            Err(error) => Err(error),
        };
        loaded.or_else(|error| Self::without(error.into()))
    }

    /// What there is after the server refused. One that loads its data, or is a replica, is no server to go
    /// on with: if the link waited for the probe to find that out, a server that has just loaded its data would
    /// pass, and refuse history for a second though the node says that it is ready.
    fn without(refusal: Fault) -> Result<Self, Fault> {
        if refusal.kind.is_passing_refusal() { Err(refusal) } else { Ok(Self::unusable(refusal)) }
    }

    /// Tries again if the server didn't take it: its memory may have been full, or its ACL narrow.
    pub(super) async fn refresh(
        &mut self,
        commands: &mut MultiplexedConnection,
    ) -> Result<(), Fault> {
        if let Self::Unusable(_, tried) = self
            && tried.elapsed() > RETRY_AFTER
        {
            *self = Self::load(commands).await?;
        }
        Ok(())
    }

    /// Whether a message that is published may say its trace.
    pub(super) fn takes_trace(&self) -> bool {
        !matches!(self, Self::Functions { version: ..TRACES })
    }

    /// Whether one call compares many topics.
    pub(super) fn compares(&self) -> bool {
        !matches!(self, Self::Functions { version: ..COMPARES })
    }

    fn unusable(fault: Fault) -> Self {
        Self::Unusable(fault, Instant::now())
    }

    /// The beginning of a call, up to its keys.
    pub(super) fn call(&self, work: Work) -> Result<Cmd, Fault> {
        let mut command;
        match self {
            Self::Functions { .. } => {
                command = redis::cmd("FCALL");
                command.arg(format!("umbel_{}", work.name()));
            }
            Self::Scripts(digests) => {
                command = redis::cmd("EVALSHA");
                command.arg(&digests[work as usize]);
            }
            Self::Unusable(fault, _) => return Err(fault.clone()),
        }
        Ok(command)
    }
}

/// Whether a call failed only since the server doesn't have the library any more, or an older one
/// that another node has loaded at the same time.
pub(super) fn is_missing(error: &Fault) -> bool {
    let text = error.to_string();
    text.contains("Function not found")
        || text.starts_with("NOSCRIPT")
        || text.contains("umbel_publish has no option")
}

async fn functions(
    commands: &mut MultiplexedConnection,
) -> Result<Result<Library, RedisError>, Fault> {
    let mut load = redis::cmd("FUNCTION");
    let loaded = ask(commands, load.arg("LOAD").arg("REPLACE").arg(LIBRARY)).await?;
    Ok(loaded.map(|_| Library::Functions { version: VERSION }))
}

async fn scripts(
    commands: &mut MultiplexedConnection,
) -> Result<Result<Library, RedisError>, Fault> {
    let mut digests = [const { String::new() }; Work::ALL.len()];
    for work in Work::ALL {
        let mut load = redis::cmd("SCRIPT");
        digests[work as usize] = match ask(commands, load.arg("LOAD").arg(script(work))).await? {
            Ok(Value::BulkString(digest)) => String::from_utf8_lossy(&digest).into_owned(),
            Ok(Value::SimpleString(digest)) => digest,
            Ok(other) => {
                let text = format!("SCRIPT LOAD answered {other:?}");
                return Ok(Ok(Library::unusable(Fault::new(FaultKind::Protocol, text))));
            }
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(Ok(Library::Scripts(digests)))
}

/// The same code as a script that does one of its works.
fn script(work: Work) -> String {
    let (_, code) = LIBRARY.split_once('\n').expect("the first line names the library");
    let functions = code.split(REGISTRATION).next().unwrap_or_default();
    format!("{functions}\nreturn {}(KEYS, ARGV)\n", work.name())
}

/// An answer, be it an error of the server; an outer error is one of the connection.
async fn ask(
    commands: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Result<Value, RedisError>, Fault> {
    match command.query_async::<Value>(commands).await {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.code().is_some() => Ok(Err(error)),
        Err(error)
            if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() =>
        {
            Err(error.into())
        }
        Err(error) => Ok(Err(error)),
    }
}

fn is_function_missing(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}

/// By the server's ACL.
fn is_denied(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
}

fn is_unknown_command(error: &RedisError) -> bool {
    error.to_string().contains("unknown command")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_loads_its_data_fails_the_link_and_one_that_is_full_does_not() {
        for (said, fails) in [
            ("LOADING Redis is loading the dataset in memory", true),
            ("READONLY You can't write against a read only replica.", true),
            ("OOM command not allowed when used memory > 'maxmemory'.", false),
            ("NOPERM User has no permissions to run the 'function|load' command", false),
        ] {
            assert_eq!(Library::without(Fault::told(said)).is_err(), fails, "{said}");
        }
    }

    #[test]
    fn the_library_says_its_version_and_splits_into_scripts() {
        assert!(LIBRARY.starts_with("#!lua name=umbel\n"));
        assert!(LIBRARY.contains(&format!("local VERSION = {VERSION}\n")));
        for work in Work::ALL {
            let (script, name) = (script(work), work.name());
            assert!(script.contains(&format!("local function {name}(keys, args)")));
            assert!(!script.contains("register_function") && !script.contains("#!lua"));
            assert!(script.ends_with(&format!("return {name}(KEYS, ARGV)\n")));
        }
    }
}
