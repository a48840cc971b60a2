mod leaving;
mod props;
