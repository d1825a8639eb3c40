//! Makes key pairs with openssl and signs tokens with them.

use std::process::{Command, Stdio};
use std::sync::LazyLock;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::Value;
use tempfile::TempDir;

/// The algorithms of a key set that the server supports.
pub const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// A key pair that openssl generated.
pub struct Pair {
    pub algorithm: Algorithm,
    pub private: EncodingKey,
    /// As PEM.
    pub public: String,
}

/// One key pair of each algorithm.
pub static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| ALGORITHMS.map(Pair::make).into());

impl Pair {
    pub fn make(algorithm: Algorithm) -> Self {
        let dir = TempDir::new().unwrap();
        let openssl = |args: &str| {
            let mut command = Command::new("openssl");
            command.args(args.split(' ')).current_dir(dir.path()).stderr(Stdio::null());
            let output = command.output().expect("openssl runs");
            assert!(output.status.success(), "openssl {args}");
            output.stdout
        };
        let kind = match algorithm {
            Algorithm::RS256 => "RSA -pkeyopt rsa_keygen_bits:2048",
            Algorithm::ES256 => "EC -pkeyopt ec_paramgen_curve:P-256",
            _ => "ED25519",
        };
        openssl(&format!("genpkey -algorithm {kind} -out key.pem"));
        let public = String::from_utf8(openssl("pkey -in key.pem -pubout")).unwrap();
        let pkcs8 = "pkcs8 -topk8 -nocrypt -in key.pem -outform DER";
        let private = match algorithm {
            Algorithm::RS256 => {
                EncodingKey::from_rsa_der(&openssl("rsa -in key.pem -traditional -outform DER"))
            }
            Algorithm::ES256 => EncodingKey::from_ec_der(&openssl(pkcs8)),
            _ => EncodingKey::from_ed_der(&openssl(pkcs8)),
        };
        Self { algorithm, private, public }
    }

    pub fn of(algorithm: Algorithm) -> &'static Self {
        PAIRS.iter().find(|pair| pair.algorithm == algorithm).unwrap()
    }

    /// Returns the public key as a JWK with this `kid`.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(kid.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn sign(&self, kid: &str, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(kid.to_owned());
        encode(&header, claims, &self.private).unwrap()
    }
}

/// Returns the `kid` that key sets use for the key of an algorithm.
pub fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}
