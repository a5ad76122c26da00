//! The page's files, within the binary.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! asset {
    ($name:literal, $kind:expr) => {
        Asset { name: $name, kind: $kind, text: include_str!(concat!("../../page/", $name)) }
    };
}

/// All of them; the first is the page itself.
const ASSETS: [Asset; 16] = [
    asset!("index.html", HTML),
    asset!("icon.svg", "image/svg+xml"),
    asset!("theme.css", STYLE),
    asset!("page.css", STYLE),
    asset!("main.js", SCRIPT),
    asset!("wire.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("board.js", SCRIPT),
    asset!("timeline.js", SCRIPT),
    asset!("edits.js", SCRIPT),
    asset!("pipeline.js", SCRIPT),
    asset!("controls.js", SCRIPT),
    asset!("drawer.js", SCRIPT),
    asset!("sound.js", SCRIPT),
    asset!("settings.js", SCRIPT),
    asset!("tour.js", SCRIPT),
];

pub(super) async fn page(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    serve(&name, &headers)
}

fn serve(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let tag = format!("\"{}-{:08x}\"", env!("CARGO_PKG_VERSION"), checksum(asset.text.as_bytes()));
    let caching = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
}

/// FNV-1a: tells one build's file from another's, no more.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_only_files_that_are_there_and_every_file_is_named() {
        let texts: String = ASSETS.iter().map(|asset| asset.text).collect();
        for asset in ASSETS.iter().skip(1) {
            assert!(texts.contains(asset.name), "nothing names {}", asset.name);
        }
        let named = texts.split(['"', '\'']).filter_map(|text| text.strip_prefix("./"));
        for name in named.filter(|name| name.ends_with(".js") || name.ends_with(".css") || name.ends_with(".svg")) {
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name} is not embedded");
        }
    }

    #[test]
    fn the_page_is_at_most_150_kilobytes() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes <= 150_000, "{bytes} bytes, not even compressed");
    }
}
