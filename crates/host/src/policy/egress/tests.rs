use super::*;

fn refused(egress: &Egress, url: &str) -> Option<String> {
    egress.check(&Url::parse(url).unwrap()).err().map(|refused| refused.to_string())
}

const METADATA_URLS: [&str; 24] = [
    "http://169.254.169.254/latest/meta-data",
    "https://169.254.170.2:8080/",
    "http://100.100.100.200/",
    "http://[fd00:ec2::254]/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://192.0.0.192/opc/v2/instance/",
    "http://[fd00:c1::a9fe:a9fe]/",
    "http://169.254.0.23/",
    "http://[FD00:0EC2:0:0::0254]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::a9fe:a9fe]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::169.254.169.254]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://metadata/",
    "http://instance-data.ec2.internal/",
    "http://0xa9fea9fe/",
    "http://2852039166/",
    "http://169.254.43518/",
    "http://0251.0376.0251.0376/",
    "http://user:password@169.254.169.254/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://METADATA.google.internal./",
];

#[test]
fn metadata_services_in_every_spelling_and_whatever_is_listed() {
    let listed = ["*", "169.254.169.254", "169.254.0.0/16", "100.100.100.200", "::/0", "metadata.google.internal"];
    for egress in [Egress::unlimited(), Egress::only(&listed).unwrap()] {
        for url in METADATA_URLS {
            assert!(refused(&egress, url).unwrap().contains("is a metadata service"), "{url}");
        }
        let answer = |address: &str| egress.check_answer("a.test", [address.parse().unwrap()]);
        for address in ["169.254.169.254", "::ffff:100.100.100.200", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"] {
            assert_eq!(answer(address), Err(Refused::Metadata("a.test".into())), "{address}");
        }
    }
}

#[test]
fn without_a_list_everything_else_is_reached() {
    for url in [
        "http://127.0.0.1/",
        "http://169.254.169.253/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[fd00:ec2::253]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254.example.com/",
        "http://example.com/169.254.169.254",
    ] {
        assert_eq!(refused(&Egress::unlimited(), url), None, "{url}");
    }
    assert_eq!(Egress::unlimited().check_answer("a.test", ["127.0.0.1".parse().unwrap()]), Ok(()));
}

#[test]
fn only_what_is_listed_and_only_at_its_ports() {
    let egress = Egress::only(&["api.example.org:443,8443", "*.example.net", "10.0.0.0/8:80", "[fd12::]:80"]).unwrap();
    for url in [
        "https://api.example.org/",
        "https://API.example.org.:8443/",
        "http://a.b.example.net:1/",
        "http://10.1.2.3/",
        "http://0xa010203/",
        "http://[::ffff:10.1.2.3]/",
        "http://[fd12::]/",
    ] {
        assert_eq!(refused(&egress, url), None, "{url}");
    }
    let no_rule = |host: &str| Some(format!("policy: egress: no rule of `allow` has {host}"));
    for (url, host) in [
        ("http://example.org/", "example.org"),
        ("http://example.net/", "example.net"),
        ("http://badexample.net/", "badexample.net"),
        ("http://11.0.0.1/", "11.0.0.1"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://[fd12::1]/", "[fd12::1]"),
    ] {
        assert_eq!(refused(&egress, url), no_rule(host), "{url}");
    }
    let port = "policy: egress: the rule `api.example.org:443,8443` does not have port 80";
    assert_eq!(refused(&egress, "http://api.example.org/").as_deref(), Some(port));
    assert!(refused(&Egress::only::<&str>(&[]).unwrap(), "http://example.org/").is_some());
}

#[test]
fn the_most_specific_rule_decides() {
    let egress = Egress::only(&["*", "*.example.org:1", "api.example.org:2", "10.0.0.0/8:3", "10.1.0.0/16:4"]).unwrap();
    let fine = |url: &str| refused(&egress, url).is_none();
    assert!(fine("http://elsewhere.test:7/") && fine("http://x.example.org:1/") && fine("http://api.example.org:2/"));
    assert!(!fine("http://x.example.org:7/") && !fine("http://api.example.org:1/"));
    assert!(fine("http://10.2.0.1:3/") && fine("http://10.1.0.1:4/") && !fine("http://10.1.0.1:3/"));
}

#[test]
fn this_machine_only_where_it_is_named() {
    let any = Egress::only(&["*"]).unwrap();
    for url in [
        "http://127.0.0.1/",
        "http://127.9.9.9/",
        "http://localhost/",
        "http://x.localhost/",
        "http://0.0.0.0/",
        "http://0/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::7f00:1]/",
        "http://169.254.1.1/",
        "http://[fe80::1]/",
    ] {
        assert!(refused(&any, url).is_some(), "{url}");
    }
    let text = any.check_answer("a.test", ["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()]).unwrap_err();
    assert_eq!(
        text.to_string(),
        "policy: egress: a.test resolves to 127.0.0.1, which is this machine or its neighbourhood"
    );
    let named = Egress::only(&["localhost:3000", "127.0.0.1:3000", "a.test"]).unwrap();
    assert_eq!(refused(&named, "http://localhost:3000/"), None);
    assert_eq!(refused(&named, "http://127.0.0.1:3000/"), None);
    assert!(refused(&named, "http://127.0.0.2:3000/").is_some());
    assert_eq!(named.check_answer("localhost", ["127.0.0.1".parse().unwrap()]), Ok(()));
    assert!(named.check_answer("a.test", ["::1".parse().unwrap()]).is_err());
}

#[test]
fn lists_that_make_no_sense() {
    for bad in [
        "",
        "a.test:",
        "a.test:x",
        "a.test:0",
        "a.test:70000",
        "[::1",
        "[::1]x",
        "10.0.0.0/33",
        "a b",
        "a.*",
        "*.",
        "0x7f000001",
        "http://a",
    ] {
        assert!(Egress::only(&[bad]).is_err(), "{bad}");
    }
    assert!(Egress::only(&["a.test:1", "A.test.:2"]).unwrap_err().contains("second time"));
    assert!(Egress::only(&["::1", "1.2.3.4"]).is_ok());
}
