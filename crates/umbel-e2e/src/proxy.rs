//! A faulty line between a node and a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// What the line does to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: they pass.
    None,
    /// They pass after a while.
    Delay(Duration),
    /// What the server sends passes after a while.
    DelayAnswers(Duration),
    /// What the node sends vanishes; the connection stays.
    SwallowRequests,
    /// What the server sends vanishes; the connection stays.
    SwallowAnswers,
    /// All connections are cut, and so is every new one.
    Cut,
}

/// A TCP proxy on 127.0.0.1 whose faults the test sets. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    port: watch::Sender<u16>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy in front of a port on 127.0.0.1.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fault, faults) = watch::channel(Fault::None);
        let (port, ports) = watch::channel(port);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, ports, faults));
        Self { address, fault, port, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another port on 127.0.0.1.
    pub fn lead_to(&self, port: u16) {
        self.port.send_replace(port);
    }

    /// Sets what happens to bytes from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Cuts all connections once; new ones work.
    pub async fn cut_once(&self) {
        self.set(Fault::Cut);
        // Every connection's task sees it.
        sleep(Duration::from_millis(50)).await;
        self.set(Fault::None);
    }
}

async fn accept(
    listener: TcpListener,
    ports: watch::Receiver<u16>,
    faults: watch::Receiver<Fault>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                let port = *ports.borrow();
                connections.spawn(connection(client, port, faults.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, port: u16, faults: watch::Receiver<Fault>) {
    if *faults.borrow() == Fault::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (client_reader, client_writer) = client.into_split();
    let (server_reader, server_writer) = server.into_split();
    let faults = Arc::new(faults);
    let mut cut = (*faults).clone();
    tokio::select! {
        // However it ends, it has ended.
        _ = pass(client_reader, server_writer, &faults, Fault::SwallowRequests) => {}
        _ = pass(server_reader, client_writer, &faults, Fault::SwallowAnswers) => {}
        _ = cut.wait_for(|fault| *fault == Fault::Cut) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    faults: &watch::Receiver<Fault>,
    swallows: Fault,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        let fault = *faults.borrow();
        match fault {
            Fault::Delay(delay) => sleep(delay).await,
            Fault::DelayAnswers(delay) if swallows == Fault::SwallowAnswers => sleep(delay).await,
            _ if fault == swallows => continue,
            _ => {}
        }
        to.write_all(&buffer[..bytes]).await?;
    }
}
