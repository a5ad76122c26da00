//! A listener with TLS and passwords beside the plain one, and rights that are checked.

use std::path::{Path, PathBuf};
use std::process::Command;

const STORE_PASSWORD: &str = "of-a-throw-away-key";

/// A user that may do everything, and its password.
pub const OPERATOR: (&str, &str) = ("operator", "the-operators-password");
/// A user that may do nothing, and its password.
pub const STRANGER: (&str, &str) = ("stranger", "the-strangers-password");

fn store(cluster: &Path) -> PathBuf {
    cluster.join("key.p12")
}

/// The certificate that clients are to trust.
pub(super) fn certificate(cluster: &Path) -> PathBuf {
    cluster.join("ca.pem")
}

/// Makes a key and its certificate by Java's own tool.
pub(super) fn make_key(cluster: &Path) {
    let keytool = |arguments: &[&str]| {
        let output = Command::new("keytool")
            .args(arguments)
            .arg("-keystore")
            .arg(store(cluster))
            .args(["-storepass", STORE_PASSWORD, "-alias", "kafka"])
            .output()
            .unwrap();
        assert!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&output.stdout));
    };
    let extension = "san=ip:127.0.0.1,dns:localhost";
    keytool(&["-genkeypair", "-keyalg", "EC", "-dname", "CN=localhost", "-ext", extension, "-storetype", "PKCS12"]);
    keytool(&["-exportcert", "-rfc", "-file", &certificate(cluster).display().to_string()]);
}

/// The part of a node's configuration; without a name (the plain listener) everything is allowed.
pub(super) fn properties(cluster: &Path) -> String {
    let ((operator, password), (stranger, other)) = (OPERATOR, STRANGER);
    let store = store(cluster);
    format!(
        "sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
         required user_{operator}=\"{password}\" user_{stranger}=\"{other}\";\n\
         ssl.keystore.type=PKCS12\n\
         ssl.keystore.location={}\n\
         ssl.keystore.password={STORE_PASSWORD}\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:{operator}\n",
        store.display()
    )
}
