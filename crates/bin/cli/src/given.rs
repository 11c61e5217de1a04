//! What a process is given: arguments and environment. Both may be any bytes; ours are text, or an error that
//! names them.

use aequa_node::config::ENV_PREFIX;
use aequa_node::exit::ExitError;
use std::ffi::OsString;

/// The arguments after the program's name.
pub fn arguments() -> Result<Vec<String>, ExitError> {
    readable_arguments(std::env::args_os().skip(1))
}

/// The environment, as far as it is meant for us. What a stranger's variable holds is none of our business.
pub fn environment() -> Result<Vec<(String, String)>, ExitError> {
    readable_environment(std::env::vars_os())
}

fn readable_arguments(args: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, ExitError> {
    let readable = |(place, arg): (usize, OsString)| {
        arg.into_string().map_err(|arg| ExitError::usage(format!("argument {place} is not UTF-8: {arg:?}")))
    };
    (1..).zip(args).map(readable).collect()
}

fn readable_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ExitError> {
    let ours = |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
    let readable = |(name, value): (OsString, OsString)| match (name.to_str(), value.to_str()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ExitError::usage(format!("environment variable {name:?} is not UTF-8"))),
    };
    variables.into_iter().filter(ours).map(readable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn odd() -> OsString {
        OsString::from_vec(vec![b'x', 0xa3])
    }

    #[test]
    fn an_argument_that_is_not_utf_8_is_usage_and_named() {
        let error = readable_arguments(["run".into(), odd()]).unwrap_err();
        assert!(error.code == 2 && error.message.contains("argument 2 is not UTF-8"), "{error}");
        assert_eq!(readable_arguments(["run".into()]).unwrap(), ["run"]);
    }

    #[test]
    fn variables_of_ours_must_be_utf_8_and_those_of_others_may_be_anything() {
        let ours = ("AEQUA_LOG_LEVEL".into(), "debug".into());
        let found = readable_environment([ours, ("X".into(), odd()), (odd(), "y".into())]).unwrap();
        assert_eq!(found, [("AEQUA_LOG_LEVEL".to_owned(), "debug".to_owned())]);
        let name = OsString::from_vec([ENV_PREFIX.as_bytes(), b"\xff"].concat());
        for bad in [("AEQUA_DATA_DIR".into(), odd()), (name, "y".into())] {
            let error = readable_environment([bad]).unwrap_err();
            assert!(error.code == 2 && error.message.contains("AEQUA_"), "{error}");
        }
    }
}
