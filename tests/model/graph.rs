//! From every state the good end can still be reached: the whole graph of a scope is kept, and walked backwards from the
//! good ends. For smaller scopes; where the supervisor gives up, it is good that the hub lets go of the agent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::Model;

use super::action::Action;
use super::system::System;
use super::world::World;

/// What was found.
pub struct Found {
    pub states: usize,
    /// States whose hub handed out too often to be followed: taken for good.
    pub cut: usize,
    pub well: usize,
    /// The way to a state from which no good end can be reached.
    pub stuck: Option<Vec<Action>>,
}

struct Graph<A> {
    numbers: HashMap<u64, u32>,
    /// By state: from where and how it was first reached.
    parents: Vec<(u32, Option<A>)>,
    /// (to, from).
    edges: Vec<(u32, u32)>,
    good: Vec<bool>,
}

impl<A> Default for Graph<A> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), parents: Vec::new(), edges: Vec::new(), good: Vec::new() }
    }
}

fn print(world: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

pub fn explore(system: &System) -> Found {
    let mut graph = Graph::default();
    let mut frontier = Vec::new();
    let (mut cut, mut well) = (0, 0);
    let mut enter = |graph: &mut Graph<Action>, world: &World, parent: u32, action: Option<Action>| -> (u32, bool) {
        let next = u32::try_from(graph.parents.len()).expect("a small graph");
        match graph.numbers.entry(print(world)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(free) => {
                free.insert(next);
                graph.parents.push((parent, action));
                cut += usize::from(system.is_cut(world));
                well += usize::from(world.is_well());
                let granted = system.is_cut(world) || world.is_let_go();
                graph.good.push(world.is_well() || granted);
                (next, true)
            }
        }
    };
    for world in system.init_states() {
        let (number, _) = enter(&mut graph, &world, 0, None);
        frontier.push((number, world));
    }
    while !frontier.is_empty() {
        let mut later = Vec::new();
        for (from, world) in frontier {
            let mut actions = Vec::new();
            system.actions(&world, &mut actions);
            for action in actions {
                let next = system.after(&world, action, None);
                let (to, is_new) = enter(&mut graph, &next, from, Some(action));
                graph.edges.push((to, from));
                if is_new {
                    later.push((to, next));
                }
            }
        }
        frontier = later;
    }
    let states = graph.parents.len();
    let stuck = graph.first_stuck().map(|number| graph.way_to(number));
    Found { states, cut, well, stuck }
}

impl<A: Copy> Graph<A> {
    fn first_stuck(&mut self) -> Option<u32> {
        self.edges.sort_unstable();
        let mut reached = self.good.clone();
        let numbers = 0..u32::try_from(self.good.len()).unwrap_or(u32::MAX);
        let mut todo: Vec<u32> = numbers.clone().filter(|number| self.good[*number as usize]).collect();
        while let Some(to) = todo.pop() {
            let begin = self.edges.partition_point(|(edge_to, _)| *edge_to < to);
            for (_, from) in self.edges[begin..].iter().take_while(|(edge_to, _)| *edge_to == to) {
                if !std::mem::replace(&mut reached[*from as usize], true) {
                    todo.push(*from);
                }
            }
        }
        numbers.into_iter().find(|number| !reached[*number as usize])
    }

    fn way_to(&self, number: u32) -> Vec<A> {
        let mut way = Vec::new();
        let mut at = number;
        while let (parent, Some(action)) = self.parents[at as usize] {
            way.push(action);
            at = parent;
        }
        way.reverse();
        way
    }
}

/// Two ways to states with one digest, after which the same action leads to different states.
pub struct Unlike<A> {
    pub one: Vec<A>,
    pub other: Vec<A>,
    pub action: A,
}

/// The actions of a state, each with the digest of what it leads to.
type Leads<A> = Vec<(A, u64)>;

/// Follows every way to every state, and compares what a state leads to with what it led to the first time.
pub fn first_unlike<M>(system: &M) -> Option<Unlike<M::Action>>
where
    M: Model,
    M::State: Hash,
    M::Action: Copy + PartialEq,
{
    let mut known: HashMap<u64, (u32, Leads<M::Action>)> = HashMap::new();
    let mut graph = Graph { parents: vec![(0, None)], ..Graph::default() };
    let mut frontier: Vec<(u32, M::State)> = system.init_states().into_iter().map(|world| (0, world)).collect();
    while !frontier.is_empty() {
        let mut later = Vec::new();
        for (number, world) in frontier {
            let mut actions = Vec::new();
            system.actions(&world, &mut actions);
            let follow = |action| Some((action, system.next_state(&world, action)?));
            let nexts: Vec<(M::Action, M::State)> = actions.into_iter().filter_map(follow).collect();
            let prints: Leads<M::Action> = nexts.iter().map(|(action, next)| (*action, print(next))).collect();
            match known.entry(print(&world)) {
                Entry::Occupied(first) => {
                    let (first, expected) = first.get();
                    let differs = expected.iter().zip(&prints).find(|(one, other)| one != other);
                    if let Some(((action, _), _)) = differs {
                        let (one, other) = (graph.way_to(*first), graph.way_to(number));
                        return Some(Unlike { one, other, action: *action });
                    }
                }
                Entry::Vacant(free) => {
                    free.insert((number, prints));
                    for (action, next) in nexts {
                        let next_number = u32::try_from(graph.parents.len()).expect("a small graph");
                        graph.parents.push((number, Some(action)));
                        later.push((next_number, next));
                    }
                }
            }
        }
        frontier = later;
    }
    None
}
