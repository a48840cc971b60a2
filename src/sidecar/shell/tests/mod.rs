mod read_again;
