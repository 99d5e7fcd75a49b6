//! `[model]`: who answers, with which key, and within which bounds.

use std::sync::Arc;
use std::time::Duration;

use ostler_core::Secret;

use super::Check;
use crate::config::file::{AuthStyle, ModelSection, ProviderWord};
use crate::config::report::At;
use crate::config::{Anthropic, BUILT_IN_SCRIPT, ModelChoice, Reason, Script, Turn, read_text};

impl Check<'_> {
    /// `[model]`.
    pub(super) fn model(&mut self, given: Option<At<ModelSection>>) -> Option<(ModelChoice, Turn)> {
        let given = given.map(|at| at.value).unwrap_or_default();
        let turn = Turn {
            max_rounds: given.max_rounds.as_ref().map_or(8, |at| at.value.get()),
            model_timeout: given.timeout.as_ref().map_or(Duration::from_mins(10), |at| at.value.0),
            system: given.system.as_ref().map(|at| Arc::from(at.value.as_str())),
        };
        let provider = given.provider.as_ref().map_or(ProviderWord::Auto, |at| at.value);
        let choice = match provider {
            ProviderWord::Rehearsal => ModelChoice::Rehearsal(self.script(given.script.as_ref(), Reason::Configured)?),
            ProviderWord::Anthropic | ProviderWord::Auto => {
                let key = match &given.api_key {
                    Some(At { value, spot }) => self.resolver.secret(value, spot, self.report)?,
                    None => Secret::new(self.resolver.environment.get("ANTHROPIC_API_KEY").unwrap_or_default()),
                };
                match (key.expose().is_empty(), &given.provider) {
                    (false, _) => ModelChoice::Anthropic(self.anthropic(&given, key)?),
                    (true, Some(At { value: ProviderWord::Anthropic, spot })) => {
                        let message = "there is no API key; set ANTHROPIC_API_KEY, write api_key = \"${VAR}\", or provider = \"rehearsal\"";
                        return self.report.problem(spot, message);
                    }
                    (true, _) => ModelChoice::Rehearsal(self.script(given.script.as_ref(), Reason::NoKey)?),
                }
            }
        };
        Some((choice, turn))
    }

    fn anthropic(&mut self, given: &ModelSection, api_key: Secret) -> Option<Anthropic> {
        let mut text = |at: &Option<At<String>>, standard: &str| match at {
            Some(At { value, spot }) => {
                let text = self.resolver.expand(value, spot, self.report)?;
                if text.trim().is_empty() {
                    return self.report.problem(spot, format!("it is empty; write one such as \"{standard}\""));
                }
                Some(text)
            }
            None => Some(standard.to_owned()),
        };
        let from_environment = self.resolver.environment.filled("ANTHROPIC_BASE_URL");
        let base_url = text(&given.base_url, from_environment.unwrap_or(Anthropic::DEFAULT_BASE_URL));
        let model = text(&given.model, Anthropic::DEFAULT_MODEL);
        let version = text(&given.version, Anthropic::DEFAULT_VERSION);
        let version = version?;
        // The SDKs send a bearer token since this version; the versions before knew the other header alone.
        let by_version = if version.as_str() < "2026-10-21" { AuthStyle::XApiKey } else { AuthStyle::Bearer };
        Some(Anthropic {
            api_key,
            base_url: base_url?,
            model: model?,
            max_tokens: given.max_tokens.as_ref().map_or(4096, |at| at.value.get()),
            version,
            auth: given.auth.as_ref().map_or(by_version, |at| at.value),
        })
    }

    fn script(&mut self, given: Option<&At<String>>, reason: Reason) -> Option<Script> {
        let Some(At { value, spot }) = given else {
            return Some(Script { origin: None, text: BUILT_IN_SCRIPT.into(), reason });
        };
        let path = self.resolver.path(value, spot, self.report)?;
        match read_text(&path) {
            Ok(text) => Some(Script { origin: Some(path), text: text.into(), reason }),
            Err(why) => self.report.problem(
                spot,
                format!("the script {} cannot be read: {why}; write the path of a rehearsal script", path.display()),
            ),
        }
    }
}
