//! Who is asking: one value on every request, made once at the edge.

/// How a request reached us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A connection from this machine.
    Loopback,
    /// A connection from another machine.
    Lan {
        /// Its address.
        address: String,
        /// Whether it is encrypted to our own certificate.
        secure: bool,
    },
    /// A stream of the built-in mesh: encrypted, and bound to the key of one device.
    Mesh {
        /// The device whose key opened the tunnel.
        device: String,
        /// Its address inside.
        address: String,
    },
}

impl Transport {
    /// Whether nobody between the two ends can read or change what passes.
    pub fn is_private(&self) -> bool {
        match self {
            Transport::Loopback | Transport::Mesh { .. } => true,
            Transport::Lan { secure, .. } => *secure,
        }
    }

    /// The other side's address, for people and for counting.
    pub fn address(&self) -> &str {
        match self {
            Transport::Loopback => "this machine",
            Transport::Lan { address, .. } | Transport::Mesh { address, .. } => address,
        }
    }
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

    /// Whether this is the owner.
    pub fn is_owner(&self) -> bool {
        self.0 == Self::OWNER
    }
}

/// What a route needs and what a peer holds. Ordered: each scope includes those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Nothing: health, the application shell.
    Public,
    /// Asking models, and nothing that is kept.
    Infer,
    /// One's own chats, documents and settings as well.
    Chat,
    /// Everything: models, devices, settings of the appliance.
    Owner,
}

impl Scope {
    /// The word for it on the wire and in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Public => "public",
            Scope::Infer => "infer",
            Scope::Chat => "chat",
            Scope::Owner => "owner",
        }
    }

    /// Reads a scope that a credential can have; `None` for every other word.
    pub fn parse(word: &str) -> Option<Scope> {
        [Scope::Infer, Scope::Chat, Scope::Owner]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }
}

/// The asking side of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// How the request came in.
    pub transport: Transport,
    /// The device or key that it named itself by; `None` for a program on this machine and for strangers.
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

    /// Somebody who has not said who they are.
    pub fn stranger(transport: Transport) -> Peer {
        Peer {
            transport,
            device: None,
            person: None,
            scope: Scope::Public,
        }
    }

    /// The bearer of a credential, held to what its transport and its person allow: the owner's rights travel
    /// only where nobody can listen, and only the owner's own devices have them.
    pub fn bearer(transport: Transport, credential: &super::Credential) -> Peer {
        let mut scope = credential.scope;
        if !transport.is_private() || !credential.person.is_owner() {
            scope = scope.min(Scope::Chat);
        }
        Peer {
            transport,
            device: Some(credential.id.clone()),
            person: Some(credential.person.clone()),
            scope,
        }
    }

    /// Returns whether the peer may use a route that needs `scope`.
    pub fn holds(&self, scope: Scope) -> bool {
        self.scope >= scope
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Credential, CredentialKind};
    use super::*;

    fn credential(person: &str, scope: Scope) -> Credential {
        Credential {
            id: "d".into(),
            person: PersonId::from_row(person.into()),
            kind: CredentialKind::Device,
            name: "Phone".into(),
            scope,
            created_at: 0,
            seen_at: None,
            seen_from: None,
            expires_at: None,
        }
    }

    #[test]
    fn rights_shrink_with_the_transport_and_the_person() {
        let lan = |secure| Transport::Lan {
            address: "192.168.1.9".into(),
            secure,
        };
        let mesh = Transport::Mesh {
            device: "d".into(),
            address: "10.77.0.2".into(),
        };
        let scope =
            |transport, person, scope| Peer::bearer(transport, &credential(person, scope)).scope;
        assert_eq!(scope(lan(true), "owner", Scope::Owner), Scope::Owner);
        assert_eq!(scope(mesh, "owner", Scope::Owner), Scope::Owner);
        assert_eq!(scope(lan(false), "owner", Scope::Owner), Scope::Chat);
        assert_eq!(scope(lan(true), "ada", Scope::Owner), Scope::Chat);
        assert_eq!(scope(lan(false), "owner", Scope::Infer), Scope::Infer);
        assert!(!Peer::stranger(lan(true)).holds(Scope::Infer));
        assert!(Peer::loopback().holds(Scope::Owner));
    }

    #[test]
    fn scopes_read_as_they_are_written() {
        for scope in [Scope::Infer, Scope::Chat, Scope::Owner] {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("public"), None);
        assert_eq!(Scope::parse("Owner"), None);
    }
}
