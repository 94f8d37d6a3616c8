//! The signatures of access tokens by `ring`, as the token library wants them. Ours are Ed25519;
//! those of external issuers may be others, and never one with a shared secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as ring_signature;
use ring::signature::{
    Ed25519KeyPair, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// What external issuers may sign with.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::EdDSA,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the token library use this file. Idempotent.
pub(super) fn install() {
    // Fails only if it is installed already.
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let pair =
        Ed25519KeyPair::from_pkcs8(key.as_bytes()).map_err(|_| ErrorKind::InvalidKeyFormat)?;
    Ok(Box::new(Ed25519Signer(pair)))
}

struct Ed25519Signer(Ed25519KeyPair);

impl Signer<Vec<u8>> for Ed25519Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

/// How a signature is verified, by the shape of its key.
#[derive(Clone, Copy)]
enum Method {
    Point(&'static dyn VerificationAlgorithm, AlgorithmFamily),
    Rsa(&'static RsaParameters),
}

fn method(algorithm: Algorithm) -> Option<Method> {
    use AlgorithmFamily::{Ec, Ed};
    Some(match algorithm {
        Algorithm::EdDSA => Method::Point(&ring_signature::ED25519, Ed),
        Algorithm::ES256 => Method::Point(&ring_signature::ECDSA_P256_SHA256_FIXED, Ec),
        Algorithm::ES384 => Method::Point(&ring_signature::ECDSA_P384_SHA384_FIXED, Ec),
        Algorithm::RS256 => Method::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Method::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Method::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Method::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Method::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Method::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        _ => return None,
    })
}

/// A key verifies only what it was made for: the bytes of a public key are nobody's shared secret.
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let method = method(*algorithm).ok_or(ErrorKind::InvalidAlgorithm)?;
    let key = match (method, key.kind()) {
        (Method::Point(by, family), DecodingKeyKind::SecretOrDer(point))
            if family == key.family() =>
        {
            Key::Point(UnparsedPublicKey::new(by, point.clone()))
        }
        (Method::Rsa(by), DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let (n, e) = (n.clone(), e.clone());
            Key::Rsa(by, RsaPublicKeyComponents { n, e })
        }
        _ => return Err(ErrorKind::InvalidKeyFormat.into()),
    };
    Ok(Box::new(KeyVerifier {
        algorithm: *algorithm,
        key,
    }))
}

enum Key {
    Point(UnparsedPublicKey<Vec<u8>>),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
}

struct KeyVerifier {
    algorithm: Algorithm,
    key: Key,
}

impl Verifier<Vec<u8>> for KeyVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match &self.key {
            Key::Point(key) => key.verify(message, signature),
            Key::Rsa(by, key) => key.verify(by, message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for KeyVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
