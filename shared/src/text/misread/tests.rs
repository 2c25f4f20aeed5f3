use std::collections::BTreeMap;

use super::*;
use crate::{share::Share, zone::Zone};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct Asked {
    function: String,
    #[serde(default)]
    retries: Option<u32>,
    #[serde(default)]
    priority: i8,
    #[serde(default)]
    after: Vec<After>,
    #[serde(default)]
    zone: Option<Zone>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    form: Form,
    #[serde(default)]
    colour: Option<Colour>,
    #[serde(default)]
    share: Option<Share>,
    #[serde(default)]
    ratio: f64,
    #[serde(default)]
    moment: Option<jiff::Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct After {
    job: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Colour {
    Red,
    Green,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Plain,
    Range {
        #[expect(dead_code, reason = "only decoded")]
        count: u32,
    },
    Numbers(#[expect(dead_code, reason = "only decoded")] String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only decoded")]
enum Source {
    Range { count: u32 },
    Numbers(String),
}

/// What is said of one wrong text.
fn said(text: &str) -> String {
    toml::<Asked>(text).expect_err(text).to_string()
}

#[test]
fn the_key_is_named_and_what_it_takes() {
    let cases = [
        ("retries = 'many'", "retries: \"many\" is not a whole number\nhint: write a whole number from 0 on, without quotes"),
        ("retries = -1", "retries: `-1` is less than 0\nhint: write a whole number from 0 on"),
        (
            "retries = 5000000000",
            "retries: `5000000000` is more than 4,294,967,295\nhint: write a whole number from 0 to 4,294,967,295",
        ),
        ("retries = 1.5", "retries: `1.5` is not a whole number\nhint: write a whole number from 0 on"),
        ("retries = '-1'", "retries: \"-1\" is not a whole number"),
        ("priority = 300", "priority: `300` is more than 127\nhint: write a whole number from -128 to 127"),
        ("function = 5", "function: `5` is not a text\nhint: write a text in quotes"),
        ("prioritty = 1", "there is no setting `prioritty`\nhint: did you mean `priority`? the settings are function, retries"),
        ("after = [{ job = 'j1' }, { jop = 'j1' }]", "there is no setting `jop` in `after[1]`\nhint: did you mean `job`?"),
        ("after = [{}]", "the setting `job` is missing in `after[0]`\nhint: give `job`"),
        ("after = [5]", "after[0]: `5` is not a table\nhint: write a table with its settings"),
        ("after = 'j1'", "after: \"j1\" is not a list\nhint: write it in brackets"),
        ("zone = 'Mars/Base'", "zone: `Mars/Base` is not the name of a time zone\nhint: write one like"),
        ("zone = 5", "zone: `5` is not a text\nhint: write a text in quotes; write one like"),
        ("share = 5", "share: `5` is not a text\nhint: write a text in quotes; write a percentage"),
        ("labels = { site = 1 }", "labels.site: `1` is not a text"),
        ("labels = []", "labels: a list is not a table\nhint: write a table with its settings"),
        ("on = 'yes'", "on: \"yes\" is neither true nor false\nhint: write true or false, without quotes"),
        ("on = 1", "on: `1` is neither true nor false\nhint: write true or false"),
        ("ratio = 'x'", "ratio: \"x\" is not a number\nhint: write a number, without quotes"),
        ("colour = 'gren'", "colour: `gren` is not one of its values\nhint: did you mean `green`? write \"red\" or \"green\""),
        ("colour = 5", "colour: `5` is not one of its values\nhint: write \"red\" or \"green\""),
        ("colour = true", "colour: `true` is not one of its values\nhint: write \"red\" or \"green\""),
        ("colour = { red = 1 }", "colour: a table is not one of its values\nhint: write \"red\" or \"green\""),
        ("colour = {}", "colour: a table is not one of its values\nhint: write \"red\" or \"green\""),
        ("form = 'plan'", "form: `plan` is not one of its values\nhint: did you mean `plain`?"),
        ("form = { range = { count = 'x' } }", "form.range.count: \"x\" is not a whole number"),
        ("form = { range = 5 }", "form.range: `5` is not a table\nhint: write a table with its settings"),
        ("form = { numbers = 5 }", "form.numbers: `5` is not a text"),
        ("form = { rage = {} }", "form: `rage` is not one of its settings\nhint: did you mean `range`? write a table with one"),
        ("form = 'range'", "form: \"range\" is not a table with one setting\nhint: write a table with one setting: plain, range"),
    ];
    for (text, expected) in cases {
        let text = if text.starts_with("function") { text.to_owned() } else { format!("function = 'f'\n{text}") };
        assert!(said(&text).contains(expected), "{text}: {}", said(&text));
    }
    assert_eq!(said("retries = 1"), "the setting `function` is missing\nhint: give `function`");
}

#[test]
fn a_choice_that_always_holds_more_says_so_whatever_stands_there() {
    for (text, found) in [
        ("source = 5", "`5` is not a table with one setting"),
        ("source = 'range'", "\"range\" is not a table with one setting"),
        ("source = {}", "the table is empty"),
        ("source = { range = 1, numbers = 2 }", "the table has 2 settings, and one is meant"),
        ("source = []", "a list is not a table with one setting"),
    ] {
        let said = toml::<BTreeMap<String, Source>>(text).expect_err(text).to_string();
        let hint = "write a table with one setting: range or numbers";
        assert_eq!(said, format!("source: {found}\nhint: {hint}"), "{text}");
    }
}

#[test]
fn what_is_right_is_taken_as_it_is() {
    let text = "function = 'f'\nretries = 3\npriority = -3\nafter = [{ job = 'j1' }]\nlabels = { a = 'b' }\non = true\nratio = 1\n\
                colour = 'red'\nform = { numbers = '1-3' }\nshare = '5%'\nmoment = '2027-03-01T06:00:00Z'";
    let asked: Asked = toml(text).expect("all of it");
    assert_eq!((asked.retries, asked.priority, asked.on, asked.after.len()), (Some(3), -3, true, 1));
    assert!(matches!((asked.colour, asked.form), (Some(Colour::Red), Form::Numbers(_))));
}

#[test]
fn nothing_is_said_without_a_hint_and_none_names_a_type_of_ours() {
    for text in [
        "function = {}",
        "function = 'f'\nform = 5",
        "function = 'f'\nform = {}",
        "function = 'f'\nform = []",
        "function = 'f'\nmoment = 'soon'",
        "function = 'f'\nmoment = 5",
        "x",
        "[function]",
    ] {
        let said = said(text);
        assert!(said.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{text}: {said}");
        for ours in ["Asked", "After", "Form", "struct", "enum", "u32", "variant", "invalid type"] {
            assert!(!said.contains(ours), "{text}: {said}");
        }
    }
}

#[test]
fn parameters_and_parts_of_a_path_are_told_by_their_names_and_without_quotes() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        limit: Option<u32>,
        mine: Option<bool>,
        share: Option<Share>,
    }
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let asked: Page = query(pairs(&[("limit", "7"), ("mine", "true")])).expect("a page");
    assert_eq!(asked, Page { limit: Some(7), mine: Some(true), share: None });
    let said = |given: &[(&str, &str)]| query::<Page>(pairs(given)).expect_err("wrong").to_string();
    assert_eq!(said(&[("limit", "abc")]), "limit: `abc` is not a whole number\nhint: write a whole number from 0 on");
    assert_eq!(said(&[("limit", "")]), "limit: an empty text is not a whole number\nhint: write a whole number from 0 on");
    assert_eq!(said(&[("limit", "-1")]), "limit: `-1` is less than 0\nhint: write a whole number from 0 on");
    assert!(said(&[("limit", "99999999999999999999999")]).contains("is more than 4,294,967,295\nhint: "));
    assert_eq!(said(&[("mine", "yes")]), "mine: `yes` is neither true nor false\nhint: write true or false");
    assert_eq!(said(&[("limit", "1"), ("limit", "2")]), "the parameter `limit` is there twice\nhint: give `limit` once");
    assert!(said(&[("limt", "1")]).starts_with("there is no parameter `limt`\nhint: did you mean `limit`? the parameters are"));
    assert!(said(&[("share", "x")]).starts_with("share: `x` is not a share\nhint: write a percentage"));

    assert_eq!(path::<u32>(pairs(&[("index", "7")])), Ok(7));
    assert_eq!(path::<(String, u32)>(pairs(&[("name", "stats"), ("number", "7")])), Ok(("stats".into(), 7)));
    let wrong = path::<u32>(pairs(&[("index", "x")])).expect_err("not a number");
    assert_eq!(wrong.to_string(), "index: `x` is not a whole number\nhint: write a whole number from 0 on");
    let wrong = path::<(String, u32)>(pairs(&[("name", "stats"), ("number", "-7")])).expect_err("not a number");
    assert_eq!(wrong.to_string(), "number: `-7` is less than 0\nhint: write a whole number from 0 on");
}

#[test]
fn a_file_of_settings_is_told_by_its_line_where_it_is_none() {
    let cases = [
        ("function = \"f\"\nretries 5", "line 2: `retries 5` cannot be read as a setting\nhint: write one `key = value` a line"),
        ("slots = ", "line 1: `slots` has no value\nhint: write one behind the `=`, or remove the line"),
        ("slots = 1\nslots = 2", "line 2: `slots` is there twice\nhint: keep one of the lines"),
        (
            "function = f",
            "line 1: the value of `function`, `f`, is not in quotes\nhint: write function = \"f\"; only numbers, true and false",
        ),
        ("cache_dir = /var/cache", "line 1: the value of `cache_dir`, `/var/cache`, is not in quotes"),
        ("function = \"f", "line 1: `function = \"f` cannot be read as a setting"),
    ];
    for (text, expected) in cases {
        assert!(said(text).starts_with(expected), "{text}: {}", said(text));
    }
}
