//! The live page, in one piece. It reads `/feed` once a second and nothing else: no other host, and
//! nothing that has to be built.

/// The page: styles and script are within it, as its policy demands.
pub const PAGE: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/page.css"),
    "</style>\n",
    include_str!("page/body.html"),
    "<script>\n",
    include_str!("page/draw.js"),
    include_str!("page/page.js"),
    "</script>\n",
);
