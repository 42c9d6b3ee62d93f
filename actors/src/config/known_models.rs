//! Facts about models, by their names: the pictures that they take, and the length of their vectors.

use crate::media::VisionSpec;

/// Half of 56 pixels: a picture with a shorter side crashes Ollama's runner, and a side has at least two
/// patches.
const MIN_PATCH_PX: u32 = 28;

/// The picture that a model takes, derived from the configured one.
///
/// Models of the Qwen family divide a picture into squares of 28 pixels, from version 3 on of 32 pixels; the
/// server resizes a picture whose sides are not multiples. Gemma 3 scales every picture to 896 x 896 pixels,
/// Llama 3.2 to 1120 x 1120.
pub(crate) fn vision(model: &str, configured: VisionSpec) -> VisionSpec {
    let name = bare(model);
    let patch_px = if ["qwen3-vl", "qwen3vl"].iter().any(|it| name.starts_with(it)) {
        32
    } else if ["qwen2.5vl", "qwen2.5-vl", "qwen2-vl"].iter().any(|it| name.starts_with(it)) {
        28
    } else {
        // The smallest multiple of the configured patch that is large enough.
        configured.patch_px.max(1) * MIN_PATCH_PX.div_ceil(configured.patch_px.max(1))
    };
    let max_pixels = if name.starts_with("gemma3") || name.starts_with("gemma-3") {
        896 * 896
    } else if name.starts_with("llama3.2-vision") || name.starts_with("llama-3.2") {
        1120 * 1120
    } else {
        u64::MAX
    };
    VisionSpec {
        max_pixels: configured.max_pixels.min(max_pixels).max(u64::from(2 * patch_px).pow(2)),
        max_side_px: configured.max_side_px.max(2 * patch_px),
        patch_px,
        ..configured
    }
}

/// Length of a model's vectors; `None` if the model is not in the table.
pub(super) fn dimensions(model: &str) -> Option<u32> {
    let name = bare(model);
    let table: [(&str, u32); 14] = [
        ("qwen3-embedding:0.6b", 1024),
        ("qwen3-embedding:4b", 2560),
        ("qwen3-embedding:8b", 4096),
        ("bge-m3", 1024),
        ("bge-large", 1024),
        ("mxbai-embed-large", 1024),
        ("snowflake-arctic-embed2", 1024),
        ("nomic-embed-text", 768),
        ("embeddinggemma", 768),
        ("paraphrase-multilingual", 768),
        ("all-minilm", 384),
        ("text-embedding-ada-002", 1536),
        ("text-embedding-3-small", 1536),
        ("text-embedding-3-large", 3072),
    ];
    table.iter().find(|(start, _)| name.starts_with(start)).map(|(_, dimensions)| *dimensions)
}

/// The last part of a model's path-like name, in lower case.
fn bare(model: &str) -> String {
    model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: VisionSpec =
        VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

    #[test]
    fn each_model_gets_its_patches_and_pixels() {
        for (model, patch_px, max_pixels) in [
            ("qwen2.5vl:7b", 28, 1_003_520),
            ("Qwen/Qwen3-VL-8B-Instruct", 32, 1_003_520),
            ("gemma3:4b", 28, 802_816),
            ("llava:7b", 28, 1_003_520),
        ] {
            let spec = vision(model, CONFIGURED);
            assert_eq!((spec.patch_px, spec.max_pixels), (patch_px, max_pixels), "{model}");
        }
    }

    #[test]
    fn no_picture_is_so_small_that_it_crashes_a_runner() {
        for (configured, patch_px) in [(1, 28), (14, 28), (20, 40), (28, 28), (64, 64)] {
            let spec = vision("llava", VisionSpec { patch_px: configured, max_pixels: 1, ..CONFIGURED });
            assert_eq!((spec.patch_px, spec.max_pixels), (patch_px, u64::from(4 * patch_px * patch_px)));
        }
    }

    #[test]
    fn the_length_of_vectors_is_found_by_any_form_of_the_name() {
        assert_eq!(dimensions("bge-m3:latest"), Some(1024));
        assert_eq!(dimensions("BAAI/bge-m3"), Some(1024));
        assert_eq!(dimensions("my-own"), None);
    }
}
