mod drain;
mod heartbeat;
mod parts;
mod properties;
mod taking;
mod verdicts;
mod waking;
