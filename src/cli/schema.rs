//! `greffier schema NAME`: the JSON Schema of a document, for editors and clients.

use std::process::ExitCode;

/// Options of `schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Which document
    #[arg(value_enum)]
    name: SchemaName,
}

/// Documents with a published schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaName {
    /// What upload services send.
    Submission,
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
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Submission, "submission.json"),
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
/// Standard output cannot be written.
pub fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(&args.name.schema())?);
    Ok(ExitCode::SUCCESS)
}
