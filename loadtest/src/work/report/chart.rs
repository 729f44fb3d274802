//! Charts as inline SVG, drawn without any script.

pub mod bar;
pub mod lines;
pub mod scale;
