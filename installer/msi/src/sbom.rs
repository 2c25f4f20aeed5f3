//! The parts that a program is made of, as CycloneDX: what a security reviewer asks for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The version of its form.
const FORM: &str = "1.5";

/// Parts that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SbomError(String);

/// The list of a package's parts: what `cargo metadata` knows, and the digests of the lock file.
pub fn of(metadata: &Value, lock: &str, package: &str) -> Result<Value, SbomError> {
    let wrong = |what: &str| SbomError(format!("what `cargo metadata` said has no {what}"));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().filter_map(|part| Some((part["id"].as_str()?.to_owned(), part))).collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)))
        .collect();
    let root = packages.iter().find(|(_, part)| part["name"] == package && part["source"].is_null());
    let (root, about) = root.ok_or_else(|| wrong(&format!("package {package}")))?;
    let digests = digests(lock);
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![root.clone()]);
    let mut links = Vec::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = nodes.get(&id).ok_or_else(|| wrong(&id))?;
        let needs: BTreeSet<String> = list(&node["deps"]).iter().filter(|dep| is_in_the_program(dep)).filter_map(pkg).collect();
        links.push((purl(&packages[&id]), needs.iter().map(|id| purl(&packages[id])).collect::<BTreeSet<_>>()));
        waiting.extend(needs);
    }
    links.sort();
    let mut parts: Vec<Value> = seen.iter().filter(|id| *id != root).map(|id| component(&packages[id], &digests)).collect();
    parts.sort_by_key(|part| part["purl"].as_str().map(str::to_owned));
    let links: Vec<Value> = links.into_iter().map(|(part, needs)| json!({ "ref": part, "dependsOn": needs })).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": FORM,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl(about),
                "name": about["name"],
                "version": about["version"],
                "licenses": [{ "expression": about["license"] }],
            }
        },
        "components": parts,
        "dependencies": links,
    }))
}

fn pkg(dep: &Value) -> Option<String> {
    Some(dep["pkg"].as_str()?.to_owned())
}

/// What tests and build scripts need is in no program.
fn is_in_the_program(dep: &Value) -> bool {
    dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

fn purl(part: &Value) -> String {
    let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(part: &Value, digests: &BTreeMap<(String, String), String>) -> Value {
    let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(part),
        "name": part["name"],
        "version": part["version"],
        "purl": purl(part),
    });
    if let Some(licence) = part["license"].as_str() {
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(digest) = digests.get(&(text("name"), text("version"))) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
    }
    component
}

/// By name and version: three lines that follow each other in each entry of the lock file.
fn digests(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned());
    let entry = |entry: &str| {
        let find = |key: &str| entry.lines().find_map(|line| value(line, key));
        Some(((find("name")?, find("version")?), find("checksum")?))
    };
    lock.split("[[package]]").filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_program_is_listed_with_digest_and_licence_and_what_only_builds_it_is_not() {
        let package = |name: &str, source: Value| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source });
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("ours", Value::Null), package("used", json!("registry")), package("build", json!("registry")), package("deep", json!("registry"))],
            "resolve": { "nodes": [
                { "id": "ours", "deps": [dep("used", Value::Null), dep("build", json!("build"))] },
                { "id": "used", "deps": [dep("deep", Value::Null)] },
                { "id": "build", "deps": [] },
                { "id": "deep", "deps": [] },
            ] },
        });
        let lock = "[[package]]\nname = \"used\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"abc\"\n";
        let list = of(&metadata, lock, "ours").expect("a list");
        let parts: Vec<&str> =
            list["components"].as_array().expect("parts").iter().filter_map(|part| part["purl"].as_str()).collect();
        assert_eq!(parts, ["pkg:cargo/deep@1.0.0", "pkg:cargo/used@1.0.0"]);
        assert_eq!(list["components"][1]["hashes"][0]["content"], "abc");
        assert_eq!(list["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(list["metadata"]["component"]["name"], "ours");
        assert!(of(&metadata, lock, "theirs").is_err());
    }
}
