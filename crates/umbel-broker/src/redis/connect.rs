//! The two connections of a link.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, Value, ValueCodec,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use super::fault::{Fault, FaultKind};
use super::sentinel::Master;
use super::url::RedisUrl;

/// How long it may take until both connections can be used.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long a command may take. Longer than the probe's patience, which then says so first.
const ANSWER_WAIT: Duration = Duration::from_secs(6);

/// What a socket of either family is.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connections that are authenticated, with nothing subscribed.
pub(super) struct Connections {
    pub(super) reader: ReadHalf<Box<dyn Duplex>>,
    pub(super) writer: WriteHalf<Box<dyn Duplex>>,
    pub(super) commands: MultiplexedConnection,
    pub(super) server: ConnectionAddr,
    /// What Sentinel said of the server, if it was asked.
    pub(super) master: Option<Master>,
}

pub(super) async fn connect(url: &RedisUrl, name: &str) -> Result<Connections, Fault> {
    let both = async {
        let (info, master) = url.server().await?;
        let socket = subscribe_socket(&info, name).await?;
        let server = info.addr().clone();
        let commands = command_connection(info).await?;
        let (reader, writer) = split(socket);
        Ok(Connections { reader, writer, commands, server, master })
    };
    match timeout(CONNECT_WAIT, both).await {
        Ok(connected) => connected,
        Err(_) => Err(Fault::new(
            FaultKind::Unreachable,
            format!("no connection within {} s", CONNECT_WAIT.as_secs()),
        )),
    }
}

async fn command_connection(info: ConnectionInfo) -> Result<MultiplexedConnection, Fault> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_WAIT))
        .set_response_timeout(Some(ANSWER_WAIT));
    let client = Client::open(info)?;
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn subscribe_socket(info: &ConnectionInfo, name: &str) -> Result<Box<dyn Duplex>, Fault> {
    let mut socket: Box<dyn Duplex> = match info.addr() {
        ConnectionAddr::Unix(path) => {
            Box::new(UnixStream::connect(path).await.map_err(|error| Fault::unreachable(&error))?)
        }
        ConnectionAddr::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await;
            let stream = stream.map_err(|error| Fault::unreachable(&error))?;
            stream.set_nodelay(true).map_err(|error| Fault::unreachable(&error))?;
            Box::new(stream)
        }
        other => {
            let text = format!("{other} is not a kind of address that is supported");
            return Err(Fault::new(FaultKind::Refused, text));
        }
    };
    let settings = info.redis_settings();
    if let Some(password) = settings.password() {
        let mut auth = redis::cmd("AUTH");
        if let Some(user) = settings.username() {
            auth.arg(user);
        }
        ask(&mut socket, auth.arg(password)).await?;
    }
    // The name is for whoever looks at CLIENT LIST; a user that may not set it does without.
    match ask(&mut socket, redis::cmd("CLIENT").arg("SETNAME").arg(name)).await {
        Err(fault) if fault.kind == FaultKind::Denied && fault.to_string().contains("NOPERM") => {}
        other => other?,
    }
    Ok(socket)
}

/// Sends a command and waits for its answer, which must not be an error.
async fn ask(socket: &mut Box<dyn Duplex>, command: &Cmd) -> Result<(), Fault> {
    socket.write_all(&command.get_packed_command()).await.map_err(|error| Fault::lost(&error))?;
    let (mut codec, mut input) = (ValueCodec::default(), BytesMut::new());
    loop {
        match codec.decode(&mut input)? {
            Some(Value::ServerError(error)) => return Err(Fault::said(&error)),
            Some(_) => return Ok(()),
            None => {}
        }
        match socket.read_buf(&mut input).await {
            Ok(0) => return Err(Fault::lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(Fault::lost(&error)),
        }
    }
}
