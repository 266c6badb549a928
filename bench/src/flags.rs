//! The command line of `vaylix-bench`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// Load generator for Vaylix.
#[derive(Debug, Parser)]
#[command(name = "vaylix-bench", version)]
pub(crate) struct Flags {
    /// Server address
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Server port
    #[arg(long, default_value_t = 9173)]
    pub port: u16,
    /// User to log in as
    #[arg(long, env = "VAYLIX_USER", default_value = "vaylix")]
    pub user: String,
    /// Password of the user; prefer the environment, other users of this machine can see it here
    #[arg(long, env = "VAYLIX_PASSWORD", default_value = "vaylix", hide_env_values = true)]
    pub password: String,
    /// Do not log in
    #[arg(long)]
    pub disable_auth: bool,
    /// Use TLS
    #[arg(long)]
    pub ssl: bool,
    /// PEM bundle of certificate authorities to trust instead of the system's
    #[arg(long, value_name = "FILE", requires = "ssl")]
    pub tls_ca_cert: Option<PathBuf>,

    /// What to ask for
    #[arg(long, value_enum, default_value = "set")]
    pub workload: Workload,
    /// Proportion of writes to reads in the mixed workload
    #[arg(long, value_name = "SET:GET", default_value = "1:9")]
    pub mix: Mix,
    /// Number of connections
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests sent at once on each connection; the next ones follow when all are answered
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub depth: u32,
    /// Bytes per value
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=4_194_304))]
    pub value_size: u32,
    /// Number of different keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub keys: u64,
    /// Requests to measure [default: 100000 unless --duration is given]
    #[arg(long, conflicts_with = "duration")]
    pub requests: Option<u64>,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
    /// Seconds of the same load before the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub warmup: u64,
    /// Before everything else, write keys 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preload: u64,
    /// Operating system threads that share the connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Start of the random choice of keys; the same seed gives the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// SET of random keys
    Set,
    /// GET of random keys
    Get,
    /// SET and GET of random keys, see --mix
    Mixed,
    /// INCR of random keys
    Incr,
}

/// Shares of writes and reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    pub set: u32,
    pub get: u32,
}

impl FromStr for Mix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected two numbers, for example 1:9";
        let (set, get) = text.split_once(':').ok_or(wrong)?;
        let (set, get) = (set.parse().map_err(|_| wrong)?, get.parse().map_err(|_| wrong)?);
        if set == 0 && get == 0 {
            return Err("one of the two numbers must not be 0");
        }
        Ok(Self { set, get })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn refused(arguments: &[&str]) -> ErrorKind {
        Flags::try_parse_from([&["vaylix-bench"], arguments].concat()).unwrap_err().kind()
    }

    #[test]
    fn the_definition_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn a_mix_is_two_numbers() {
        assert_eq!("1:9".parse(), Ok(Mix { set: 1, get: 9 }));
        for text in ["", "1", "1:", "a:b", "-1:2", "0:0"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn senseless_numbers_are_refused() {
        assert_eq!(refused(&["--connections", "0"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["--depth", "0"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["--keys", "0"]), ErrorKind::ValueValidation);
        assert_eq!(refused(&["--requests", "1", "--duration", "1"]), ErrorKind::ArgumentConflict);
    }
}
