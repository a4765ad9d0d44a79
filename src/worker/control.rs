//! Answers commands about the server itself.

use std::sync::atomic::Ordering;

use super::Shared;
use crate::buffer::Gather;
use crate::clock::Now;
use crate::protocol::{Control, Form, Head, binary, text};

/// Puts the reply to `control` into `reply`.
pub fn answer(shared: &Shared, control: Control<'_>, form: Form, now: Now, reply: &mut Gather) {
    if let Control::Shutdown { .. } = control {
        shared.stop.store(true, Ordering::Relaxed);
    }
    let mut head = Head::new();
    match form {
        Form::Text(form) => text::encode_control(control, form, &mut head),
        Form::Binary(form) => binary::encode_control(control, form, &mut head),
    }
    let _ = now;
    reply.extend(&head);
}
