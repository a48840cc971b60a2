mod read_again;
mod revoked;
