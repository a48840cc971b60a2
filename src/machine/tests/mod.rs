mod leaving;
mod parts;
mod props;
mod waking;
