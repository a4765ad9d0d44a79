//! Connections over the host kernel: TCP and Unix sockets.
