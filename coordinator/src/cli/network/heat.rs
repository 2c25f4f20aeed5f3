//! The hours of a machine's week as a map: a row for each day, a shade for each hour.

/// From which share on an hour has the next shade; the first has none of it.
const STEPS: [f64; 4] = [0.05, 0.35, 0.65, 0.95];
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
/// For files, pipes and whatever else has no shades.
const SIGNS: [char; 5] = ['.', '-', '+', '*', '#'];
const UNKNOWN: char = '?';
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Instead of a map as long as there is none.
pub(crate) const NOTHING_KNOWN: &str =
    "\nwhen it is there for work is known from the first hour on that was watched from end to end\n";

/// A map of shares from 0 to 1, 24 for each day from Monday on, with what its signs mean.
pub(crate) fn map(days: &[Vec<Option<f64>>], shades: bool) -> String {
    let signs = if shades { SHADES } else { SIGNS };
    let mut text = "\nthere for work, by its own clock\n".to_owned();
    text.push_str("     0           6           12          18\n");
    for (name, hours) in DAYS.iter().zip(days) {
        let cells = hours.iter().map(|share| share.map_or(UNKNOWN, |share| signs[step(share)]));
        let row: String = cells.flat_map(|sign| [sign, sign]).collect();
        text.push_str(&format!("{name}  {row}\n"));
    }
    let bounds = ["never", "below 35 %", "below 65 %", "below 95 %", "always"];
    let legend: Vec<String> = signs.iter().zip(bounds).map(|(sign, bound)| format!("{sign} {bound}")).collect();
    // In two lines, so that it is no wider than a narrow terminal.
    let (low, high) = legend.split_at(3);
    text + &format!("     {}\n     {}  {UNKNOWN} not known yet\n", low.join("  "), high.join("  "))
}

fn step(share: f64) -> usize {
    STEPS.iter().filter(|bound| share >= **bound).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_row_for_each_day_and_a_sign_for_each_hour() {
        let mut days = vec![vec![Some(0.0); 24]; 7];
        days[1][3] = Some(1.0);
        days[1][4] = Some(0.5);
        days[6][23] = None;
        let text = map(&days, false);
        assert!(text.contains("tue  ......##++...."), "{text}");
        assert!(text.contains("..??\n") && text.contains("# always"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("mon") || line.starts_with("sun")).count(), 2);
        assert!(map(&days, true).contains("██▒▒"));
        assert!(text.is_ascii());
        for shades in [false, true] {
            assert!(map(&days, shades).lines().all(|line| line.chars().count() <= 60), "{}", map(&days, shades));
        }
    }
}
