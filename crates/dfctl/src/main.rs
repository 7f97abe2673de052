//! `dfctl`: 0 if it could be done; what else it ends with is in `exit`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match dfctl::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let output = cli.output;
    match dfctl::run(cli, &mut std::io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => dfctl::fail(&error, output),
    }
}
