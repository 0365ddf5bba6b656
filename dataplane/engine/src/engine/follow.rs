//! Bursts while somebody traces: packets that are to be followed are worked through one by one, what lies between them as ever.

use crate::engine::Engine;
use crate::frame::{Frame, Outbox};
use crate::ids::Now;

impl Engine {
    #[cold]
    pub(super) fn follow(&mut self, now: Now, burst: &mut [Frame<'_>], out: &mut dyn Outbox) {
        let Some(mut tracer) = self.tracer.take() else { return };
        let mut rest = burst;
        loop {
            let interfaces = &self.world.interfaces;
            let chosen = rest.iter().position(|frame| tracer.wants(now, interfaces, frame));
            let (before, from) = rest.split_at_mut(chosen.unwrap_or(rest.len()));
            self.judge(now, before, out, None);
            let Some((frame, behind)) = from.split_first_mut() else { break };
            let mut trace = tracer.begin(frame, now, self.config.worker, self.world.generation);
            self.judge(now, std::slice::from_mut(frame), out, Some(&mut trace));
            tracer.end(trace, frame);
            rest = behind;
        }
        self.tracer = Some(tracer);
    }
}
