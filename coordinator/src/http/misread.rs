//! Whatever a program sends of the wrong kind, to whichever route: it is told which field, parameter or part of the path is
//! meant, what is wrong with it and what to write, and never what a decoder says to programmers.
//!
//! Routes, fields and parameters are those of the interface itself: what it knows is asked of it by a name that nobody has,
//! so that a new one is tried here too.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Value, json};

use super::{routes::ROUTES, tests::Site};
use crate::api::{ErrorBody, PREFIX};

/// A name that nothing has.
const UNKNOWN: &str = "zzz";
/// What decoders say, and what is not true of JSON that parses.
const NEVER: [&str; 15] = [
    "not json",
    "unit",
    "variant",
    "invalid type",
    "invalid value",
    "serde",
    "expected",
    "struct",
    "enum",
    "u32",
    "u64",
    "map",
    "sequence",
    "deserialize",
    "parse",
];

/// Values of every kind, of which hardly any field takes more than two.
fn values() -> Vec<Value> {
    let large: Value = serde_json::from_str("99999999999999999999999").expect("JSON");
    let deep = json!({ "range": { "first": "x", "count": {} } });
    let list = json!(["x", 5, { "a": 1 }]);
    vec![
        json!("soon"),
        json!(""),
        json!("5"),
        json!(5),
        json!(-1),
        json!(1.5),
        large,
        json!(null),
        json!(true),
        json!({}),
        json!({ "a": 1 }),
        json!([]),
        list,
        json!([5]),
        json!([[null]]),
        deep,
        json!("range"),
    ]
}

/// Values of the path and of the query.
const TEXTS: [&str; 9] = ["abc", "", "-1", "1.5", "99999999999999999999999", "j1x", "%7B%7D", "null", "%FF"];

struct Asker {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Asker {
    /// The status of an answer, and its words where it is a refusal.
    async fn ask(&self, method: &str, path: &str, body: Option<String>) -> (u16, String) {
        let method: Method = method.to_uppercase().parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{PREFIX}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        if status < 400 {
            return (status, String::new());
        }
        let bytes = answer.bytes().await.expect("the body");
        let ErrorBody { error } = serde_json::from_slice(&bytes).expect("an error in its form");
        (
            status,
            format!("{}\nhint: {}", error.message, error.hint.unwrap_or_else(|| panic!("{path}: no hint: {}", error.message))),
        )
    }
}

/// The names that a refusal of an unknown one lists: `the fields are a, b`.
fn listed(said: &str, part: &str) -> Vec<String> {
    let list = said.split_once(&format!("the {part}s are ")).map(|(_, list)| list).unwrap_or_default();
    list.split(", ").map(str::to_owned).filter(|name| !name.is_empty()).collect()
}

fn assert_told(about: &str, (status, said): &(u16, String), names: &[&str]) {
    assert!([400, 404, 409, 422].contains(status), "{about}: {status} {said}");
    assert!(names.iter().any(|name| said.contains(name)), "{about} names none of {names:?}: {said}");
    let lower = said.to_lowercase();
    // Words of ours that hold one of theirs: `limit` is no `unit`.
    let plain = lower.replace("community", "").replace("exact", "");
    for never in NEVER {
        let found = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != ' ').any(|part| {
            let words = format!(" {part} ");
            words.contains(&format!(" {never} "))
        });
        assert!(!found, "{about} says `{never}`: {said}");
    }
}

/// A path whose parts are there, and those parts by name.
fn filled(path: &str) -> (String, Vec<(String, String)>) {
    let whole = [
        ("token", "t1"),
        ("name", "noop"),
        ("number", "1"),
        ("publication", "p00c0ffee00c0ffee"),
        ("job", "j1"),
        ("index", "0"),
        ("agent", "a1"),
        ("session", "s00c0ffee00c0ffee"),
        ("label", "stable"),
        ("digest", "b3:0000000000000000000000000000000000000000000000000000000000000000"),
    ];
    let named: Vec<(String, String)> = path
        .split('{')
        .skip(1)
        .map(|rest| {
            let name = rest.split('}').next().unwrap_or_default();
            let (_, value) = whole.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} has no value here"));
            (name.to_owned(), (*value).to_owned())
        })
        .collect();
    let path = named.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
    (path, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_every_path_is_told_by_its_name_where_it_is_wrong() {
    let site = Site::start().await;
    let asker = Asker { http: reqwest::Client::new(), base: site.admin.base().to_owned(), token: site.admin_token.clone() };
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for route in ROUTES {
        let (_, parts) = filled(route.path);
        for (name, _) in &parts {
            // What is known by any name is told by what was written.
            let free = matches!(name.as_str(), "name" | "agent" | "label");
            for text in TEXTS.iter().filter(|text| !text.is_empty()) {
                let path = parts.iter().fold(route.path.to_owned(), |path, (known, value)| {
                    path.replace(&format!("{{{known}}}"), if known == name { text } else { value })
                });
                let body = ["post", "put"].contains(&route.method).then(|| body_for(route.path).to_string());
                let answer = asker.ask(route.method, &path, body).await;
                let mut names = vec![name.as_str()];
                if free || *text == "%FF" {
                    names.extend([*text, "{}", "UTF-8", "no function", "cannot be a function's name", "`module`"]);
                }
                assert_told(&format!("{} {path}", route.method), &answer, &names);
                *refused.entry(format!("{} {} {name}", route.method, route.path)).or_default() += 1;
            }
        }
    }
    assert!(refused.len() >= 28, "only {} parts of paths were found", refused.len());
    site.stop().await;
}

/// A body of the right kind.
fn body_for(path: &str) -> Value {
    match path {
        "/upgrades" => json!({
            "package": "b3:0000000000000000000000000000000000000000000000000000000000000000",
            "platform": "deb_amd64",
            "version": "9.9.9",
        }),
        "/agents/{agent}/intake" => json!({ "intake": "open" }),
        "/functions/{name}/publications" => json!({ "module": format!("b3:{}", "0".repeat(64)) }),
        "/profiles" => json!({ "role": "viewer", "servers": ["https://north:7411"] }),
        "/functions/{name}/labels/{label}" => json!({ "number": 1 }),
        "/tokens" => json!({ "role": "viewer" }),
        "/jobs" => json!({ "function": "noop", "inputs": { "range": { "first": 0, "count": 1 } } }),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_is_told_by_its_name_where_it_is_wrong() {
    let site = Site::start().await;
    site.publish().await;
    site.admin.submit(&serde_json::from_value(body_for("/jobs")).expect("a submission")).await.expect("submitted");
    let asker = Asker { http: reqwest::Client::new(), base: site.admin.base().to_owned(), token: site.admin_token.clone() };
    // A name by which something is looked for is any text.
    let free = BTreeSet::from(["submitter", "name"]);
    let mut found = BTreeSet::new();
    for route in ROUTES {
        let (path, _) = filled(route.path);
        let (_, said) = asker.ask(route.method, &format!("{path}?{UNKNOWN}=1"), None).await;
        for name in listed(&said, "parameter") {
            let mut refused = 0;
            for text in TEXTS.iter().filter(|text| **text != "%FF") {
                let answer = asker.ask(route.method, &format!("{path}?{name}={text}"), None).await;
                // What is not there is told first.
                if answer.0 < 400 || answer.0 == 404 || answer.0 == 409 {
                    continue;
                }
                assert_told(&format!("{} {path}?{name}={text}", route.method), &answer, &[&format!("`{name}`")]);
                refused += 1;
            }
            assert!(free.contains(name.as_str()) || refused >= 4, "{} {path}?{name} takes everything", route.method);
            let (_, twice) = asker.ask(route.method, &format!("{path}?{name}=1&{name}=1"), None).await;
            assert!(twice.contains(&format!("`{name}`")), "{path}: {twice}");
            found.insert(format!("{} {} {name}", route.method, route.path));
        }
    }
    assert!(found.len() >= 22, "only {found:?} were found");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_body_is_told_by_its_name_where_it_is_wrong() {
    let site = Site::start().await;
    site.publish().await;
    let asker = Asker { http: reqwest::Client::new(), base: site.admin.base().to_owned(), token: site.admin_token.clone() };
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for route in ROUTES.iter().filter(|route| ["post", "put"].contains(&route.method) && route.path != "/blobs") {
        let (path, _) = filled(route.path);
        let (_, said) = asker.ask(route.method, &path, Some(json!({ UNKNOWN: 1 }).to_string())).await;
        let fields = listed(&said, "field");
        for field in &fields {
            let mut refused = 0;
            for value in values() {
                let mut body = body_for(route.path);
                body[field] = value.clone();
                let answer = asker.ask(route.method, &path, Some(body.to_string())).await;
                // What leaves the field out is understood, and may not suit how things stand.
                if answer.0 < 400 || answer.0 == 404 || answer.0 == 409 {
                    continue;
                }
                assert_told(&format!("{} {path} {field}: {value}", route.method), &answer, &[field.as_str()]);
                refused += 1;
            }
            found.insert(format!("{} {} {field}", route.method, route.path), refused);
        }
        if fields.is_empty() {
            continue;
        }
        for whole in ["[]", "5", "\"x\"", "null", "true"] {
            let answer = asker.ask(route.method, &path, Some(whole.to_owned())).await;
            assert_told(&format!("{} {path} {whole}", route.method), &answer, &["is not an object"]);
        }
        // Of a retry nothing need be said.
        let may_be_empty = route.path == "/jobs/{job}/retry";
        for broken in ["{", "", "{\"a\" 1}", "{} {}", "nul"].into_iter().filter(|broken| !(may_be_empty && broken.is_empty())) {
            let (status, said) = asker.ask(route.method, &path, Some(broken.to_owned())).await;
            assert!(status == 400 && said.starts_with("the body is "), "{path} {broken}: {said}");
            assert!(!said.contains("EOF") && !said.contains("expected"), "{path} {broken}: {said}");
        }
    }
    assert!(found.len() >= 40 && found.values().all(|refused| *refused >= 4), "{found:#?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_route_does_not_take_is_refused_by_every_route() {
    let site = Site::start().await;
    let asker = Asker { http: reqwest::Client::new(), base: site.admin.base().to_owned(), token: site.admin_token.clone() };
    let told = |about: String, (status, said): (u16, String), message: &str, advice: &[&str]| {
        assert!(status == 400 && said.starts_with(message), "{about}: {status} {said}");
        assert!(advice.iter().any(|advice| said.contains(advice)), "{about}: {said}");
    };
    for route in ROUTES {
        let (path, _) = filled(route.path);
        let answer = asker.ask(route.method, &format!("{path}?limi=5"), None).await;
        let advice = ["the parameters are ", "no parameter is taken here"];
        told(format!("{} {path}?limi=5", route.method), answer, "there is no parameter `limi`\nhint: ", &advice);
        // There the body is the bytes themselves.
        if route.path == "/blobs" {
            continue;
        }
        let answer = asker.ask(route.method, &path, Some(json!({ UNKNOWN: 1 }).to_string())).await;
        let advice = ["the fields are ", "no field is taken here", "no body is taken here"];
        told(format!("{} {path} with a field", route.method), answer, "there is no field `zzz`\nhint: ", &advice);
        let answer = asker.ask(route.method, &path, Some("now".to_owned())).await;
        told(format!("{} {path} with a word", route.method), answer, "", &["no body is taken here", "the body is not JSON"]);
    }
    let (_, said) = asker.ask("get", "/jobs?limi=5", None).await;
    assert!(said.contains("did you mean `limit`? the parameters are mine, state"), "{said}");
    let (_, said) = asker.ask("post", "/jobs/j1/retry?finish_by=2027-03-01T06:00:00Z", None).await;
    assert!(said.contains("no parameter is taken here: write it as a field of the body, in JSON"), "{said}");
    let (_, said) = asker.ask("post", "/jobs/j1/retry", Some(r#"{"finish_bye":"2027-03-01T06:00:00Z"}"#.into())).await;
    assert!(said.contains("did you mean `finish_by`?"), "{said}");
    let (_, said) = asker.ask("delete", "/functions/noop", Some(r#"{"version":1}"#.into())).await;
    assert!(said.contains("write parameters behind the `?` of the address"), "{said}");
    let health = asker.http.get(format!("{}/health?limi=5", asker.base)).send().await.expect("an answer");
    assert_eq!(health.status().as_u16(), 400);
    site.stop().await;
}

/// Settings within the policy are fields of their own.
#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_the_policy_is_told_by_its_place_where_it_is_wrong() {
    let site = Site::start().await;
    let asker = Asker { http: reqwest::Client::new(), base: site.admin.base().to_owned(), token: site.admin_token.clone() };
    let (_, said) = asker.ask("put", "/policy", Some(json!({ "set": { UNKNOWN: 1 } }).to_string())).await;
    let settings = listed(&said, "field");
    assert!(settings.len() >= 17, "{said}");
    for setting in settings {
        let mut refused = 0;
        for value in values() {
            let answer = asker.ask("put", "/policy", Some(json!({ "set": { setting.clone(): value } }).to_string())).await;
            match answer.0 {
                400.. => {
                    assert_told(&setting, &answer, &[&format!("`set.{setting}`"), &setting]);
                    refused += 1;
                }
                // Some settings bound each other.
                _ => drop(asker.ask("put", "/policy", Some(json!({ "reset": [setting] }).to_string())).await),
            }
        }
        assert!(refused >= 12, "{setting} takes everything");
    }
    site.stop().await;
}
