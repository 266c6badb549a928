//! The command line of `vaylix-client`.
//!
//! Options that can also come from a URL or the environment are `Option`s here: [`settings`](crate::settings)
//! must know whether they were given, so the defaults live there.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgGroup, Parser, ValueEnum};

/// The client of Vaylix: an interactive prompt, a reader of scripts, or one command.
#[derive(Debug, Default, Parser)]
#[command(
    name = "vaylix-client",
    version,
    group = ArgGroup::new("password_source"),
    override_usage = "vaylix-client [OPTIONS] [-- COMMAND [ARGUMENT]...]",
    after_help = "Options win over the URL, the URL over the environment, the environment over the defaults.\n\
                  Exit status: 0 done, 1 connection or configuration failed (or, with --exit-on-error and \
                  with a COMMAND, something was refused), 2 wrong options."
)]
pub(crate) struct Flags {
    /// Connection string: vaylix://user:password@host:port?ssl=true&output=json&...; several servers of one cluster as
    /// vaylix://a:9173,b:9173,c:9173, of which the client finds the right one [env: VAYLIX_URL]
    #[arg(long)]
    pub url: Option<String>,
    /// Server address [default: 127.0.0.1] [env: VAYLIX_HOST]
    #[arg(long)]
    pub host: Option<String>,
    /// Server port [default: 9173] [env: VAYLIX_PORT]
    #[arg(long)]
    pub port: Option<u16>,
    /// Use TLS; bare --ssl means true [default: false] [env: VAYLIX_SSL]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    pub ssl: Option<bool>,
    /// PEM bundle of certificate authorities to trust instead of the system's [env: VAYLIX_TLS_CA_CERT]
    #[arg(long, value_name = "FILE")]
    pub tls_ca_cert: Option<PathBuf>,
    /// PEM client certificate; needs --tls-client-key [env: VAYLIX_TLS_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    pub tls_client_cert: Option<PathBuf>,
    /// PEM key of the client certificate [env: VAYLIX_TLS_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    pub tls_client_key: Option<PathBuf>,
    /// User to log in as [default: vaylix] [env: VAYLIX_USER]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Password; other users of this machine can see it here, prefer the next two [env: VAYLIX_PASSWORD]
    #[arg(long, group = "password_source", value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, group = "password_source")]
    pub password_stdin: bool,
    /// Ask for the password at the terminal
    #[arg(long, group = "password_source")]
    pub ask_password: bool,
    /// Do not log in after connecting
    #[arg(long)]
    pub disable_auth: bool,
    /// Ask for no compression
    #[arg(long)]
    pub disable_compression: bool,
    /// What reads that a follower answers may miss. local: what it has not heard of yet. linearizable: nothing that was
    /// acknowledged before; refused by servers that cannot promise it. A leader's answers are always linearizable
    /// [default: local] [env: VAYLIX_CONSISTENCY]
    #[arg(long, value_enum)]
    pub consistency: Option<Consistency>,
    /// How lists of named values are shown [default: plain] [env: VAYLIX_OUTPUT]
    #[arg(long, value_enum)]
    pub output: Option<Output>,
    /// Print every reply as one JSON document on one line; log lines go to standard error
    #[arg(long)]
    pub json_replies: bool,
    /// End with status 1 after the first command that fails
    #[arg(long)]
    pub exit_on_error: bool,
    /// One command to execute, one argument per word: -- set city paris
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What reads that a follower answers may miss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consistency {
    #[default]
    Local,
    Linearizable,
}

/// The same error; where a command stands without the `--` before it, with that hint.
pub(crate) fn hinted(mut error: clap::Error, arguments: impl Iterator<Item = String>) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word))
            if error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-') =>
        {
            word.clone()
        }
        _ => return error,
    };
    let command: Vec<String> = arguments.skip(1).skip_while(|argument| *argument != word).collect();
    let hint = format!("a command goes behind --: vaylix-client [OPTIONS] -- {}", command.join(" "));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    error
}

/// How lists of named values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Plain,
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, ErrorKind> {
        Flags::try_parse_from([&["vaylix-client"], arguments].concat()).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn ssl_takes_an_optional_value() {
        assert_eq!(parse(&[]).unwrap().ssl, None);
        assert_eq!(parse(&["--ssl"]).unwrap().ssl, Some(true));
        assert_eq!(parse(&["--ssl", "false"]).unwrap().ssl, Some(false));
        assert_eq!(parse(&["--ssl=true", "--", "ping"]).unwrap().ssl, Some(true));
        assert_eq!(parse(&["--ssl", "yes"]).unwrap_err(), ErrorKind::InvalidValue);
    }

    #[test]
    fn a_command_follows_two_dashes_verbatim() {
        assert_eq!(parse(&["--", "set", "k", "--port"]).unwrap().command, ["set", "k", "--port"]);
        assert_eq!(parse(&["ping"]).unwrap_err(), ErrorKind::UnknownArgument);
    }

    #[test]
    fn a_command_without_the_two_dashes_is_told_of_them() {
        let words = ["vaylix-client", "--port", "1", "get", "x"];
        let told = |words: &[&str]| {
            let error = Flags::try_parse_from(words).unwrap_err();
            hinted(error, words.iter().map(|word| (*word).to_owned())).to_string()
        };
        assert!(told(&words).contains("tip: a command goes behind --: vaylix-client [OPTIONS] -- get x"));
        assert!(!told(&["vaylix-client", "--no-such-option"]).contains("behind --"));
    }

    #[test]
    fn only_one_source_of_the_password() {
        assert!(parse(&["--password-stdin"]).unwrap().password_stdin);
        for other in ["--password-stdin", "--ask-password"] {
            assert_eq!(parse(&["--password", "x", other]).unwrap_err(), ErrorKind::ArgumentConflict);
        }
    }

    #[test]
    fn an_unknown_output_is_explained() {
        let error = Flags::try_parse_from(["vaylix-client", "--output", "xml"]).unwrap_err();
        assert_eq!(
            error.render().to_string(),
            "error: invalid value 'xml' for '--output <OUTPUT>'\n  [possible values: plain, table, json]\n\n\
             For more information, try '--help'.\n"
        );
    }
}
