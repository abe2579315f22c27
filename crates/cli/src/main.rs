//! The `chartmesh` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    chartmesh_cli::main()
}
