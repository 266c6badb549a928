//! The settings in force, and where each comes from: as data, and in the form of a settings file.

use std::fmt::Write as _;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use vaylix_controlplane::{Setting, SettingSource};

use crate::settings_file::{NOT_IN_A_FILE, SettingsFile};

/// Options whose values are nobody's business.
const SECRET: [&str; 2] = ["password", "replication-password"];

/// What stands for the value of a secret.
const HIDDEN: &str = "(hidden)";

/// A setting in force.
pub(crate) struct Shown {
    long: String,
    heading: String,
    help: String,
    source: SettingSource,
    /// The variable or the file it comes from.
    origin: String,
    value: Value,
}

/// What is shown of a value.
enum Value {
    Unset,
    /// It is set, and that is all anybody is told.
    Secret,
    Flag(bool),
    One(Text),
    Many(Vec<Text>),
}

/// A value as it was given, and in TOML.
struct Text {
    raw: String,
    quoted: String,
}

/// Every option of `command` with its value, in the order of the help.
pub(crate) fn settings(command: &Command, matches: &ArgMatches, file: &SettingsFile) -> Vec<Shown> {
    let options = command.get_arguments().filter(|option| !option.is_hide_set());
    let in_files = options.filter_map(|option| {
        let long = option.get_long().filter(|long| !NOT_IN_A_FILE.contains(long))?;
        Some((option, long))
    });
    in_files.map(|(option, long)| shown(option, long, matches, file)).collect()
}

fn shown(option: &Arg, long: &str, matches: &ArgMatches, file: &SettingsFile) -> Shown {
    let id = option.get_id().as_str();
    let (source, origin) = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => (SettingSource::Flag, String::new()),
        Some(ValueSource::EnvVariable) => {
            let name = option.get_env().map_or_else(String::new, |name| name.display().to_string());
            (SettingSource::Environment, name)
        }
        _ if file.sets(long) => (SettingSource::File, file.path().display().to_string()),
        _ => (SettingSource::Default, String::new()),
    };
    let texts = matches.get_raw(id).into_iter().flatten().map(|raw| {
        let raw = raw.to_string_lossy().into_owned();
        Text { quoted: quoted(option, &raw), raw }
    });
    let mut texts: Vec<Text> = texts.collect();
    let value = if SECRET.contains(&long) {
        if source == SettingSource::Default { Value::Unset } else { Value::Secret }
    } else if matches!(option.get_action(), ArgAction::SetTrue) {
        Value::Flag(matches.get_flag(id))
    } else if texts.is_empty() {
        Value::Unset
    } else if matches!(option.get_action(), ArgAction::Append) {
        Value::Many(texts)
    } else {
        Value::One(texts.swap_remove(0))
    };
    let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    Shown {
        long: long.to_owned(),
        heading: option.get_help_heading().unwrap_or_default().to_owned(),
        help: text(option.get_long_help().or(option.get_help())),
        source,
        origin,
        value,
    }
}

/// The settings under the headings of the help. Such a text is a settings file itself.
pub(crate) fn as_file(settings: &[Shown]) -> String {
    let mut out =
        String::from("# The settings in force. This is a settings file itself: vaylix --config FILE\n");
    let mut heading = None;
    for setting in settings {
        if heading != Some(&setting.heading) {
            heading = Some(&setting.heading);
            _ = writeln!(out, "\n# {}", setting.heading);
        }
        let long = &setting.long;
        let origin = match setting.source {
            SettingSource::Flag => "the command line",
            SettingSource::Default => "default",
            SettingSource::Environment | SettingSource::File => &setting.origin,
        };
        let _ = match &setting.value {
            Value::Secret => writeln!(out, "# {long} is set by {origin}, and not shown"),
            Value::Unset => writeln!(out, "# {long} is not set"),
            Value::Flag(is_set) => writeln!(out, "{long} = {is_set} # {origin}"),
            Value::Many(texts) => {
                let texts: Vec<&str> = texts.iter().map(|text| &*text.quoted).collect();
                writeln!(out, "{long} = [{}] # {origin}", texts.join(", "))
            }
            Value::One(text) => writeln!(out, "{long} = {} # {origin}", text.quoted),
        };
    }
    out
}

/// The settings for those who ask the server for them.
pub(crate) fn as_told(settings: &[Shown]) -> Vec<Setting> {
    let told = |setting: &Shown| Setting {
        name: format!("--{}", setting.long),
        value: match &setting.value {
            Value::Unset => String::new(),
            Value::Secret => HIDDEN.to_owned(),
            Value::Flag(is_set) => is_set.to_string(),
            Value::One(text) => text.raw.clone(),
            Value::Many(texts) => texts.iter().map(|text| &*text.raw).collect::<Vec<_>>().join(","),
        },
        source: setting.source,
        origin: setting.origin.clone(),
        description: setting.help.clone(),
        group: setting.heading.clone(),
    };
    settings.iter().map(told).collect()
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
