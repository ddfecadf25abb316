use std::io;

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{self, LargeFile, Link, Role};
use lockstep_view::columns::fit;
use lockstep_view::content::Content;
use lockstep_view::quantity;
use maud::{Markup, html};
use serde::Deserialize;

use super::parts::{copied, digest, facts, media_type, pager, section, step};
use super::view::{self, LARGEST, picture_type};
use super::{Asked, Page, Site, Tab, with_query};
use crate::{Answer, Refusal};

/// Rows of a table per page.
const ROWS: usize = 100;
/// Maximum number of runs in a list.
const RUNS: usize = 20;

/// Query parameters of an artifact's page.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Shown {
    /// Its name on the linking page.
    name: String,
    page: usize,
}

pub async fn page(site: Site, Path(text): Path<String>, Asked(shown): Asked<Shown>) -> Answer<Response> {
    site.answer(move |site| {
        let digest = site.digest(&text)?;
        if site.runtime().record(&digest)?.is_some() {
            return Ok(Redirect::to(&site.run(&digest)).into_response());
        }
        let artifact = known(site, &digest)?;
        let body = body(site, &artifact, &shown)?;
        let title = if shown.name.is_empty() {
            digest.short()
        } else {
            fit(&shown.name, 60)
        };
        let tab = Tab::Elsewhere;
        Ok(super::shell::document(&site.base, Page { tab, title, body }))
    })
    .await
}

/// Returns an artifact, even if its content was deleted.
fn known(site: &Site, digest: &Digest) -> Answer<Artifact> {
    if let Some(artifact) = site.store().artifact(digest)? {
        return Ok(artifact);
    }
    if !site.store().contains(digest)? {
        return Err(Refusal::not_found(format_args!("artifact {digest} not found")));
    }
    let bytes = site.store().get(digest)?;
    let media_type = if bytes.starts_with(b"\0asm") {
        MediaType::new(MediaType::MODULE)
    } else {
        MediaType::default()
    };
    Ok(Artifact {
        digest: *digest,
        media_type,
        size: bytes.len() as u64,
    })
}

fn body(site: &Site, artifact: &Artifact, shown: &Shown) -> Answer<Markup> {
    let there = site.store().contains(&artifact.digest)?;
    let title = if shown.name.is_empty() {
        "Artifact".to_owned()
    } else {
        fit(&shown.name, 160)
    };
    let download = with_query(
        &format!("{}/download", site.artifact(&artifact.digest)),
        &[("name", &shown.name)],
    );
    Ok(html! {
        div.title {
            h1 { (title) }
            div.actions {
                @if there && !artifact.is_directory() { a.button href=(download) { "Download" } }
                a.button href=(site.lineage(&artifact.digest)) { "Lineage" }
            }
        }
        section.card {
            (facts([
                ("Digest", copied(&artifact.digest, artifact.digest)),
                ("Type", html! { (media_type(artifact)) " " code.dim { (fit(artifact.media_type.as_str(), 80)) } }),
                ("Size", html! { (quantity::bytes(artifact.size)) }),
            ]))
        }
        @if !there {
            p.nothing { "The content was deleted. To restore it, repeat the run that produced it." }
        } @else if artifact.size > LARGEST {
            p.nothing { "Too large to display. Download it instead." }
        } @else {
            section.card.content { (content(site, artifact, shown)?) }
        }
        (uses(site, &artifact.digest)?)
    })
}

fn content(site: &Site, artifact: &Artifact, shown: &Shown) -> Answer<Markup> {
    let first = shown.page.saturating_mul(ROWS);
    let rows = first..first.saturating_add(ROWS);
    if picture_type(artifact).is_some() {
        return Ok(view::picture(site, artifact, &shown.name));
    }
    let content = match Content::read(site.store(), artifact, rows) {
        Ok(content) => content,
        Err(error) => return Ok(html! { p.nothing { (error.message()) } }),
    };
    let shown_part = view::content(site, &content);
    let Content::Table(table) = &content else {
        return Ok(shown_part);
    };
    let last = first + table.rows.len();
    let total = table.total.map_or("many".to_owned(), quantity::count);
    let more = table.total.is_none_or(|total| (last as u64) < total);
    let address = |page: usize| {
        let page = if page == 0 { String::new() } else { page.to_string() };
        with_query(&site.artifact(&artifact.digest), &[("name", &shown.name), ("page", &page)])
    };
    let told = format!(
        "rows {}–{last} of {total}, {} columns",
        (first + 1).min(last),
        table.columns.len()
    );
    Ok(html! { (shown_part) (pager(shown.page, more && last > first, address, &told)) })
}

/// Lists of the runs that produced or used the artifact.
fn uses(site: &Site, artifact: &Digest) -> Answer<Markup> {
    let links = site.store().links_of(artifact)?;
    let of = |role: Role| links.iter().filter(move |(_, link)| link.role == role);
    let list = |title: &str, role: Role| {
        let all = of(role).count();
        html! { @if all > 0 {
            (section(title, html! {
                ul.plain {
                    @for (record, link) in of(role).rev().take(RUNS) { li { (using(site, record, link)) } }
                    @if all > RUNS { li.dim { "… and " (all - RUNS) " more" } }
                }
            }))
        } }
    };
    Ok(html! {
        (list("Produced by", Role::Output))
        (list("Used by", Role::Input))
        (list("Runs of this module", Role::Module))
        (list("Log of", Role::Log))
    })
}

fn using(site: &Site, record: &Digest, link: &Link) -> Markup {
    let name = site.runtime().record(record).ok().flatten();
    html! {
        a.name href=(site.run(record)) { (name.map_or_else(|| "run".to_owned(), |(record, _)| step(&record.run.entry.title()))) }
        " " (digest(record, &site.run(record)))
        @if link.role == Role::Output || link.role == Role::Input { span.dim { " as " } code { (fit(&link.name, 60)) } }
    }
}

/// Returns an image. The policy makes SVGs inert, also when opened directly: no scripts, no requests, a unique origin.
pub async fn picture(site: Site, Path(text): Path<String>) -> Answer<Response> {
    site.answer(move |site| {
        let artifact = known(site, &site.digest(&text)?)?;
        let Some(media_type) = picture_type(&artifact) else {
            return Err(Refusal::not_found(format_args!(
                "artifact {} is not an image",
                artifact.digest.short()
            )));
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_str(media_type).map_err(Refusal::bad)?),
            (
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
            ),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (
                CACHE_CONTROL,
                HeaderValue::from_static("private, max-age=31536000, immutable"),
            ),
        ];
        Ok((headers, bytes(site, &artifact.digest)?).into_response())
    })
    .await
}

/// Downloads an artifact. Browsers save it and never display it.
pub async fn download(site: Site, Path(text): Path<String>, Asked(shown): Asked<Shown>) -> Answer<Response> {
    site.answer(move |site| {
        let artifact = known(site, &site.digest(&text)?)?;
        if artifact.is_directory() {
            return Err(Refusal::bad("can't download a directory; download its files instead"));
        }
        let name = file_name(&shown.name, &artifact);
        let headers: [(HeaderName, HeaderValue); 5] = [
            (CONTENT_TYPE, HeaderValue::from_static(MediaType::BYTES)),
            (
                CONTENT_DISPOSITION,
                HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).map_err(Refusal::bad)?,
            ),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; sandbox"),
            ),
            (CONTENT_LENGTH, HeaderValue::from(artifact.size)),
        ];
        match site.store().open_file(&artifact.digest)? {
            store::Content::Bytes(bytes) => Ok((headers, bytes).into_response()),
            store::Content::Large(file) => Ok((headers, streamed(file)).into_response()),
        }
    })
    .await
}

fn bytes(site: &Site, digest: &Digest) -> Answer<Bytes> {
    if !site.store().contains(digest)? {
        let gone = lockstep_view::error::Error::user(format_args!("the content of {} was deleted", digest.short()));
        return Err(Refusal::new(StatusCode::GONE, gone));
    }
    Ok(site.store().get(digest)?)
}

/// Returns a safe file name for a download, with an extension for its media type.
fn file_name(name: &str, artifact: &Artifact) -> String {
    let base = name.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let base: String = base.chars().take(100).map(plain).collect();
    let base = match base.trim_matches('.') {
        "" => artifact.digest.short(),
        base => base.to_owned(),
    };
    match extension(artifact.media_type.as_str()) {
        Some(extension) if !base.contains('.') => format!("{base}.{extension}"),
        _ => base,
    }
}

fn extension(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        MediaType::CSV => "csv",
        MediaType::TABLE => "arrows",
        MediaType::PARQUET => "parquet",
        MediaType::TEXT => "txt",
        MediaType::JSON | MediaType::METRICS => "json",
        MediaType::VALUE => "cbor",
        MediaType::FIGURE => "svg",
        "image/png" => "png",
        MediaType::MODULE => "wasm",
        _ => return None,
    })
}

/// Streams a large file.
fn streamed(file: LargeFile) -> Body {
    const PIECE: usize = 1 << 20;
    let read = |(file, at): (LargeFile, u64)| async move {
        let piece = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = file.read_at(at, &mut piece);
            read.map(|count| {
                piece.truncate(count);
                (piece, file)
            })
        });
        let (piece, file) = piece.await.map_err(io::Error::other)??;
        let at = at + piece.len() as u64;
        Ok::<_, io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), (file, at))))
    };
    Body::from_stream(futures::stream::try_unfold((file, 0), read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_a_plain_name() {
        let artifact = |media_type: &str| Artifact {
            digest: Digest::of(""),
            media_type: MediaType::new(media_type),
            size: 0,
        };
        assert_eq!(file_name("a/rows", &artifact(MediaType::CSV)), "rows.csv");
        assert_eq!(file_name("../x\r\n\"y.txt", &artifact(MediaType::CSV)), "x___y.txt");
        assert_eq!(file_name("", &artifact("text/html")), Digest::of("").short());
    }
}
