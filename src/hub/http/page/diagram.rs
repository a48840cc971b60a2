//! The diagram of the sidecar's states, made of the table that the code itself has.

use crate::machine::Phase;
use crate::machine::state_table::DRAWN;

/// The size of a state's box.
const BOX: (i32, i32) = (132, 36);

/// The diagram.
pub(super) struct Diagram {
    pub(super) states: Vec<State>,
    pub(super) moves: Vec<Move>,
}

/// A state: its name and the middle of its box.
pub(super) struct State {
    pub(super) name: String,
    pub(super) x: i32,
    pub(super) y: i32,
}

/// A move: both states, why, and its line.
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) why: &'static str,
    pub(super) path: String,
}

impl State {
    pub(super) fn left(&self) -> i32 {
        self.x - BOX.0 / 2
    }

    pub(super) fn top(&self) -> i32 {
        self.y - BOX.1 / 2
    }

    pub(super) fn baseline(&self) -> i32 {
        self.y + 5
    }
}

impl Diagram {
    /// Returns the diagram of the machine.
    pub(super) fn of_the_machine() -> Self {
        let phases = [Phase::Idle, Phase::Working, Phase::RestartPending, Phase::Draining, Phase::Exiting];
        let states = phases.iter().map(|phase| {
            let (x, y) = place(*phase);
            State { name: phase.to_string(), x, y }
        });
        let moves = DRAWN.iter().map(|(from, to, why)| Move {
            from: from.to_string(),
            to: to.to_string(),
            why,
            path: line(*from, *to),
        });
        Self { states: states.collect(), moves: moves.collect() }
    }
}

/// Returns where a state stands: work above, the way out below.
const fn place(phase: Phase) -> (i32, i32) {
    match phase {
        Phase::Idle => (76, 40),
        Phase::Working => (300, 40),
        Phase::RestartPending => (524, 40),
        Phase::Draining => (300, 150),
        Phase::Exiting => (524, 150),
    }
}

/// Returns the line of a move, from the edge of one box to the edge of the other.
fn line(from: Phase, to: Phase) -> String {
    let ((x1, y1), (x2, y2)) = (place(from), place(to));
    let (half, tall) = (BOX.0 / 2, BOX.1 / 2);
    if y1 == y2 {
        // The way there runs above the way back.
        let (side, shift) = if x1 < x2 { (1, -7) } else { (-1, 7) };
        return format!("M{} {} H{}", x1 + side * half, y1 + shift, x2 - side * half - side * 3);
    }
    let shift = (x1 - x2).signum() * half / 2;
    format!("M{} {} L{} {}", x1 - shift / 2, y1 + tall, x2 + shift, y2 - tall - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_move_is_between_two_states_that_stand_apart() {
        let diagram = Diagram::of_the_machine();
        let named = |name: &String| diagram.states.iter().any(|state| state.name == *name);
        assert_eq!(diagram.moves.len(), DRAWN.len());
        for drawn in &diagram.moves {
            assert!(named(&drawn.from) && named(&drawn.to) && drawn.from != drawn.to, "{}", drawn.why);
        }
        for (number, one) in diagram.states.iter().enumerate() {
            for other in &diagram.states[number + 1..] {
                assert!(
                    (one.x - other.x).abs() > BOX.0 || (one.y - other.y).abs() > BOX.1,
                    "{} {}",
                    one.name,
                    other.name
                );
            }
        }
    }
}
