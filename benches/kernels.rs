//! Measures the kernels with Criterion, and checks whether each JSON library reads every value to the bit.
//!
//! `scripts/bench kernels` alternates it with the peers in Python.

mod inputs;

use criterion::{Criterion, SamplingMode, Throughput};
use std::fs;
use std::time::Duration;

fn main() -> anyhow::Result<()> {
    // As in the reader.
    rfm_stream::allocator::configure();
    check_bits()?;
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
        .configure_from_args();
    for kernel in inputs::kernels()? {
        let mut group = criterion.benchmark_group(kernel.group);
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(kernel.bytes));
        group.bench_function(kernel.name, |bencher| bencher.iter(|| (kernel.run)()));
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// Writes `exact.csv`: body, decoder, and how many values it reads inexactly.
fn check_bits() -> anyhow::Result<()> {
    let mut lines = String::new();
    for body in inputs::bodies()? {
        for (who, decode) in inputs::DECODERS {
            let read = decode(&body.text).unwrap_or_default();
            let equal = read.iter().zip(&body.values).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
            lines += &format!("{},{who},{}\n", body.name, body.values.len() - equal);
        }
    }
    fs::write(inputs::directory().join("exact.csv"), lines)?;
    Ok(())
}
