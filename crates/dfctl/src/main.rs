//! `dfctl`: 0 if it could be done, 1 if not, 64 for a command line that makes no sense.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match process::exit::parse::<dfctl::Cli>() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match dfctl::run(cli, &mut std::io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
