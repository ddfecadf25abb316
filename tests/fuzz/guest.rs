//! Plays the calls in `/in/calls`, in the sandbox.

mod calls;

fn main() {
    let calls = std::fs::read("/in/calls").expect("the input");
    print!("{}", calls::play(&calls, std::path::Path::new("/tmp")));
}
