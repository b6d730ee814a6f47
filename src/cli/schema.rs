//! `greffier schema NAME`: the JSON Schema of a document, for editors and clients.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Options of `schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Which document
    #[arg(value_enum, required_unless_present = "write_docs")]
    name: Option<SchemaName>,
    /// Write every schema into this folder (for maintainers)
    #[arg(long, value_name = "DIR", hide = true)]
    write_docs: Option<PathBuf>,
}

/// Documents with a published schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaName {
    /// What upload services send: the body of a job.
    Submission,
    /// Body of the event that a worker has begun.
    SubmissionReceived,
    /// Body of the event that one item has been looked at.
    ItemChecked,
    /// Body of the event that a job is put off.
    SubmissionDelayed,
    /// Body of the events that a bundle is ready and that a submission is rejected, and the record of how a job ended.
    Outcome,
    /// Body of the event that a job is set aside, and its record while it is.
    SubmissionParked,
    /// The record of a job that a worker has begun.
    Received,
    /// `report.json` of a bundle.
    Report,
    /// One line of `greffier inspect --json`.
    Item,
    /// What a file is.
    Facts,
    /// The rules of a démarche.
    Pipeline,
    /// The requirement list.
    Catalogue,
    /// Payload of a bundle's seal.
    Seal,
    /// Payload of a receipt.
    Receipt,
    /// `greffier.toml`.
    Config,
}

impl SchemaName {
    /// Every schema and its file name under `docs/schemas/`.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::Submission, "submission.json"),
        (Self::SubmissionReceived, "submission-received.json"),
        (Self::ItemChecked, "item-checked.json"),
        (Self::SubmissionDelayed, "submission-delayed.json"),
        (Self::Outcome, "outcome.json"),
        (Self::SubmissionParked, "submission-parked.json"),
        (Self::Received, "received.json"),
        (Self::Report, "report.json"),
        (Self::Item, "item.json"),
        (Self::Facts, "facts.json"),
        (Self::Pipeline, "pipeline.json"),
        (Self::Catalogue, "catalogue.json"),
        (Self::Seal, "seal.json"),
        (Self::Receipt, "receipt.json"),
        (Self::Config, "config.json"),
    ];

    /// The schema itself (JSON Schema 2020-12).
    pub fn schema(self) -> serde_json::Value {
        let schema = match self {
            Self::Submission => schemars::schema_for!(crate::model::submission::Submission),
            Self::SubmissionReceived => schemars::schema_for!(crate::model::event::SubmissionReceived),
            Self::ItemChecked => schemars::schema_for!(crate::model::event::ItemChecked),
            Self::SubmissionDelayed => schemars::schema_for!(crate::model::event::SubmissionDelayed),
            Self::Outcome => schemars::schema_for!(crate::model::event::Outcome),
            Self::SubmissionParked => schemars::schema_for!(crate::model::event::SubmissionParked),
            Self::Received => schemars::schema_for!(crate::worker::records::Received),
            Self::Report => schemars::schema_for!(crate::model::report::Report),
            Self::Item => schemars::schema_for!(crate::model::report::ItemReport),
            Self::Facts => schemars::schema_for!(crate::model::facts::Facts),
            Self::Pipeline => return crate::pipeline::schema(),
            Self::Catalogue => return crate::pipeline::catalogue::schema(),
            Self::Seal => schemars::schema_for!(crate::seal::Seal),
            Self::Receipt => schemars::schema_for!(crate::seal::receipt::Receipt),
            Self::Config => schemars::schema_for!(crate::config::Config),
        };
        schema.to_value()
    }
}

/// Runs `schema`.
///
/// # Errors
/// Standard output or the folder cannot be written.
pub fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.write_docs {
        std::fs::create_dir_all(folder).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", folder.display()))?;
        for (name, file) in SchemaName::ALL {
            let path = folder.join(file);
            let text = serde_json::to_string_pretty(&name.schema())? + "\n";
            std::fs::write(&path, text).with_context(|| format!("OUTPUT-UNWRITABLE: cannot write {}", path.display()))?;
        }
    }
    if let Some(name) = args.name {
        anstream::println!("{}", serde_json::to_string_pretty(&name.schema())?);
    }
    Ok(ExitCode::SUCCESS)
}
