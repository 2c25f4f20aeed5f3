/// The pictures, by the names of their files.
const STATES: [&str; 6] = ["idle", "working", "paused", "snoozed", "offline", "attention"];
/// The pictures' ink: on light task bars, on dark ones, and where nobody says which it is. The last stands off from white and
/// from black alike, by four to one.
const INKS: [&str; 3] = ["#1d2127", "#ffffff", "#717f95"];
/// In points on each side: what task bars ask for from 100 to 400 percent.
const SIZES: [u32; 7] = [16, 20, 24, 32, 40, 48, 64];
