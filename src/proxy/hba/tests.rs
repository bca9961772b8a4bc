//! The rules against PostgreSQL's description of them, and against any text.

use proptest::prelude::*;

use super::*;

fn hba(text: &str) -> Hba {
    Hba { rules: parse_hba(text).unwrap_or_else(|error| panic!("{error}")), maps: Vec::new() }
}

fn asked<'a>(address: &str, tls: bool, user: &'a str, database: &'a str) -> Asked<'a> {
    let address = (!address.is_empty()).then(|| address.parse().unwrap());
    Asked { address, tls, user, database, replication: false }
}

fn method(hba: &Hba, asked: &Asked<'_>) -> &'static str {
    hba.find(asked).map_or("none", |rule| rule.method().as_str())
}

#[test]
fn the_first_rule_that_fits_decides() {
    let hba = hba("\
# TYPE DATABASE USER ADDRESS METHOD
local   all             postgres                       peer
local   all             all                            scram-sha-256
host    all             mallory         all            reject
host    \"all\"         app             10.0.0.0/8     md5      # a database called all
hostssl sales,support   app,\"re port\" 10.0.0.0/8     scram-sha-256
hostnossl sales         app             10.0.0.0  255.0.0.0  reject
host    sameuser        all             192.168.0.0/16 md5
host    all             all             127.0.0.1/32   trust
host    all             all             ::1/128        trust
");
    for (address, tls, user, database, expected) in [
        ("", false, "postgres", "x", "peer"),
        ("", false, "app", "x", "scram-sha-256"),
        ("10.1.2.3", true, "mallory", "sales", "reject"),
        ("10.1.2.3", true, "app", "all", "md5"),
        ("10.1.2.3", true, "app", "sales", "scram-sha-256"),
        ("10.1.2.3", true, "re port", "support", "scram-sha-256"),
        ("10.1.2.3", false, "app", "sales", "reject"),
        ("10.1.2.3", false, "app", "support", "none"),
        ("11.1.2.3", true, "app", "sales", "none"),
        ("192.168.7.7", false, "app", "app", "md5"),
        ("192.168.7.7", false, "app", "sales", "none"),
        ("::ffff:127.0.0.1", false, "app", "x", "trust"),
        ("::1", false, "app", "x", "trust"),
        ("::2", false, "app", "x", "none"),
    ] {
        assert_eq!(
            method(&hba, &asked(address, tls, user, database)),
            expected,
            "{address} {user} {database}"
        );
    }
}

#[test]
fn all_databases_are_not_replication() {
    let hba = hba("host all all 10.0.0.0/8 md5\nhost replication rep 10.0.0.0/8 scram-sha-256\n");
    let mut replication = asked("10.0.0.1", false, "rep", "x");
    replication.replication = true;
    assert_eq!(method(&hba, &replication), "scram-sha-256");
    replication.user = "app";
    assert_eq!(method(&hba, &replication), "none");
    assert_eq!(method(&hba, &asked("10.0.0.1", false, "app", "replication")), "md5");
}

#[test]
fn what_cannot_be_applied_exactly_is_refused_with_its_line() {
    for (bad, word) in [
        ("host all +admins 10.0.0.0/8 md5", "+admins"),
        ("host samerole all 10.0.0.0/8 md5", "samerole"),
        ("host all /^a 10.0.0.0/8 md5", "/^a"),
        ("host all all samenet md5", "samenet"),
        ("host all all db.example.com md5", "db.example.com"),
        ("host all all 10.0.0.0/33 md5", "10.0.0.0/33"),
        ("host all all 10.0.0.0/+8 md5", "10.0.0.0/+8"),
        ("host all all 10.0.0.0 255.0.255.0 md5", "10.0.0.0"),
        ("host all all 10.0.0.0/8 gss", "gss"),
        ("hostgssenc all all 10.0.0.0/8 md5", "hostgssenc"),
        ("host all all 10.0.0.0/8 ldap ldapserver=x", "ldap"),
        ("host all all 10.0.0.0/8 md5 map=", "map"),
        ("host all all all trust", "trust"),
        ("host all all 0.0.0.0/0 trust", "trust"),
        ("host all all 10.0.0.0/8 password", "password"),
        ("host all all 10.0.0.0/8 cert", "hostssl"),
        ("host all all 10.0.0.0/8 peer", "peer"),
        ("host all all 10.0.0.0/8", "fields"),
        ("host all", "fields"),
        ("include other.conf x y", "included"),
        ("local all \"x peer", "quote"),
    ] {
        let error = parse_hba(&format!("# first\n{bad}\n")).expect_err(bad);
        assert_eq!(error.line, 2, "{bad}");
        assert!(error.to_string().contains(word), "{bad}: {error}");
    }
}

#[test]
fn lines_go_on_behind_a_backslash() {
    let hba = hba("host all \\\n app 10.0.0.0/8 \\\n md5\nlocal all all peer");
    assert_eq!(hba.rules.len(), 2);
    assert_eq!(method(&hba, &asked("10.0.0.1", false, "app", "x")), "md5");
}

#[test]
fn a_certificate_names_the_role_itself_or_by_a_map() {
    let owner = |cn: &str| Identity {
        certificate: Some(Owner {
            common_name: cn.to_owned(),
            distinguished_name: format!("CN={cn},O=example"),
            alternatives: vec!["spiffe://example/app".to_owned()],
        }),
        account: None,
    };
    let mut rules = hba("\
hostssl a all all cert
hostssl b all all cert map=m clientname=DN
hostssl c all all cert map=m clientname=SAN
hostssl d all all scram-sha-256 clientcert=verify-ca
");
    rules.maps =
        parse_ident("m \"CN=boss,O=example\" app\nm spiffe://example/app all\nother app app\n").unwrap();
    let fits = |database, identity: &Identity, user| {
        let rule = rules.find(&asked("10.0.0.1", true, user, database)).unwrap();
        rules.identity_fits(rule, identity, user)
    };
    assert!(fits("a", &owner("app"), "app"));
    assert!(!fits("a", &owner("app"), "boss"));
    assert!(!fits("a", &owner(""), ""));
    assert!(!fits("a", &Identity::default(), "app"));
    assert!(fits("b", &owner("boss"), "app"));
    assert!(!fits("b", &owner("app"), "app"), "a map replaces the name itself");
    assert!(fits("c", &owner("x"), "anybody"));
    assert!(fits("d", &owner("x"), "anybody") && !fits("d", &Identity::default(), "app"));
    assert!(parse_ident("m /^x app\n").is_err());
}

#[test]
fn the_account_behind_a_unix_socket_is_a_name_too() {
    let rules = hba("local all all peer");
    let rule = rules.find(&asked("", false, "app", "x")).unwrap();
    let account = |name: &str| Identity { certificate: None, account: Some(name.to_owned()) };
    assert!(rules.identity_fits(rule, &account("app"), "app"));
    assert!(!rules.identity_fits(rule, &account("root"), "app"));
    assert!(!rules.identity_fits(rule, &Identity::default(), "app"));
}

#[test]
fn without_rules_everybody_is_asked_for_a_password() {
    let rules = password_for_everybody();
    for address in ["", "10.0.0.1", "2001:db8::1"] {
        assert_eq!(method(&rules, &asked(address, false, "app", "x")), "md5");
        let replication = Asked { replication: true, ..asked(address, false, "app", "x") };
        assert_eq!(method(&rules, &replication), "md5");
    }
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "[a-z \t\"#,/\\\\\n.0-9=+@]{0,200}") {
        drop(parse_hba(&text));
        drop(parse_ident(&text));
    }

    #[test]
    fn a_network_holds_its_own_addresses(address: u32, prefix in 0u8..=32, other: u32) {
        let ip = std::net::Ipv4Addr::from(address);
        let network = Network::parse(&format!("{ip}/{prefix}")).unwrap();
        prop_assert!(network.contains(ip.into()));
        let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
        let inside = address & mask == other & mask;
        prop_assert_eq!(network.contains(std::net::Ipv4Addr::from(other).into()), inside);
        let masked = Network::with_mask(&ip.to_string(), &std::net::Ipv4Addr::from(mask).to_string());
        prop_assert_eq!(masked, Some(network));
    }
}
