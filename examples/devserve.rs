fn main() {
    let f = std::env::args().nth(1).unwrap();
    let s = primacy::config::load(std::path::Path::new(&f)).unwrap_or_else(|e| {
        eprintln!("{e}");
        std::process::exit(1)
    });
    if let Err(e) = primacy::app::serve(s) {
        eprintln!("{e}");
        std::process::exit(1)
    }
}
