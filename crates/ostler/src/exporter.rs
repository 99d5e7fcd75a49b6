//! The Prometheus recorder of the daemon: installed once by the program, never by the library.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use ostler_telemetry::record;

/// How often histograms are drained, so that they do not grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process, ready to be rendered.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: Collector,
}

impl Exporter {
    /// Installs the global recorder. Needs a tokio runtime, for the upkeep. Errors: another recorder is there already.
    pub fn install() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in record::BUCKETS {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
        }
        let handle = builder.install_recorder()?;
        record::describe();
        record::build(env!("CARGO_PKG_VERSION"));
        let process = Collector::default();
        process.describe();
        let upkeep = handle.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                upkeep.run_upkeep();
            }
        });
        Ok(Self { handle, process })
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exporter")
    }
}
