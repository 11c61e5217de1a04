//! Flags that several commands have: settings of a node, and what a value may be.

use crate::given;
use aequa_crypto::lock::VerifiedLock;
use aequa_node::config::keys::{self, Key, Kind, Scope};
use aequa_node::config::{RunConfig, Settings, SharedParams, Source};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_node::keys::load_lock;
use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use std::path::{Path, PathBuf};

/// Chain ids that every JSON reader keeps exact.
pub const CHAIN_IDS: std::ops::Range<u64> = 1..1 << 53;

/// Text of at least one character.
pub fn text() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// A path of at least one character.
pub fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser as _;
    NonEmptyStringValueParser::new().map(PathBuf::from)
}

/// The lock that the node of a folder uses, unless the flag of this name says another.
pub fn lock_of_node(data_dir: &Path, given: Option<&Path>, flag: &str) -> Result<VerifiedLock, ExitError> {
    let mut settings = Settings::default();
    let mut set =
        |key, path: &Path| settings.set(key, vec![path.to_string_lossy().into_owned()], Source::Flag);
    set(&keys::DATA_DIR, data_dir)?;
    if let Some(path) = given {
        set(&keys::CLUSTER_LOCK, path)?;
    }
    let path = RunConfig::resolve(settings, given::environment()?)?.cluster_lock;
    if !path.exists() {
        return Err(ExitError::unchecked(format!("there is no lock at {}", path.display()))
            .hint(format!("--data-dir is the folder of one operator; name the lock with {flag}")));
    }
    load_lock(&path)
}

/// The table of settings as flags: all of them with `NODE`, else those that all operators share.
#[derive(Debug, Clone)]
pub struct SettingFlags<const NODE: bool> {
    /// What was given.
    pub given: Settings,
}

impl<const NODE: bool> SettingFlags<NODE> {
    fn keys() -> impl Iterator<Item = &'static Key> {
        keys::ALL.iter().filter(|key| NODE || key.scope == Scope::Shared)
    }
}

impl SettingFlags<false> {
    /// The parameters a new cluster is asked to have: flags, then `AEQUA_*` variables. What is not part of this
    /// version is refused, what matches nothing is said.
    pub fn params(&self) -> Result<SharedParams, ExitError> {
        let mut settings = self.given.clone();
        for name in settings.add_env(given::environment()?)? {
            console::complain(format!(
                "warning: environment variable {name} matches no setting and has no effect"
            ));
        }
        settings.refuse_later()?;
        Ok(SharedParams::from_settings(&settings))
    }
}

impl<const NODE: bool> Args for SettingFlags<NODE> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::keys().map(flag_of))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const NODE: bool> FromArgMatches for SettingFlags<NODE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Settings::default();
        for key in Self::keys() {
            if let Some(values) = matches.get_many::<String>(key.name) {
                given
                    .set(key, values.cloned().collect(), Source::Flag)
                    .map_err(|error| Error::raw(clap::error::ErrorKind::ValueValidation, error.message))?;
            }
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag_of(key: &'static Key) -> Arg {
    let mut help = key.help.to_owned();
    if !key.default.is_empty() {
        help.push_str(&format!(" [default: {}]", key.default));
    }
    let arg = Arg::new(key.name).long(key.name).help(help).hide(key.scope == Scope::Later);
    let arg = match key.scope {
        Scope::Shared => arg.help_heading("Shared by all operators (from the cluster lock)"),
        Scope::Local | Scope::Later => arg,
    };
    match key.kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false")
            .value_parser(["true", "false"]),
        Kind::Choice(words) => arg.value_name("WORD").value_parser(words.to_vec()),
        Kind::Number(min, _) => {
            arg.value_name("N").allow_negative_numbers(min < 0).value_parser(move |value: &str| {
                aequa_node::config::check_value(key, value).map(|()| value.to_owned())
            })
        }
        Kind::Text => arg.value_name("TEXT").value_parser(text()),
        Kind::List => {
            arg.value_name("TEXT").value_parser(text()).value_delimiter(',').action(ArgAction::Append)
        }
    }
}
