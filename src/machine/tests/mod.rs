mod heartbeat;
mod leaving;
mod parts;
mod props;
mod taking;
mod verdicts;
mod waking;
