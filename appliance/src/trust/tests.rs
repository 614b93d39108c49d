//! Trust over a real store: tokens, their renewal and theft, revocation, tickets, pairing to the end.

use super::pairing::Grant;
use super::*;

fn trust() -> (tempfile::TempDir, Trust) {
    trust_with(TrustConfig::default())
}

fn trust_with(config: TrustConfig) -> (tempfile::TempDir, Trust) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, Trust::new(store, config))
}

fn lan(secure: bool) -> Transport {
    Transport::Lan {
        address: "192.168.1.9".into(),
        secure,
    }
}

async fn shows(trust: &Trust, transport: Transport, token: &str) -> Recognised {
    let carried = [Carried {
        text: token,
        cookie: true,
    }];
    trust.recognise(transport, &carried).await.unwrap()
}

async fn device(trust: &Trust, scope: Scope) -> Made {
    trust
        .make(
            CredentialKind::Device,
            (PersonId::owner(), scope),
            "Phone",
            None,
            None,
        )
        .await
        .unwrap()
}

/// Moves a credential's clock back.
async fn age(trust: &Trust, id: &str, ms: i64) {
    trust
        .store
        .access()
        .shift_renewed_at(id, -ms)
        .await
        .unwrap();
}

#[tokio::test]
async fn this_machine_is_the_owner_unless_it_must_show_a_key() {
    let (_folder, trust) = trust();
    let any = [Carried {
        text: "sk-whatever",
        cookie: false,
    }];
    let here = trust.recognise(Transport::Loopback, &any).await.unwrap();
    assert_eq!(here.peer, Peer::loopback());
    // A key of ours is believed even here: it may be narrower.
    let key = trust
        .add_key(PersonId::owner(), "script", Scope::Infer, None, "test")
        .await
        .unwrap();
    assert_eq!(
        shows(&trust, Transport::Loopback, &key.token)
            .await
            .peer
            .scope,
        Scope::Infer
    );
    let wrong = shows(&trust, Transport::Loopback, "ob_nonsense").await;
    assert!(wrong.peer.scope == Scope::Public && wrong.wrong.is_some());

    let (folder, strict) = trust_with(TrustConfig {
        loopback_is_owner: false,
        ..TrustConfig::default()
    });
    let stranger = strict.recognise(Transport::Loopback, &[]).await.unwrap();
    assert_eq!(stranger.peer.scope, Scope::Public);
    strict.prepare(&[], &[]).await.unwrap();
    let key = local_key(folder.path()).unwrap();
    assert_eq!(
        shows(&strict, Transport::Loopback, &key).await.peer.scope,
        Scope::Owner
    );
    strict.prepare(&[], &[]).await.unwrap();
    assert_eq!(
        shows(&strict, Transport::Loopback, &key).await.peer.scope,
        Scope::Public
    );
}

#[tokio::test]
async fn tokens_end_by_time_by_revocation_and_never_by_half() {
    let (_folder, trust) = trust();
    let made = device(&trust, Scope::Owner).await;
    assert_eq!(
        shows(&trust, lan(true), &made.token).await.peer.scope,
        Scope::Owner
    );
    assert_eq!(
        shows(&trust, lan(false), &made.token).await.peer.scope,
        Scope::Chat
    );
    for end in [made.token.len() - 1, 40, 4] {
        let cut = shows(&trust, lan(true), &made.token[..end]).await;
        assert!(cut.peer.person.is_none() && cut.wrong.is_some());
    }
    let live = shows(&trust, lan(true), &made.token).await.live.unwrap();
    trust
        .remove(CredentialKind::Device, &made.credential.id, "test")
        .await
        .unwrap();
    live.revoked().await;
    assert!(shows(&trust, lan(true), &made.token).await.wrong.is_some());

    let old = trust
        .make(
            CredentialKind::Key,
            (PersonId::owner(), Scope::Chat),
            "old",
            Some(now_ms() - 1),
            None,
        )
        .await
        .unwrap();
    assert!(shows(&trust, lan(true), &old.token).await.wrong.is_some());
}

#[tokio::test]
async fn two_credentials_are_none() {
    let (_folder, trust) = trust();
    let (a, b) = (
        device(&trust, Scope::Owner).await,
        device(&trust, Scope::Infer).await,
    );
    let both = [&a.token, &b.token].map(|text| Carried {
        text,
        cookie: false,
    });
    let got = trust.recognise(lan(true), &both).await.unwrap();
    assert!(matches!(got.wrong, Some(TrustError::Several)));
    let twice = [&a.token, &a.token].map(|text| Carried {
        text,
        cookie: false,
    });
    assert_eq!(
        trust.recognise(lan(true), &twice).await.unwrap().peer.scope,
        Scope::Owner
    );
}

#[tokio::test]
async fn a_token_is_renewed_and_its_old_one_betrays_a_copy() {
    let (_folder, trust) = trust();
    let made = device(&trust, Scope::Chat).await;
    let id = made.credential.id.clone();
    assert!(
        shows(&trust, lan(true), &made.token)
            .await
            .renewed
            .is_none()
    );
    age(&trust, &id, RENEW_MS).await;
    let first = shows(&trust, lan(true), &made.token).await.renewed.unwrap();
    // Requests beside it still carry the old one and are let in, without a second renewal.
    let beside = shows(&trust, lan(true), &made.token).await;
    assert!(beside.renewed.is_none() && beside.peer.scope == Scope::Chat);
    // The answer was lost: the old token is renewed again, and the first renewal is worth nothing.
    age(&trust, &id, RENEWING_MS).await;
    let second = shows(&trust, lan(true), &made.token).await.renewed.unwrap();
    assert!(shows(&trust, lan(true), &first).await.wrong.is_some());
    assert_eq!(
        shows(&trust, lan(true), &second).await.peer.scope,
        Scope::Chat
    );
    // Now the new one is in use; the old one, a minute later, is a copy.
    age(&trust, &id, RENEWING_MS).await;
    assert!(shows(&trust, lan(true), &made.token).await.wrong.is_some());
    assert!(
        shows(&trust, lan(true), &second).await.wrong.is_some(),
        "the device is out"
    );
    let events = trust.store.access().audit_rows(9).await.unwrap();
    assert!(events.iter().any(|row| row.event == "token_reused"));
}

#[tokio::test]
async fn guessing_is_slowed_down_for_the_guesser_alone() {
    let (_folder, trust) = trust();
    let made = device(&trust, Scope::Chat).await;
    let carried = [Carried {
        text: "ob_guess",
        cookie: false,
    }];
    let mut refused = 0;
    for _ in 0..100 {
        refused += usize::from(trust.recognise(lan(true), &carried).await.is_err());
    }
    assert!(refused >= 60, "{refused}");
    let elsewhere = Transport::Lan {
        address: "192.168.1.10".into(),
        secure: true,
    };
    assert_eq!(
        shows(&trust, elsewhere, &made.token).await.peer.scope,
        Scope::Chat
    );
}

#[tokio::test]
async fn a_ticket_is_used_once_and_not_over_a_worse_way() {
    let (_folder, trust) = trust();
    let made = device(&trust, Scope::Owner).await;
    let peer = shows(&trust, lan(true), &made.token).await.peer;
    let ticket = trust.ticket(&peer).unwrap();
    assert_eq!(
        trust.redeem(&ticket, lan(true)).await.unwrap().peer.scope,
        Scope::Owner
    );
    assert!(
        trust
            .redeem(&ticket, lan(true))
            .await
            .unwrap()
            .wrong
            .is_some()
    );
    let ticket = trust.ticket(&peer).unwrap();
    assert!(
        trust
            .redeem(&ticket, lan(false))
            .await
            .unwrap()
            .wrong
            .is_some()
    );
    let ticket = trust.ticket(&peer).unwrap();
    trust
        .remove(CredentialKind::Device, &made.credential.id, "test")
        .await
        .unwrap();
    assert!(
        trust
            .redeem(&ticket, lan(true))
            .await
            .unwrap()
            .wrong
            .is_some()
    );
}

#[tokio::test]
async fn a_phone_is_paired_and_holds_what_its_way_allows() {
    let (_folder, trust) = trust();
    for (secure, scope) in [(true, Scope::Owner), (false, Scope::Chat)] {
        let grant = Grant {
            person: PersonId::owner(),
            scope: Scope::Owner,
        };
        let opened = trust.open_pairing(grant, "test").await.unwrap();
        let claimed = trust
            .claim_pairing(&lan(secure), None, &opened.typed_code, " Pixel ")
            .await
            .unwrap();
        trust
            .decide_pairing(&claimed.id, &claimed.digits, true, "test")
            .await
            .unwrap();
        let Progress::In(made) = trust
            .collect_pairing(&lan(secure), &claimed.id, &claimed.secret)
            .await
            .unwrap()
        else {
            panic!("allowed and not in")
        };
        assert_eq!(
            (made.credential.name.as_str(), made.credential.scope),
            ("Pixel", scope)
        );
        assert_eq!(
            shows(&trust, lan(true), &made.token).await.peer.scope,
            scope
        );
    }
}

#[tokio::test]
async fn a_member_cannot_be_given_the_owners_rights() {
    let (_folder, trust) = trust();
    let ada = trust.store.access().add_person("Ada").await.unwrap();
    let key = trust
        .add_key(ada.id.clone(), "k", Scope::Owner, None, "test")
        .await;
    assert!(matches!(key, Err(TrustError::MembersScope)));
    let grant = Grant {
        person: ada.id,
        scope: Scope::Owner,
    };
    assert!(matches!(
        trust.open_pairing(grant, "test").await,
        Err(TrustError::MembersScope)
    ));
}

#[tokio::test]
async fn the_first_claim_needs_the_code_https_and_happens_once() {
    let (_folder, trust) = trust();
    trust.prepare(&[], &[]).await.unwrap();
    let code = std::fs::read_to_string(trust.setup_file()).unwrap();
    assert!(matches!(
        trust.claim_appliance(&lan(false), &code, "Laptop").await,
        Err(TrustError::NotPrivate)
    ));
    assert!(
        trust
            .claim_appliance(&lan(true), "0000000000000000", "Laptop")
            .await
            .is_err()
    );
    let made = trust
        .claim_appliance(&lan(true), &code.to_lowercase(), "Laptop")
        .await
        .unwrap();
    assert_eq!(
        shows(&trust, lan(true), &made.token).await.peer.scope,
        Scope::Owner
    );
    assert!(
        trust
            .claim_appliance(&lan(true), &code, "Thief")
            .await
            .is_err()
    );
    trust.prepare(&[], &[]).await.unwrap();
    assert!(!trust.is_unclaimed());
}

#[tokio::test]
async fn tries_of_codes_run_out() {
    let (_folder, trust) = trust();
    trust.prepare(&[], &[]).await.unwrap();
    let mut too_often = 0;
    for n in 0..20 {
        let error = trust
            .claim_appliance(&lan(true), &format!("{n:016}"), "x")
            .await
            .err()
            .unwrap();
        too_often += usize::from(matches!(error, TrustError::TooOften(_)));
    }
    assert_eq!(too_often, 15);
}

#[test]
fn names_can_be_read() {
    assert_eq!(name_of(" Anna's phone ").unwrap(), "Anna's phone");
    for bad in ["", "  ", "a\nb", "a\u{202e}b", "\u{200b}", &"x".repeat(65)] {
        assert!(name_of(bad).is_err(), "{bad:?}");
    }
}
