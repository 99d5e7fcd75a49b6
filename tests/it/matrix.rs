//! Short runs of the programs that break things on purpose: faults under load, and daemons that are killed.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::wait::within_three_runs;

/// Longer than either run takes, also on a busy machine.
const LIMIT: Duration = Duration::from_mins(4);

/// Runs the program with `arguments`. Errors: it missed a bound; what it printed.
async fn chaos(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("it ends in time").expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) => Err(said),
        _ => panic!("the run could not be made: {}: {said}", output.status),
    }
}

#[tokio::test]
async fn under_faults_every_call_has_one_end_and_everything_comes_back() {
    within_three_runs(async || chaos(&["--servers", "20", "--node", "0", "--seconds", "15"]).await).await;
}

#[tokio::test]
async fn nothing_survives_a_killed_daemon_over_twenty_servers_of_all_kinds() {
    within_three_runs(async || chaos(&["--kill9", "--here", "--rounds", "2"]).await).await;
}
