//! Each rule of the download, one by one, over a small real blob.

mod alone;
mod bed;
mod cold;
mod doubt;
mod preheat;
mod source;
mod together;
