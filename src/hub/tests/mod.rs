mod clock;
mod expired;
mod owners;
mod read_again;
mod revoked;
