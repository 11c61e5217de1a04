//! A panic ends the operator, and its last line says so.

use aequa_telemetry::log::LogGuard;

/// From now on a panic on any thread is logged, reported on stderr, and ends the process: an operator that goes
/// on with a part of itself missing is worse than one that is gone and starts again from its log (ADR 14).
pub fn end_on_panic(log: LogGuard) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let hint = "please report this with the log; a new start goes on from the vote log";
        tracing::error!(target: "event", err = %panic, hint, "fatal");
        log.flush();
        report(panic);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_telemetry::log::{Format, Level, init};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    #[test]
    #[ignore = "panics: started by the test that looks at how"]
    fn panics_beside_the_main_thread() {
        end_on_panic(init(Format::Json, Level::Info).unwrap());
        let _ = std::thread::spawn(|| panic!("a limb is gone")).join();
        std::process::exit(0);
    }

    #[test]
    fn a_panic_anywhere_ends_the_process_with_a_last_line() {
        let name = "run::last_words::tests::panics_beside_the_main_thread";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let ended = again.args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
        assert_eq!(ended.status.signal(), Some(rustix::process::Signal::ABORT.as_raw()));
        let out = String::from_utf8(ended.stdout).unwrap();
        let last = out.lines().rfind(|line| line.starts_with('{')).unwrap();
        let line: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(line["msg"], "fatal");
        assert!(line["err"].as_str().unwrap().contains("a limb is gone"), "{line}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("a limb is gone"));
    }
}
