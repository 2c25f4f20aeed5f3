//! Names that stand in the sources of the installers and in the code are the same.

use std::{collections::BTreeSet, fs, path::Path};

use lull_agent::{machine_policy, service};
use lull_coordinator::service::COORDINATOR;
use lull_shared::policy::Policy;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../windows").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts of elements of this name, with their attributes.
fn elements<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!("<{name} ");
    source.match_indices(&begin).map(|(at, _)| source[at..].split('>').next().expect("some text")).collect()
}

fn attribute(element: &str, name: &str) -> Option<String> {
    let value = element.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
    Some(value.replace("&quot;", "\"").replace("&amp;", "&"))
}

#[test]
fn the_service_is_called_in_the_source_as_in_the_code() {
    let source = read("lull-agent.wxs");
    let [installed] = elements(&source, "ServiceInstall")[..] else { panic!("one service") };
    let says = |name: &str| attribute(installed, name).unwrap_or_default();
    let agent = &service::AGENT;
    assert_eq!((says("Name").as_str(), says("DisplayName").as_str()), (agent.name, agent.shown));
    assert_eq!((says("Description").as_str(), says("Account")), (agent.about, format!(r"NT SERVICE\{}", agent.name)));
    assert_eq!((says("Arguments").as_str(), says("Start").as_str()), ("--data \"[DATA]\" service run", "auto"));
    let [controlled] = elements(&source, "ServiceControl")[..] else { panic!("one service") };
    assert_eq!(attribute(controlled, "Name").as_deref(), Some(service::NAME));
}

#[test]
fn the_coordinators_service_is_called_in_its_source_as_in_the_code() {
    let source = read("lull.wxs");
    let [controlled] = elements(&source, "ServiceControl")[..] else { panic!("one service") };
    assert_eq!(attribute(controlled, "Name").as_deref(), Some(COORDINATOR.name));
    let actions: Vec<String> =
        elements(&source, "CustomAction").iter().filter_map(|element| attribute(element, "ExeCommand")).collect();
    assert_eq!(actions.len(), 3);
    for action in &actions {
        let words = action.replace("[DATA]", "data").split(' ').map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>();
        let arguments: Vec<_> = ["lull".to_owned()].into_iter().chain(words).map(Into::into).collect();
        lull_coordinator::cli::check(arguments).unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

#[test]
fn every_command_that_an_installer_gives_is_one_that_the_agent_has() {
    let source = read("lull-agent.wxs");
    let actions: Vec<String> =
        elements(&source, "CustomAction").iter().filter_map(|element| attribute(element, "ExeCommand")).collect();
    assert_eq!(actions.len(), 7);
    for action in &actions {
        let given = action.replace("[DATA]", "data").replace("[JOIN_TOKEN]", "").replace("[JOIN_TOKEN_FILE]", "");
        let words =
            given.replace("[COORDINATOR]", "").split(' ').map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>();
        let arguments = ["lull-agent".to_owned()].into_iter().chain(words).map(Into::into);
        lull_agent::cli::check(arguments).unwrap_or_else(|error| panic!("{action}: {error}"));
    }
}

#[test]
fn the_trays_program_is_called_as_the_service_starts_it() {
    assert!(elements(&read("lull-agent.wxs"), "File").iter().any(|file| file.contains("Name=\"lull-tray.exe\"")));
}

#[test]
fn the_template_and_the_agent_know_the_same_values() {
    let template = read("policy/Lull.admx");
    let policies = elements(&template, "policy");
    let parts = ["decimal", "text", "boolean", "enum", "multiText"].iter().flat_map(|kind| elements(&template, kind));
    let named = |element: &&str| attribute(element, "valueName");
    let key = |element: &str| attribute(element, "key");
    assert!(policies.len() > 20);
    let mut mandatory = BTreeSet::new();
    let mut recommended = BTreeSet::new();
    for (at, policy) in template.match_indices("<policy ").map(|(at, _)| at).zip(&policies) {
        let end = template[at..].find("</policy>").map_or(template.len(), |end| at + end);
        let inside = &template[at..end];
        let inner = ["decimal", "text", "boolean", "enum", "multiText"].iter().flat_map(|kind| elements(inside, kind));
        let values: Vec<String> = named(policy).into_iter().chain(inner.filter_map(|part| named(&part))).collect();
        assert_eq!(values.len(), 1, "{policy}");
        match key(policy).as_deref() {
            Some(machine_policy::KEY) => mandatory.extend(values),
            Some(machine_policy::RECOMMENDED_KEY) => recommended.extend(values),
            other => panic!("{other:?} is a key that nothing reads"),
        }
    }
    let settings: BTreeSet<String> =
        Policy::default().settings().iter().map(|setting| machine_policy::value_name(setting.key)).collect();
    let all = settings.iter().cloned().chain(machine_policy::NAMES.map(str::to_owned)).collect();
    assert_eq!((mandatory, recommended), (all, settings));
    assert!(parts.count() > 0);
}

#[test]
fn every_text_of_the_template_is_in_its_language_file_and_none_is_left_over() {
    let (template, language) = (read("policy/Lull.admx"), read("policy/en-US/Lull.adml"));
    let of = |text: &str, begin: &str, end: char| -> BTreeSet<String> {
        text.split(begin).skip(1).filter_map(|rest| rest.split(end).next().map(str::to_owned)).collect()
    };
    assert_eq!(of(&template, "$(string.", ')'), of(&language, "<string id=\"", '"'));
    assert_eq!(of(&template, "$(presentation.", ')'), of(&language, "<presentation id=\"", '"'));
}
