//! Settings that the operator passes through to librdkafka: which there are, and which are not theirs to change.

use std::sync::LazyLock;

use crate::ffi;

static NAMES: LazyLock<Vec<String>> = LazyLock::new(ffi::setting_names);

/// What exactness rests on: changed from outside, edits would be lost or doubled without a word.
const OURS: [&str; 11] = [
    "acks",
    "auto.offset.reset",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "request.required.acks",
    "transactional.id",
];

/// Reads `KEY=VALUE`.
///
/// # Errors
/// A sentence: no such setting, with the nearest one there is; or one that is not the operator's to change.
pub(crate) fn parse(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
        return Err(
            "a setting is KEY=VALUE; one whose value holds a comma goes into a file, with --kafka-x-file".to_owned()
        );
    };
    if OURS.contains(&key) {
        return Err(format!("{key} is not to be changed: exactness rests on it"));
    }
    if NAMES.is_empty() || NAMES.iter().any(|name| name == key) {
        return Ok((key.to_owned(), value.to_owned()));
    }
    let nearest = NAMES.iter().min_by_key(|name| strsim::damerau_levenshtein(name, key));
    let nearest = nearest.map_or("", String::as_str);
    Err(format!("librdkafka has no setting \"{key}\"; the nearest is {nearest}"))
}

/// Settings from a file, one `KEY=VALUE` a line; empty lines and lines that begin with `#` do not count. Shows none
/// of its values.
#[derive(Clone, Default)]
pub struct SettingsFile(pub(crate) Vec<(String, String)>);

impl std::fmt::Debug for SettingsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} settings", self.0.len())
    }
}

/// Reads a file of settings.
///
/// # Errors
/// A sentence: the file cannot be read, or which line is refused and why.
pub(crate) fn read_file(path: &str) -> Result<SettingsFile, String> {
    // Compose files set variables that stand for nothing to nothing.
    if path.is_empty() {
        return Ok(SettingsFile::default());
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let settings = lines.map(|(at, line)| parse(line).map_err(|why| format!("{path}, line {}: {why}", at + 1)));
    settings.collect::<Result<_, _>>().map(SettingsFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_own_names_are_known() {
        for key in ["security.protocol", "sasl.username", "ssl.ca.location", "bootstrap.servers", "session.timeout.ms"]
        {
            assert_eq!(parse(&format!("{key}=x")), Ok((key.to_owned(), "x".to_owned())));
        }
        assert!(NAMES.len() > 150, "{NAMES:?}");
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        let sentence = parse("sasl.usrname=x").unwrap_err();
        assert!(sentence.ends_with("the nearest is sasl.username"), "{sentence}");
        assert_eq!(parse("x").map_err(|why| why.contains("--kafka-x-file")), Err(true));
    }

    #[test]
    fn a_file_gives_a_setting_a_line_and_shows_no_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        std::fs::write(&path, "# who\nsasl.username=wiki\n\nsasl.password=a=b,c\n").unwrap();
        let settings = read_file(&path).unwrap();
        assert_eq!(settings.0[1], ("sasl.password".to_owned(), "a=b,c".to_owned()));
        assert_eq!(format!("{settings:?}"), "2 settings");
        std::fs::write(&path, "sasl.pasword=geheim\n").unwrap();
        let refused = read_file(&path).unwrap_err();
        assert!(
            refused.contains("line 1") && refused.contains("sasl.password") && !refused.contains("geheim"),
            "{refused}"
        );
        assert!(read_file("/nowhere").unwrap_err().contains("/nowhere"));
    }

    #[test]
    fn what_exactness_rests_on_is_not_passed_through() {
        assert!(OURS.iter().all(|key| NAMES.iter().any(|name| name == key)), "each is a setting that there is");
        assert!(parse("isolation.level=read_uncommitted").unwrap_err().contains("exactness"));
    }
}
