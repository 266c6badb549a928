//! The settings in force, and where each comes from, in the form of a settings file.

use std::fmt::Write as _;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::settings_file::{NOT_IN_A_FILE, SettingsFile};

/// Options whose values are nobody's business.
const SECRET: [&str; 2] = ["password", "replication-password"];

/// Every option of `command` with its value, under the headings of the help. Such a text is a settings file itself.
pub(crate) fn settings(command: &Command, matches: &ArgMatches, file: &SettingsFile) -> String {
    let mut out =
        String::from("# The settings in force. This is a settings file itself: vaylix --config FILE\n");
    let mut heading = None;
    for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
        let Some(long) = option.get_long().filter(|long| !NOT_IN_A_FILE.contains(long)) else { continue };
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            _ = writeln!(out, "\n# {}", heading.unwrap_or_default());
        }
        let id = option.get_id().as_str();
        let origin = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "the command line".to_owned(),
            Some(ValueSource::EnvVariable) => {
                option.get_env().map_or_else(String::new, |name| name.display().to_string())
            }
            _ if file.sets(long) => file.path().display().to_string(),
            _ => "default".to_owned(),
        };
        let values: Vec<String> = matches
            .get_raw(id)
            .into_iter()
            .flatten()
            .map(|raw| quoted(option, &raw.to_string_lossy()))
            .collect();
        let is_flag = matches!(option.get_action(), ArgAction::SetTrue);
        let _ = match values.as_slice() {
            _ if SECRET.contains(&long) && origin != "default" => {
                writeln!(out, "# {long} is set by {origin}, and not shown")
            }
            _ if SECRET.contains(&long) => writeln!(out, "# {long} is not set"),
            _ if is_flag => writeln!(out, "{long} = {} # {origin}", matches.get_flag(id)),
            [] => writeln!(out, "# {long} is not set"),
            _ if matches!(option.get_action(), ArgAction::Append) => {
                writeln!(out, "{long} = [{}] # {origin}", values.join(", "))
            }
            [value, ..] => writeln!(out, "{long} = {value} # {origin}"),
        };
    }
    out
}

/// A value as TOML: numbers and truth values as such, everything else as a text.
fn quoted(option: &Arg, value: &str) -> String {
    let words: Vec<PossibleValue> = option.get_possible_values();
    let is_text = !words.is_empty() && words.iter().all(|word| !word.matches("true", true));
    let is_plain =
        !is_text && (value.parse::<u64>().is_ok() && is_number(option) || ["true", "false"].contains(&value));
    if is_plain { value.to_owned() } else { toml::Value::from(value).to_string() }
}

/// Whether values of this option are numbers: a text that looks like one stays a text.
fn is_number(option: &Arg) -> bool {
    let kind = option.get_value_parser().type_id();
    let is = |numbers: &[std::any::TypeId]| numbers.iter().any(|number| kind == *number);
    is(&[
        std::any::TypeId::of::<u16>(),
        std::any::TypeId::of::<u32>(),
        std::any::TypeId::of::<u64>(),
        std::any::TypeId::of::<usize>(),
    ])
}
