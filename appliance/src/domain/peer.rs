//! Who is asking: one value on every request, made once at the edge.

/// How a request reached us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A connection from this machine.
    Loopback,
    /// A connection from another machine, over plain HTTP.
    Lan {
        /// Its address and port.
        address: String,
    },
}

/// The person that owns rows. `owner` is the first one and always exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PersonId(String);

impl PersonId {
    /// The person who installed the appliance.
    pub const OWNER: &'static str = "owner";

    /// Returns the owner.
    pub fn owner() -> PersonId {
        PersonId(Self::OWNER.to_owned())
    }

    /// Takes an identifier that the store has written.
    pub fn from_row(text: String) -> PersonId {
        PersonId(text)
    }

    /// Returns the text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a route needs and what a peer holds. Ordered: each scope includes those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing: health, the application shell.
    Public,
    /// Asking models and keeping one's own chats.
    Chat,
    /// Everything: models, devices, settings.
    Owner,
}

/// The asking side of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// How the request came in.
    pub transport: Transport,
    /// The paired device, once devices exist; `None` for a program on this machine.
    pub device: Option<String>,
    /// Whose rows the request reads and writes; `None` where nobody signed in.
    pub person: Option<PersonId>,
    /// The widest scope that the peer holds.
    pub scope: Scope,
}

impl Peer {
    /// A program on this machine: it is the owner.
    pub fn loopback() -> Peer {
        Peer {
            transport: Transport::Loopback,
            device: None,
            person: Some(PersonId::owner()),
            scope: Scope::Owner,
        }
    }

    /// A machine on a network that the owner opened the port to by an explicit flag.
    pub fn lan(address: String) -> Peer {
        Peer {
            transport: Transport::Lan { address },
            device: None,
            person: Some(PersonId::owner()),
            scope: Scope::Chat,
        }
    }

    /// Returns whether the peer may use a route that needs `scope`.
    pub fn holds(&self, scope: Scope) -> bool {
        self.scope >= scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lan_peer_chats_but_does_not_own() {
        let peer = Peer::lan("192.168.1.9:4242".into());
        assert!(peer.holds(Scope::Public) && peer.holds(Scope::Chat));
        assert!(!peer.holds(Scope::Owner));
        assert!(Peer::loopback().holds(Scope::Owner));
    }
}
