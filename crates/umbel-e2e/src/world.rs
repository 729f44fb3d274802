//! What a test starts, and ends again.

use std::net::IpAddr;

use crate::node::{Node, NodeOptions};

/// The processes of one test.
#[derive(Debug)]
pub struct World {
    nodes: Vec<Node>,
}

/// What a [`World`] shall hold.
#[derive(Debug, Default)]
pub struct WorldBuilder {
    nodes: usize,
    options: NodeOptions,
}

impl World {
    /// Begins to describe a world.
    #[allow(clippy::new_ret_no_self, reason = "`World::new()…start()` reads as what it is")]
    pub fn new() -> WorldBuilder {
        WorldBuilder { nodes: 1, options: NodeOptions::default() }
    }

    /// One of its nodes.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All of its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One of its nodes, to do something to it.
    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}

impl WorldBuilder {
    /// How many nodes there are; one unless told.
    #[must_use]
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// How many workers each node has; one unless told, so that what a test sees is the same on
    /// every machine.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.options.workers = count;
        self
    }

    /// Where the nodes listen for clients; 127.0.0.1 unless told.
    #[must_use]
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.options.address = address;
        self
    }

    /// A configuration file for all nodes, without addresses.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.options.settings);
        self
    }

    /// An environment variable for all nodes.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.options.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What carries the messages between the nodes: the URL of a Redis server.
    #[must_use]
    pub fn broker(mut self, url: &str) -> Self {
        self.options.broker = Some(url.to_owned());
        self
    }

    /// Leaves unread what the nodes log, so that their pipes are full some time.
    #[must_use]
    pub fn deaf_logs(mut self) -> Self {
        self.options.has_deaf_log = true;
        self
    }

    /// Gives the nodes ports that nobody else takes while they are away, however long that is.
    #[must_use]
    pub fn lasting_ports(mut self) -> Self {
        self.options.has_lasting_ports = true;
        self
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(self) -> World {
        let world = self.start_unready().await;
        for node in &world.nodes {
            node.wait_until_ready().await;
        }
        world
    }

    /// Starts everything and waits only until it listens.
    pub async fn start_unready(self) -> World {
        let mut nodes = Vec::new();
        for _ in 0..self.nodes {
            nodes.push(Node::start(&self.options).await);
        }
        World { nodes }
    }
}
