use libp2p::identity::Keypair;
use lull_shared::identity::{Authority, NetworkId, Secret};

use super::*;

fn pending(token: &str) -> Pending {
    Pending { token: token.into(), coordinators: Vec::new() }
}

#[test]
fn a_member_starts_and_a_token_that_was_left_over_goes() {
    let joined = |file| next(Facts { joined: true, file, policy: Some(pending("p")), refused: None });
    assert_eq!([joined(None), joined(Some(pending("f")))], [Next::Start { forget: false }, Next::Start { forget: true }]);
}

#[test]
fn a_file_comes_before_a_policy_and_a_policys_token_that_will_never_do_is_not_tried_again() {
    let facts = |file: Option<&str>, policy: Option<&str>, refused: Option<&str>| Facts {
        joined: false,
        file: file.map(pending),
        policy: policy.map(pending),
        refused: refused.map(|token| digest(&pending(token))),
    };
    assert_eq!(next(facts(Some("f"), Some("p"), None)), Next::Join(Source::File, pending("f")));
    assert_eq!(next(facts(None, Some("p"), None)), Next::Join(Source::Policy, pending("p")));
    assert_eq!(next(facts(None, Some("p"), Some("p"))), Next::Nothing);
    assert_eq!(next(facts(None, Some("new"), Some("p"))), Next::Join(Source::Policy, pending("new")), "a new one is");
    assert_eq!(next(facts(Some("p"), None, Some("p"))), Next::Join(Source::File, pending("p")), "somebody brought it again");
    assert_eq!(next(facts(None, None, None)), Next::Nothing);
}

#[test]
fn pauses_grow_to_five_minutes_and_a_void_token_is_given_up() {
    let not_now = Ended::NotNow(String::new());
    let pauses: Vec<After> = [1, 2, 3, 6, 7, 40, u32::MAX].map(|tries| after(&not_now, tries)).into();
    let seconds = |seconds| After::Again(Duration::from_secs(seconds));
    assert_eq!(pauses, [seconds(5), seconds(10), seconds(20), seconds(160), seconds(300), seconds(300), seconds(300)]);
    assert_eq!([after(&Ended::Joined, 9), after(&Ended::Void(String::new()), 1)], [After::Start, After::GiveUp]);
}

#[test]
fn a_token_waits_in_a_file_of_its_own_and_is_in_no_words() {
    let data = tempfile::tempdir().expect("a folder");
    let left = Pending { token: "lull1-secret".into(), coordinators: vec!["a:1".into()] };
    leave(data.path(), &left).expect("written");
    let found = facts(data.path(), &MachinePolicy::default()).expect("facts");
    assert_eq!(found.file, Some(left.clone()));
    assert!(!format!("{found:?}").contains("secret"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let about = fs::metadata(data.path().join(FILE)).expect("it is there");
        assert_eq!(about.mode() & 0o777, 0o600);
    }
    let policy = MachinePolicy { coordinators: vec!["b:2".into()], ..MachinePolicy::default() };
    assert_eq!(facts(data.path(), &policy).expect("facts").file.expect("a token").coordinators, ["b:2", "a:1"]);
    assert_eq!(waiting(data.path()).expect("known"), Some(Source::File));
    forget(data.path()).expect("removed");
    assert_eq!(facts(data.path(), &MachinePolicy::default()).expect("facts").file, None);
}

#[test]
fn addresses_are_taken_as_people_write_them_and_the_token_says_who_answers_there() {
    let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let is = |text: &str, right: &str| assert_eq!(address(text, Some(peer)).as_deref(), Ok(right), "{text}");
    is("lull.example.org", &format!("/dns/lull.example.org/tcp/7410/p2p/{peer}"));
    is("lull.example.org:7000", &format!("/dns/lull.example.org/tcp/7000/p2p/{peer}"));
    is("10.0.0.1", &format!("/ip4/10.0.0.1/tcp/7410/p2p/{peer}"));
    is("fe80::1", &format!("/ip6/fe80::1/tcp/7410/p2p/{peer}"));
    is("[fe80::1]:7000", &format!("/ip6/fe80::1/tcp/7000/p2p/{peer}"));
    is("/dns4/a/tcp/1", &format!("/dns4/a/tcp/1/p2p/{peer}"));
    for wrong in ["a:b", "/tcp/x", ":7410", "http://a", "a b"] {
        assert!(address(wrong, None).is_err_and(|words| words.contains("\nhint: ")), "{wrong}");
    }
}

#[tokio::test]
async fn a_token_that_is_none_is_deleted_and_refused_in_words_without_it() {
    let data = tempfile::tempdir().expect("a folder");
    leave(data.path(), &pending("lull1-secret")).expect("written");
    let stop = CancellationToken::new();
    let settled = settle(data.path(), &Config::default(), Patience::WhileThereIsAToken, &stop, |_| {}).await;
    let words = settled.expect_err("it cannot do").to_string();
    assert!(words.contains("damaged") && !words.contains("secret"), "{words}");
    assert!(!data.path().join(FILE).exists());
    let settled = settle(data.path(), &Config::default(), Patience::WhileThereIsAToken, &stop, |_| {}).await;
    settled.expect("there is nothing to join with, and the agent itself says so");
}

#[tokio::test]
async fn a_service_that_has_nothing_to_join_with_says_so_once_and_ends_when_it_is_told() {
    let data = tempfile::tempdir().expect("a folder");
    let (stop, mut told) = (CancellationToken::new(), Vec::new());
    let stopper = stop.clone();
    let tell = |words| {
        told.push(words);
        stopper.cancel();
    };
    settle(data.path(), &Config::default(), Patience::Forever, &stop, tell).await.expect("it was told to stop");
    assert_eq!(told, [Told::Nothing]);
}

#[test]
fn a_wrong_address_does_not_cost_a_good_token() {
    let pending = |token: &str| Pending { token: token.to_owned(), coordinators: vec!["lull.example.org:74l0".into()] };
    assert!(matches!(token_of(&pending("lull1-nonsense")), Err(Unusable::Token(_))));
    let good = JoinToken {
        network: NetworkId([1; 16]),
        authority: Authority::of(&Keypair::generate_ed25519()),
        coordinators: vec!["/ip4/127.0.0.1/tcp/7410".into()],
        token: 9,
        secret: Secret([7; 16]),
    };
    let wrong = token_of(&pending(&good.to_string())).expect_err("no port");
    assert!(matches!(&wrong, Unusable::Address(words) if words.contains("HOST:PORT")), "{wrong:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_without_its_token() {
    let data = tempfile::tempdir().expect("a folder");
    for text in ["lull1-secret", "lull1-secret = 1", "token = lull1-secret"] {
        std::fs::write(data.path().join(FILE), text).expect("written");
        let error = facts(data.path(), &MachinePolicy::default()).expect_err("it is not a token's file").to_string();
        assert!(error.contains("not what an installer writes") && !error.contains("secret"), "{error}");
    }
}
