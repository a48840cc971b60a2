mod leaving;
mod parts;
mod props;
mod verdicts;
mod waking;
