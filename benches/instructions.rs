//! Runs one kernel once, for Callgrind to count its instructions: they repeat where times do not.
//!
//! The argument is GROUP/NAME; without one, the kernels are listed on stderr. Only what `measured` calls is counted:
//! `valgrind --tool=callgrind --toggle-collect='*measured*' …`.

mod inputs;

use std::env;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    // `cargo bench` adds flags, which mean nothing here.
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for kernel in inputs::kernels()? {
        let name = format!("{}/{}", kernel.group, kernel.name);
        match &wanted {
            None => eprintln!("{name} ({} bytes)", kernel.bytes),
            Some(wanted) if *wanted == name => {
                measured(&*kernel.run);
                return Ok(ExitCode::SUCCESS);
            }
            Some(_) => {}
        }
    }
    Ok(if wanted.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[inline(never)]
fn measured(run: &dyn Fn()) {
    run();
}
