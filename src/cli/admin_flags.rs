//! The flags of commands that ask a running tracehop.

use std::path::PathBuf;

use clap::Args;
use hyper::StatusCode;

use crate::cli::Misused;
use crate::cli::http::Http;
use crate::cli::http::Refusal;

#[derive(Args)]
pub(super) struct AdminFlags {
    /// Base URL of the admin pages of a running tracehop
    #[arg(long, value_name = "URL", default_value = DEFAULT_ADMIN)]
    admin: String,

    /// A file whose first line is the token of the admin pages, where they want one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminFlags {
    pub(super) fn http(&self) -> Result<Http, Misused> {
        let token = self.token_file.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|error| Misused {
                flag: "--token-file",
                fault: format!("cannot read {}: {error}", path.display()),
                remedy: "name a file whose first line is the token",
            })
        });
        let token = token.transpose()?;
        let token = token.as_deref().and_then(|text| text.lines().next());
        Http::new("--admin", &self.admin, token.map(str::trim))
    }
}

/// What to do about a refusal of the admin pages.
pub(super) fn remedy(refusal: &Refusal) -> &'static str {
    match refusal.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "it wants a token: give the file that holds it with --token-file"
        }
        StatusCode::NOT_FOUND => "is that the admin address of a tracehop of this version?",
        StatusCode::SERVICE_UNAVAILABLE => "it has as many readers as it takes; end another one",
        _ => "see its log",
    }
}

const DEFAULT_ADMIN: &str = "http://127.0.0.1:9464";
