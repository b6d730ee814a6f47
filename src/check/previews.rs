//! Small pictures for the bundle's page: images, first pages of PDF, frames along a video's time-line.
//!
//! Images are decoded by our own child. Pages and frames need a renderer, and a good one is larger than all of
//! greffier: none is linked, none is required. Where the operator has `pdftoppm` (poppler-utils) or `ffmpeg` installed
//! it is used, locked in as [`crate::sandbox::render`] says; elsewhere the page has no picture of that item, and nothing
//! else changes: findings, verdicts and the report's id know nothing of previews.
//!
//! The same file gives the same pictures on the same machine: fixed options, one thread, no clock. Another version of a
//! renderer may draw other pixels, so bundles of two machines may differ in `index.html` (and in the digests over it).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::places::{Places, Turn};
use super::{Source, Sources};
use crate::bundle::Preview;
use crate::model::facts::{Detail, Facts};
use crate::model::finding::Category;
use crate::model::format::Family;
use crate::model::report::{ItemReport, Report};
use crate::model::submission::{Content, FileRef, Submission};
use crate::model::{Format, Severity, Text};
use crate::sandbox::{Rendered, Renderer, Sandbox};

/// Largest side of the thumbnail of an image, pixels: text of a screenshot can be told, not read.
const THUMBNAIL_SIDE: u32 = 240;
/// Most pages of one PDF.
const MAX_PAGES: u32 = 4;
/// Most frames of one video.
const MAX_FRAMES: u32 = 8;
/// Largest side that may be configured, pixels.
const MAX_SIDE: u32 = 1_024;

/// Previews of what needs a renderer. Configuration `[preview]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreviewConfig {
    /// Draws pages of PDF: `auto` (`pdftoppm` where it is in PATH), `none`, or the absolute path of a `pdftoppm`.
    pub pdf_renderer: RendererChoice,
    /// Draws frames of videos: `auto` (`ffmpeg` where it is in PATH), `none`, or the absolute path of an `ffmpeg`.
    pub video_renderer: RendererChoice,
    /// Pages of each PDF, from the first; at most 4.
    pub pdf_pages: u32,
    /// Frames of each video, spread over its duration; at most 8.
    pub video_frames: u32,
    /// Largest side of a page, pixels; at most 1024.
    pub page_side: u32,
    /// Largest side of the first frame, pixels, the others having two thirds of it; at most 1024.
    pub frame_side: u32,
    /// Address space of a renderer, bytes (`RLIMIT_AS`).
    pub memory_bytes: u64,
    /// CPU time of a renderer, seconds, for one PDF or one frame.
    pub cpu_seconds: u64,
    /// Wall-clock time of a renderer, seconds, for one PDF or one frame.
    pub wall_seconds: u64,
    /// What renderers may read besides the file they draw: libraries, fonts, their configuration. Nothing else of the
    /// file system is in their reach; what does not exist is passed over.
    pub readable: Vec<PathBuf>,
}

impl Default for PreviewConfig {
    fn default() -> Self {
        let readable = [
            "/lib",
            "/lib64",
            "/usr/lib",
            "/usr/lib64",
            "/usr/local/lib",
            "/usr/share/fonts",
            "/usr/share/fontconfig",
            "/usr/share/poppler",
            "/usr/local/share/fonts",
            "/etc/fonts",
            "/dev/null",
            "/etc/ld.so.cache",
            "/var/cache/fontconfig",
        ];
        Self {
            pdf_renderer: RendererChoice::Auto,
            video_renderer: RendererChoice::Auto,
            pdf_pages: 2,
            video_frames: 5,
            page_side: 320,
            frame_side: 240,
            memory_bytes: 512 * 1024 * 1024,
            cpu_seconds: 5,
            wall_seconds: 20,
            readable: readable.map(PathBuf::from).to_vec(),
        }
    }
}

impl PreviewConfig {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.pdf_pages > MAX_PAGES || self.video_frames > MAX_FRAMES {
            return Err(format!("preview.pdf_pages is at most {MAX_PAGES}, preview.video_frames at most {MAX_FRAMES}"));
        }
        if !(16..=MAX_SIDE).contains(&self.page_side) || !(16..=MAX_SIDE).contains(&self.frame_side) {
            return Err(format!("preview.page_side and preview.frame_side are between 16 and {MAX_SIDE}"));
        }
        if self.cpu_seconds > self.wall_seconds {
            return Err("preview.wall_seconds must be at least preview.cpu_seconds".into());
        }
        Ok(())
    }
}

/// Which program draws.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum RendererChoice {
    /// The usual one, where it is in PATH.
    #[default]
    Auto,
    /// None: no such previews.
    None,
    /// This one, which must be there.
    Path(PathBuf),
}

impl TryFrom<String> for RendererChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            path if path.starts_with('/') => Ok(Self::Path(path.into())),
            _ => Err(format!("`{text}` is none of `auto`, `none`, an absolute path")),
        }
    }
}

impl From<RendererChoice> for String {
    fn from(choice: RendererChoice) -> Self {
        match choice {
            RendererChoice::Auto => "auto".into(),
            RendererChoice::None => "none".into(),
            RendererChoice::Path(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// Why previews cannot be made as configured.
#[derive(Debug, thiserror::Error)]
#[error("PREVIEW-RENDERER: preview.{key}: {path} is not an executable file", path = path.display())]
pub struct RendererMissing {
    key: &'static str,
    path: PathBuf,
}

/// The renderers this machine has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Renderers {
    pdf: Option<Arc<Renderer>>,
    video: Option<Arc<Renderer>>,
    config: Arc<PreviewConfig>,
}

impl Renderers {
    /// Looks for what `config` names, in `path` (the variable PATH) where it says `auto`.
    ///
    /// # Errors
    /// [`RendererMissing`] for a program that is named and not there.
    pub fn find(config: &PreviewConfig, path: Option<&std::ffi::OsStr>) -> Result<Self, RendererMissing> {
        let find = |key: &'static str, choice: &RendererChoice, usual: &str, wanted: u32, max_output_bytes: u64| {
            let program = match choice {
                _ if wanted == 0 => None,
                RendererChoice::None => None,
                RendererChoice::Path(path) if is_program(path) => Some(path.clone()),
                RendererChoice::Path(path) => return Err(RendererMissing { key, path: path.clone() }),
                // Relative entries of PATH are passed over: they depend on where one stands.
                RendererChoice::Auto => path
                    .map(std::env::split_paths)
                    .into_iter()
                    .flatten()
                    .map(|folder| folder.join(usual))
                    .find(|p| p.is_absolute() && is_program(p)),
            };
            Ok(program.map(|program| {
                Arc::new(Renderer {
                    program,
                    reads: config.readable.clone(),
                    memory_bytes: config.memory_bytes,
                    cpu_seconds: config.cpu_seconds,
                    wall_seconds: config.wall_seconds,
                    max_output_bytes,
                })
            }))
        };
        // Three bytes a pixel and a header each; a proportion that rounds up takes one pixel more.
        let room = |side: u32, n: u32| u64::from(n) * (u64::from(side + 1).pow(2) * 3 + 64);
        Ok(Self {
            pdf: find(
                "pdf_renderer",
                &config.pdf_renderer,
                "pdftoppm",
                config.pdf_pages,
                room(config.page_side, config.pdf_pages.min(MAX_PAGES)),
            )?,
            video: find("video_renderer", &config.video_renderer, "ffmpeg", config.video_frames, room(config.frame_side, 1))?,
            config: Arc::new(config.clone()),
        })
    }

    /// What draws PDF, if anything does.
    pub fn pdf(&self) -> Option<&Path> {
        self.pdf.as_deref().map(|r| r.program.as_path())
    }

    /// What draws videos, if anything does.
    pub fn video(&self) -> Option<&Path> {
        self.video.as_deref().map(|r| r.program.as_path())
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Pictures of the items of `report` by item id, as places are free. What gives none is left out: its findings say
/// what is wrong with the file, and the log what was wrong with the renderer.
pub(super) async fn previews(
    sandbox: &Sandbox,
    renderers: &Renderers,
    (places, turn): (&Places, &Turn),
    report: &Report,
    submission: &Submission,
    sources: Arc<dyn Sources>,
) -> BTreeMap<String, Vec<Preview>> {
    let reports: BTreeMap<&str, &ItemReport> = report.items.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut running = JoinSet::new();
    for item in &submission.items {
        let Content::File(file) = &item.content else { continue };
        let Some(subject) = reports.get(item.id.as_str()).and_then(|r| Subject::of(r)) else { continue };
        let one = One { sandbox: sandbox.clone(), renderers: renderers.clone(), sources: Arc::clone(&sources) };
        let (id, file, places, turn) = (item.id.clone(), file.clone(), places.clone(), turn.clone());
        running.spawn(async move {
            let _place = places.take(&turn).await;
            let pictures = one.pictures(&id, &file, subject).await;
            (id, pictures)
        });
    }
    let mut previews = BTreeMap::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((id, pictures)) if !pictures.is_empty() => {
                previews.insert(id, pictures);
            }
            Ok(_) => {}
            Err(e) => tracing::error!(error = %e, "a preview task ended abnormally"),
        }
    }
    previews
}

/// What is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Subject {
    Image(Format),
    Pdf { pages: u32 },
    Video { demuxer: &'static str, seconds: f64 },
}

impl Subject {
    /// `None` where there is nothing to draw, or better not.
    fn of(item: &ItemReport) -> Option<Self> {
        let facts = item.facts.as_ref()?;
        // What is malware is not shown to one more program, and what is locked opens for none.
        let against = |category: Category| matches!(category, Category::Antivirus | Category::Encrypted | Category::Bomb);
        if item.findings.iter().any(|f| f.severity == Severity::Error && against(f.category)) {
            return None;
        }
        let format = facts.format?;
        match format.family() {
            Family::Image => Some(Self::Image(format)),
            Family::Pdf => Some(Self::Pdf { pages: pages(facts) }),
            Family::Video => Some(Self::Video { demuxer: demuxer(format)?, seconds: seconds(facts) }),
            _ => None,
        }
    }
}

fn pages(facts: &Facts) -> u32 {
    match &facts.detail {
        Some(Detail::Pdf(pdf)) => pdf.pages.max(1),
        _ => 1,
    }
}

/// Duration, seconds; 0 where it is unknown or absurd.
fn seconds(facts: &Facts) -> f64 {
    let stated = match &facts.detail {
        Some(Detail::Video(video)) => video.duration,
        _ => None,
    };
    stated.filter(|s| s.is_finite() && (0.0..360_000.0).contains(s)).unwrap_or(0.0)
}

/// How `ffmpeg` calls the container. Always named: left to guess, it would take a playlist for a video and look for its
/// parts elsewhere.
fn demuxer(format: Format) -> Option<&'static str> {
    match format {
        Format::Mp4 | Format::Mov | Format::F4v | Format::ThreeGp => Some("mov"),
        Format::Avi => Some("avi"),
        Format::Flv => Some("flv"),
        _ => None,
    }
}

/// Moments to show of a video, milliseconds: in the middle of equal parts, so that neither the black of the beginning
/// nor that of the end is what is seen. Short videos have fewer: at most one a second.
fn moments(seconds: f64, frames: u32) -> Vec<u64> {
    // Below 100 hours: fits.
    let whole = (seconds * 1000.0) as u64;
    let frames = u64::from(frames).min(whole / 1000).max(1);
    (0..frames).map(|n| whole * (2 * n + 1) / (2 * frames)).collect()
}

/// `1:05`, `1:02:05`.
fn clock(milliseconds: u64) -> String {
    let s = milliseconds / 1000;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

fn pdf_arguments(pages: u32, side: u32) -> Vec<String> {
    let (pages, side) = (pages.to_string(), side.to_string());
    // `-` is standard input, which it seeks in; without a name for the output, pages go to standard output.
    ["-q", "-cropbox", "-f", "1", "-l", &pages, "-scale-to", &side, "-"].map(str::to_owned).to_vec()
}

fn video_arguments(demuxer: &str, milliseconds: u64, side: u32) -> Vec<String> {
    let at = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    let scale = format!(
        "scale=w='min({side},iw)':h='min({side},ih)':force_original_aspect_ratio=decrease:flags=bilinear+accurate_rnd+bitexact,format=rgb24"
    );
    let before = ["-nostdin", "-hide_banner", "-v", "quiet", "-protocol_whitelist", "file,pipe", "-threads", "1", "-filter_threads", "1"];
    // Seeking before the input jumps to the key frame and decodes from there: the exact frame, at the cost of one group.
    let input = ["-f", demuxer, "-ss", &at, "-i", "/proc/self/fd/0", "-map", "0:v:0", "-frames:v", "1", "-an", "-sn", "-dn"];
    let output =
        ["-vf", &scale, "-fflags", "+bitexact", "-flags", "+bitexact", "-threads", "1", "-c:v", "ppm", "-f", "image2pipe", "pipe:1"];
    before.iter().chain(&input).chain(&output).map(|a| (*a).to_owned()).collect()
}

/// What drawing one item takes.
struct One {
    sandbox: Sandbox,
    renderers: Renderers,
    sources: Arc<dyn Sources>,
}

impl One {
    async fn pictures(&self, id: &str, file: &FileRef, subject: Subject) -> Vec<Preview> {
        let config = &self.renderers.config;
        match subject {
            Subject::Image(format) => {
                let Ok(Source { file: open, .. }) = self.sources.open(id, file).await else { return Vec::new() };
                match self.sandbox.thumbnail(open, format, THUMBNAIL_SIDE).await {
                    Ok(jpeg) => jpeg.into_iter().map(|bytes| Preview { bytes, caption: None }).collect(),
                    Err(e) => {
                        tracing::warn!(item = id, error = %e, "a thumbnail could not be made");
                        Vec::new()
                    }
                }
            }
            Subject::Pdf { pages } => {
                let Some(renderer) = &self.renderers.pdf else { return Vec::new() };
                let arguments = pdf_arguments(pages.min(config.pdf_pages), config.page_side);
                let jpegs = self.draw(id, file, renderer, &arguments, config.page_side).await;
                let caption = |n: usize| Text::new(format!("page {n}"), format!("page {n}"));
                jpegs.into_iter().enumerate().map(|(n, bytes)| Preview { bytes, caption: Some(caption(n + 1)) }).collect()
            }
            Subject::Video { demuxer, seconds } => {
                let Some(renderer) = &self.renderers.video else { return Vec::new() };
                let mut frames = Vec::new();
                for (n, at) in moments(seconds, config.video_frames).into_iter().enumerate() {
                    // The first is seen at once, the others as a strip.
                    let side = if n == 0 { config.frame_side } else { config.frame_side * 2 / 3 };
                    let drawn = self.draw(id, file, renderer, &video_arguments(demuxer, at, side), side).await;
                    // Where one moment gives nothing the others rarely do, and each may take its whole time.
                    let Some(bytes) = drawn.into_iter().next() else { break };
                    frames.push(Preview { bytes, caption: Some(Text::new(clock(at), clock(at))) });
                }
                frames
            }
        }
    }

    async fn draw(&self, id: &str, file: &FileRef, renderer: &Renderer, arguments: &[String], side: u32) -> Vec<Vec<u8>> {
        let Ok(Source { file: open, .. }) = self.sources.open(id, file).await else { return Vec::new() };
        let program = renderer.program.display();
        let pictures = match self.sandbox.render(open, renderer, arguments).await {
            Ok(Rendered::Output(pixels)) => self.sandbox.pictures(&pixels, side).await,
            Ok(Rendered::Nothing(why)) => {
                tracing::info!(item = id, %program, why, "a renderer drew nothing; the item has no preview");
                return Vec::new();
            }
            Err(e) => Err(e),
        };
        pictures.unwrap_or_else(|e| {
            tracing::warn!(item = id, %program, error = %e, "a renderer could not be run; the item has no preview");
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_over_the_duration_and_never_past_it() {
        assert_eq!(moments(100.0, 5), [10_000, 30_000, 50_000, 70_000, 90_000]);
        assert_eq!(moments(2.5, 5), [625, 1_875]);
        assert_eq!(moments(0.4, 5), [200]);
        assert_eq!(moments(0.0, 5), [0]);
        assert_eq!((clock(65_999).as_str(), clock(3_725_000).as_str()), ("1:05", "1:02:05"));
    }

    #[test]
    fn a_renderer_is_found_left_out_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pdftoppm");
        std::fs::write(&program, "").unwrap();
        let find = |config: &PreviewConfig| Renderers::find(config, Some(folder.path().as_os_str()));
        let auto = PreviewConfig::default();
        assert_eq!(find(&auto).unwrap().pdf(), None, "not executable");
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let found = find(&auto).unwrap();
        assert_eq!((found.pdf(), found.video()), (Some(program.as_path()), None));
        assert_eq!(find(&PreviewConfig { pdf_renderer: RendererChoice::None, ..auto.clone() }).unwrap().pdf(), None);
        assert_eq!(find(&PreviewConfig { pdf_pages: 0, ..auto.clone() }).unwrap().pdf(), None);
        let named = PreviewConfig { video_renderer: RendererChoice::Path(folder.path().join("none")), ..auto };
        assert!(find(&named).unwrap_err().to_string().starts_with("PREVIEW-RENDERER: preview.video_renderer: /"));
        assert!(RendererChoice::try_from("pdftoppm".to_owned()).is_err());
    }
}
