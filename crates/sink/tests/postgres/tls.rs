//! Who gets to see the password: servers with and without TLS, with certificates of others, and ones that lie.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread::JoinHandle;

use e2e::postgres::Server;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};
use sink::writers::postgres::connection::{DatabaseConfig, sentence};

const PASSWORD: &str = "planted-password";

/// A server that offers no TLS, asks for the password in clear, and gives what it was sent.
fn rogue() -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut bytes) {
            heard.extend(&bytes[..count]);
            let is_tls_request = bytes[..count].ends_with(&80_877_103_i32.to_be_bytes());
            let answer: &[u8] = if is_tls_request { b"N" } else { &[b'R', 0, 0, 0, 8, 0, 0, 0, 3] };
            if socket.write_all(answer).is_err() || contains(&heard, PASSWORD) {
                break;
            }
        }
        heard
    });
    (address, heard)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn config(url: &str, authorities: Option<PathBuf>) -> DatabaseConfig {
    DatabaseConfig {
        database_url: Some(url.to_owned().into()),
        database_ca_file: authorities,
        ..DatabaseConfig::default()
    }
}

fn connect(url: &str, authorities: Option<PathBuf>) -> Result<(), String> {
    let target = config(url, authorities).target().unwrap();
    target.connect().map(drop).map_err(|error| sentence(&error))
}

#[test]
fn a_server_without_tls_gets_no_password_unless_the_address_says_so() {
    for (mode, gets_it) in
        [("", false), ("sslmode=require", false), ("sslmode=verify-full", false), ("sslmode=prefer", true)]
    {
        let (address, heard) = rogue();
        let port = address.port();
        let url = format!("host=db.example hostaddr=127.0.0.1 port={port} user=u password={PASSWORD} dbname=d {mode}");
        assert!(connect(&url, None).is_err());
        assert_eq!(contains(&heard.join().unwrap(), PASSWORD), gets_it, "{mode}");
    }
    let refused = config("postgres://u:geheim@db/d?sslmode=allow", None).target().unwrap_err().to_string();
    assert!(refused.contains("WIKI_DATABASE_URL") && refused.contains("verify-full"), "{refused}");
    assert!(!refused.contains("geheim"), "{refused}");
}

struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

fn builder(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder
}

impl Authority {
    fn new() -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = builder("authority", &key);
        let mut issuer = X509NameBuilder::new().unwrap();
        issuer.append_entry_by_text("CN", "authority").unwrap();
        builder.set_issuer_name(&issuer.build()).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    /// A key and a certificate for this host, as PEM.
    fn vouch_for(&self, host: &str) -> (Vec<u8>, Vec<u8>) {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = builder("server", &key);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        let names =
            SubjectAlternativeName::new().dns(host).build(&builder.x509v3_context(Some(&self.certificate), None));
        builder.append_extension(names.unwrap()).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        (key.private_key_to_pem_pkcs8().unwrap(), builder.build().to_pem().unwrap())
    }

    fn file(&self, folder: &tempfile::TempDir, name: &str) -> Option<PathBuf> {
        let file = folder.path().join(name);
        std::fs::write(&file, self.certificate.to_pem().unwrap()).unwrap();
        Some(file)
    }
}

#[test]
fn certificates_are_checked_for_their_signature_and_for_their_host() {
    let (ours, others) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let (ours_file, others_file) = (ours.file(&folder, "ours"), others.file(&folder, "others"));
    let (key, certificate) = ours.vouch_for("db.example");
    let mut server = Server::make();
    server.use_tls(&key, &certificate);
    let port = server.address().port();
    let url = |host: &str, mode: &str| {
        format!("host={host} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {mode}")
    };
    for mode in ["", "sslmode=require", "sslmode=verify-full", "sslmode=verify-ca"] {
        connect(&url("db.example", mode), ours_file.clone()).unwrap();
        for authorities in [others_file.clone(), None] {
            let said = connect(&url("db.example", mode), authorities).unwrap_err();
            assert!(said.contains("certificate verify failed"), "{mode}: {said}");
        }
        let other_host = connect(&url("other.example", mode), ours_file.clone());
        assert_eq!(other_host.is_ok(), mode == "sslmode=verify-ca", "{mode}: {other_host:?}");
    }
}
