//! Install plan, its steps, the switch and the way back.
