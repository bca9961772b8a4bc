//! The demo's own decisions; that it serves is tested with the real program.

use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: DemoArgs,
}

fn args(line: &str) -> DemoArgs {
    Line::parse_from(std::iter::once("demo").chain(line.split_whitespace())).args
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let args = args("");
    assert_eq!((args.nodes, args.base_port), (3, 6441));
    assert_eq!(args.ports().unwrap(), [6441, 6442, 6443]);
    assert_eq!(url(args.listen), "postgres://app:app@127.0.0.1:6432/app");
    assert_eq!(args.admin.port(), 6433);
    assert_eq!(args.durability, DurabilityArg::Quorum);
    assert!(args.dir.is_none() && args.for_seconds.is_none());
}

#[test]
fn the_url_names_an_address_that_a_client_can_connect_to() {
    assert_eq!(url("0.0.0.0:1".parse().unwrap()), "postgres://app:app@127.0.0.1:1/app");
    assert_eq!(url("[::]:1".parse().unwrap()), "postgres://app:app@[::1]:1/app");
    assert_eq!(url("10.0.0.7:5432".parse().unwrap()), "postgres://app:app@10.0.0.7:5432/app");
}

#[test]
fn ports_that_do_not_fit_are_refused() {
    for line in
        ["--base-port 65535", "--base-port 6431", "--base-port 6433 --nodes 1", "--admin 127.0.0.1:6432"]
    {
        assert!(matches!(args(line).ports(), Err(DemoError::Ports { .. })), "{line}");
    }
    assert_eq!(args("--base-port 65535 --nodes 1").ports().unwrap(), [65535]);
}

#[tokio::test]
async fn a_taken_address_is_said_before_anything_is_built() {
    let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = squatter.local_addr().unwrap();
    let error = check_address(address, "--listen").unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--listen"), "{error}");
}

#[tokio::test]
async fn missing_programs_are_said_with_what_to_install() {
    // Of its own: a demo may be running here.
    let [listen, admin, base] = [(); 3]
        .map(|()| TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port());
    let line = format!("--listen 127.0.0.1:{listen} --admin 127.0.0.1:{admin} --base-port {base} --nodes 1");
    let args = args(&format!("{line} --pg-bin /no/such/directory"));
    let serve = async |_: Handover| -> Result<(), String> { panic!("there is nothing to serve") };
    let error = run_until(args, None, serve, std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/directory") && error.contains("install"), "{error}");
}
