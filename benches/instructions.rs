//! Runs one kernel once, so that Callgrind can count its instructions. Unlike times, these counts are
//! repeatable.
//!
//! The argument is GROUP/NAME. Without one, it lists the kernels on stderr. Only calls from `measured` are
//! counted: `valgrind --tool=callgrind --toggle-collect='*measured*' …`.

mod inputs;

use std::env;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    // `cargo bench` adds flags; they are ignored.
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
