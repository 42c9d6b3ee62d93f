//! An engine that can be killed as a process is, on the paused clock of a test.

use mediamill_actors::config::Config;
use tokio::task::LocalSet;

use super::World;

/// A world whose engine lives in a task set of its own, and dies with it.
pub struct Mortal {
    tasks: LocalSet,
    pub world: World,
}

impl Mortal {
    pub async fn scripted_with(change: impl FnOnce(&mut Config)) -> Self {
        let tasks = LocalSet::new();
        let world = tasks.run_until(World::scripted_with(change)).await;
        Self { tasks, world }
    }

    /// Runs the engine until a future is done. The engine does not run otherwise.
    pub async fn live<T>(&self, life: impl AsyncFnOnce(&World) -> T) -> T {
        self.tasks.run_until(life(&self.world)).await
    }

    /// Kills the engine without a drain, and starts another over the same folder.
    pub async fn crash(self) -> Self {
        let Self { tasks, world } = self;
        let ruins = world.abandon();
        drop(tasks);
        let tasks = LocalSet::new();
        let world = tasks.run_until(ruins.reopen()).await;
        Self { tasks, world }
    }

    /// Stops the engine in good order, and starts another over the same folder.
    pub async fn restart(self) -> Self {
        let Self { tasks, world } = self;
        let world = tasks.run_until(world.restart()).await;
        Self { tasks, world }
    }
}
