//! `sunder bench report`.

use std::path::PathBuf;

use clap::Args;

use crate::load::report::ReportRequest;

/// Show results as tables, or as a page with plots
///
/// Several results are shown side by side.
#[derive(Args, Debug)]
pub(super) struct Report {
    /// Results that sunder bench --json wrote
    #[arg(value_name = "RESULT.json", required = true)]
    results: Vec<PathBuf>,
    /// Write one page with plots, complete in itself, instead of printing tables
    #[arg(short, long, value_name = "PAGE.html")]
    output: Option<PathBuf>,
    /// Write RESULT.hgrm beside each result, for HdrHistogram's plotter (ms)
    ///
    /// One for each step of a sweep: RESULT-1.hgrm, RESULT-2.hgrm ..
    #[arg(long)]
    hgrm: bool,
}

impl Report {
    /// What to show.
    pub fn request(self) -> Result<ReportRequest, String> {
        let Report { results, output: page, hgrm: is_hgrm } = self;
        if let Some(page) = page.as_ref().filter(|page| results.contains(page)) {
            return Err(format!("{} is a result: it would be overwritten", page.display()));
        }
        Ok(ReportRequest { results, page, is_hgrm })
    }
}
