//! The only door to subscribing and publishing.

use std::fmt;

use umbel_broker::History;
use umbel_protocol::Topic;

use crate::config::{Access, TopicRule, TopicRules};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Somebody without a credential.
    Anonymous,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Subscribe,
    Publish,
}

/// Decides by the rules of the configuration.
#[derive(Debug)]
pub(crate) struct Door {
    rules: TopicRules,
}

/// The door stayed shut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forbidden {
    action: Action,
    topic: Topic,
}

impl Door {
    pub(crate) fn new(rules: TopicRules) -> Self {
        Self { rules }
    }

    /// What is kept of a topic.
    pub(crate) fn history(&self, topic: &Topic) -> Option<History> {
        self.rules.of(topic).and_then(|rule| rule.history)
    }

    /// Whether `principal` may do `action` on `topic`, and the rule that holds for it there.
    ///
    /// It is async since one may have to be asked who answers later. Cancel safe.
    #[allow(clippy::unused_async, reason = "what asks an application's hook answers later")]
    pub(crate) async fn authorise(
        &self,
        principal: &Principal,
        action: Action,
        topic: &Topic,
    ) -> Result<&TopicRule, Forbidden> {
        let allowed = |rule: &&TopicRule| {
            let access = match action {
                Action::Subscribe => rule.subscribe,
                Action::Publish => rule.publish,
            };
            match (principal, access) {
                (Principal::Anonymous, Access::Anyone) => true,
                (Principal::Anonymous, Access::Nobody) => false,
            }
        };
        self.rules
            .of(topic)
            .filter(allowed)
            .ok_or_else(|| Forbidden { action, topic: topic.clone() })
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Subscribe => write!(f, "subscribing to `{}` is not allowed", self.topic),
            Action::Publish => write!(f, "publishing to `{}` is not allowed", self.topic),
        }
    }
}

impl std::error::Error for Forbidden {}
