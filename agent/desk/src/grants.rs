//! What functions may touch on this machine, in words for its owner.

use bytesize::ByteSize;
use lull_session::FunctionStatus;

/// What no function may touch, whatever it is granted.
pub const NEVER: [&str; 4] = [
    "your files and folders",
    "the network, and other machines",
    "your programs, the screen, the clipboard, keyboard and mouse",
    "cameras, microphones, printers and other devices",
];

/// What one function may touch, a sentence each.
pub fn of(function: &FunctionStatus) -> Vec<String> {
    let grants = function.grants;
    vec![
        "It reads the input of its task and writes an output, and a log of what it does.".to_owned(),
        format!(
            "It may use up to {} of memory for each of its tasks. You come first: while you work here it waits.",
            ByteSize(function.memory_bytes)
        ),
        match grants.clock {
            true => "It may read this machine's clock.",
            false => "It does not see what time it is: its clock is made up for it.",
        }
        .to_owned(),
        match grants.random {
            true => "It may use random numbers of this machine.",
            false => "Its random numbers are made up for it, the same on every machine.",
        }
        .to_owned(),
        match grants.scratch {
            true => format!(
                "It may write temporary files of up to {} into a folder of its own, which is emptied before and after.",
                ByteSize(function.scratch_bytes)
            ),
            false => "It may not write files.".to_owned(),
        },
    ]
}

/// A page about all of them, whole, for the machine's browser.
pub fn page(machine: &str, functions: &[FunctionStatus], now: &str) -> String {
    let mut page = String::new();
    let mut say = |text: String| page.push_str(&text);
    say(format!("<h1>What may functions touch on {}?</h1>\n", escaped(machine)));
    say(format!(
        "<p class=when>As of {}. This page was made on this machine, and nothing on it was sent anywhere.</p>\n",
        escaped(now)
    ));
    say("<section><h2>Never, whatever function it is</h2>\n<ul class=never>\n".to_owned());
    NEVER.iter().for_each(|never| say(format!("<li>{}</li>\n", escaped(never))));
    say("</ul>\n<p>Each function runs in a process of its own that the operating system confines. \
         It sees no name of yours, no address and no serial number of this machine.</p></section>\n"
        .to_owned());
    if functions.is_empty() {
        say("<section><h2>No function is on this machine now</h2>\n<p>When one is, this page says what it may touch.</p></section>\n"
            .to_owned());
    }
    for function in functions {
        let FunctionStatus { function: name, jobs, .. } = function;
        say(format!("<section><h2>{}</h2>\n<p class=when>for {}</p>\n<ul>\n", escaped(name), escaped(&jobs.join(", "))));
        of(function).iter().for_each(|sentence| say(format!("<li>{}</li>\n", escaped(sentence))));
        say("</ul></section>\n".to_owned());
    }
    framed("What may functions touch?", &page)
}

/// A whole page with this text on it.
pub fn framed(title: &str, text: &str) -> String {
    format!("{HEAD}<title>{}</title>\n<main>\n{text}</main>\n</html>\n", escaped(title))
}

const HEAD: &str = "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=viewport content=\"width=device-width\">\n<style>\n\
:root { color-scheme: light dark }\n\
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 }\n\
main { max-width: 44rem; margin: 2.5rem auto; padding: 0 1.25rem }\n\
h1 { font-size: 1.5rem; line-height: 1.25 } h2 { font-size: 1.1rem; margin: 0 0 .25rem }\n\
section { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: 1.1rem 0 }\n\
.when { margin: 0 0 1rem; opacity: .7 } ul { margin: .5rem 0; padding-left: 1.3rem }\n\
th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; font-weight: 600; white-space: nowrap }\n\
td { overflow-wrap: anywhere }\n\
.never li::marker { content: '\u{2715}  ' }\n\
</style>\n";

/// A text as it stands on a page.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use lull_shared::job::Grants;

    use super::*;

    fn function(name: &str, grants: Grants) -> FunctionStatus {
        FunctionStatus {
            function: name.into(),
            jobs: vec!["night".into()],
            grants,
            memory_bytes: 256 << 20,
            scratch_bytes: 1 << 20,
        }
    }

    #[test]
    fn every_grant_is_said_in_words_and_so_is_what_is_not_granted() {
        let none = of(&function("resize@3", Grants { clock: false, random: false, scratch: false })).join("\n");
        for words in ["256.0 MiB of memory", "does not see what time", "made up for it, the same", "may not write files"] {
            assert!(none.contains(words), "{words}: {none}");
        }
        let all = of(&function("resize@3", Grants { clock: true, random: true, scratch: true })).join("\n");
        for words in ["may read this machine's clock", "may use random numbers", "temporary files of up to 1.0 MiB"] {
            assert!(all.contains(words), "{words}: {all}");
        }
    }

    #[test]
    fn a_name_is_text_on_the_page_and_not_a_part_of_it() {
        let page = page("desk", &[function("<script>x</script>@1", Grants::default())], "now");
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;@1") && !page.contains("<script"), "{page}");
        assert!(page.contains("your files and folders") && page.ends_with("</html>\n"));
    }

    #[test]
    fn a_page_without_functions_says_so() {
        assert!(page("desk", &[], "now").contains("No function is on this machine now"));
    }
}
