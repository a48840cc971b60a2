mod drain;
mod heartbeat;
mod parts;
mod properties;
mod returning;
mod taking;
mod verdicts;
mod waking;
