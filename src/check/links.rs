//! The links of a submission: asked host by host, in order, so that a server is never pressed, and a server that
//! does not answer is asked once and not once per link. The files are looked at meanwhile; nothing waits for a link.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::item_span;
use crate::gazelle::link::{Recognised, recognise};
use crate::gazelle::{CopyId, GazelleClient, GazelleConfig, GazellePolicy, Owner, PinSource};
use crate::model::gazelle::{GazelleFacts, GazelleOutcome, Unreachable};
use crate::telemetry::{self, KeyValue};

/// What asks links.
#[derive(Clone)]
pub struct Links {
    client: GazelleClient,
    config: Arc<GazelleConfig>,
    policy: Arc<GazellePolicy>,
    pins: Arc<dyn PinSource>,
    /// For whom copies are looked up.
    owner: Owner,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Links {
    /// Asks with `config` the hosts that `policy` allows; `pins` are copies kept by earlier runs for `owner`.
    ///
    /// # Errors
    /// Settings that cannot work, or no usable TLS.
    pub fn new(
        config: GazelleConfig,
        policy: GazellePolicy,
        pins: Arc<dyn PinSource>,
        owner: Owner,
    ) -> Result<Self, crate::gazelle::ClientError> {
        let client = GazelleClient::new(config.clone(), policy.clone())?;
        Ok(Self { client, config: Arc::new(config), policy: Arc::new(policy), pins, owner })
    }

    /// The same client, and so the same politeness towards every host, with the copies of `owner`.
    #[must_use]
    pub fn with_pins(&self, pins: Arc<dyn PinSource>, owner: Owner) -> Self {
        Self { pins, owner, ..self.clone() }
    }

    /// The name of the copy that `owner` may have of what `url` leads to; `None` where it leads to no report.
    pub fn copy_id(&self, url: &str, owner: &Owner) -> Option<CopyId> {
        self.client.copy_id(url, owner)
    }

    /// Starts asking `links` (position of the item in its submission, its id, address); one task per host gives the facts of
    /// its links.
    pub fn start(&self, links: Vec<(usize, String, String)>) -> JoinSet<Vec<(String, GazelleFacts)>> {
        let mut by_host: BTreeMap<Option<String>, Vec<(usize, String, String)>> = BTreeMap::new();
        for (position, id, url) in links {
            let host = match recognise(&url, &self.policy, &self.config) {
                Recognised::Report(link) => link.facts.host.clone(),
                Recognised::Settled(..) => None,
            };
            by_host.entry(host).or_default().push((position, id, url));
        }
        let mut running = JoinSet::new();
        for (host, links) in by_host {
            let links_of_host = self.clone();
            running.spawn(telemetry::carried_along(async move { links_of_host.ask_in_turn(host.is_some(), links).await }));
        }
        running
    }

    async fn ask_in_turn(&self, one_host: bool, links: Vec<(usize, String, String)>) -> Vec<(String, GazelleFacts)> {
        let mut silent: Option<GazelleOutcome> = None;
        let mut all = Vec::with_capacity(links.len());
        for (position, id, url) in links {
            let facts = match &silent {
                Some(outcome) => self.without_asking(&url, outcome),
                None => {
                    let span = item_span("gazelle", position);
                    let facts = span.run(self.client.fetch(&url)).await;
                    span.set(KeyValue::new("greffier.gazelle.outcome", facts.outcome.label()));
                    facts
                }
            };
            if one_host && silent.is_none() && is_silence(&facts.outcome) {
                silent = Some(facts.outcome.clone());
            }
            all.push((id, self.client.beside_copy(&url, facts, self.pins.as_ref(), &self.owner)));
        }
        all
    }

    fn without_asking(&self, url: &str, outcome: &GazelleOutcome) -> GazelleFacts {
        match recognise(url, &self.policy, &self.config) {
            Recognised::Report(link) => GazelleFacts { link: link.facts, outcome: outcome.clone(), replayed: None, drift: Vec::new() },
            Recognised::Settled(link, settled) => GazelleFacts { link, outcome: settled, replayed: None, drift: Vec::new() },
        }
    }
}

/// No server was reached at all: the next link to the same host would wait for the same nothing.
fn is_silence(outcome: &GazelleOutcome) -> bool {
    matches!(
        outcome,
        GazelleOutcome::Unreachable {
            reason: Unreachable::Dns | Unreachable::Connect | Unreachable::Tls | Unreachable::AddressRefused,
            ..
        }
    )
}
