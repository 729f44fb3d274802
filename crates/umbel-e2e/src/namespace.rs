//! A host of its own that can vanish: a network namespace behind a pair of virtual interfaces.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::{DEADLINE, within};

/// A network namespace with an address of its own, and one on this side. Gone when dropped. Needs
/// root and the `ip` command.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    here: Ipv4Addr,
}

impl Namespace {
    /// Makes a namespace; the error says why it can't be made.
    pub fn new() -> Result<Self, String> {
        let id = fastrand::u32(..);
        let [_, _, third, fourth] = id.to_be_bytes();
        // The network of RFC 2544, which no machine has anything to do with.
        let here = Ipv4Addr::new(198, 18, third, (fourth & 0xfc) | 1);
        let there = Ipv4Addr::new(198, 18, third, (fourth & 0xfc) | 2);
        let name = format!("umbel-{id:08x}");
        let (outside, inside) = (format!("umb{id:08x}"), format!("umb{id:08x}i"));
        ip(&format!("netns add {name}"))?;
        // From here on it is taken away again, whatever fails.
        let namespace = Self { name: name.clone(), here };
        ip(&format!("link add {outside} type veth peer name {inside} netns {name}"))?;
        ip(&format!("address add {here}/30 dev {outside}"))?;
        ip(&format!("link set {outside} up"))?;
        ip(&format!("-n {name} address add {there}/30 dev {inside}"))?;
        ip(&format!("-n {name} link set {inside} up"))?;
        Ok(namespace)
    }

    /// This side's address, which can be reached from within.
    pub fn here(&self) -> IpAddr {
        self.here.into()
    }

    /// A connection from within.
    pub async fn connect(&self, address: SocketAddr) -> TcpStream {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let (connected, stream) = oneshot::channel();
        // A socket belongs to the namespace of the thread that made it, for good. The thread isn't
        // needed for anything else.
        std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let _ = connected.send(StdStream::connect_timeout(&address, DEADLINE).unwrap());
        });
        let stream = within("the connection", stream).await.unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    /// From now on nothing comes from there or gets there, and nobody is told.
    pub fn vanish(&self) {
        let interface = format!("{}i", self.name.replace("umbel-", "umb"));
        ip(&format!("-n {} link set {interface} down", self.name)).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its interface goes with it, and so does the other end. Sockets keep it alive until they
        // are closed, so the other end is taken away by hand.
        let _ = ip(&format!("link delete {}", self.name.replace("umbel-", "umb")));
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("ip {arguments}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
