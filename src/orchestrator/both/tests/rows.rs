//! Every row of the ports' tables: what is asked of which tier, and what the client is told.
