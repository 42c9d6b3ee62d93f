//! The number of frames of an animation and its duration.

/// The number of frames of an animation and its duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Animation {
    frames: u64,
    duration_ms: u64,
}

impl Animation {
    pub(super) fn add_frame(&mut self, duration_ms: u64) {
        self.frames += 1;
        self.duration_ms = self.duration_ms.saturating_add(duration_ms);
    }

    pub(super) fn has_frames(&self) -> bool {
        self.frames > 0
    }

    /// Returns `true` for more than one frame. A single frame is a still picture, whatever the container
    /// says.
    pub(crate) fn is_moving(&self) -> bool {
        self.frames > 1
    }

    /// Returns `None` if no frame has a duration.
    pub(crate) fn duration_ms(&self) -> Option<u64> {
        (self.is_moving() && self.duration_ms > 0).then_some(self.duration_ms)
    }
}
