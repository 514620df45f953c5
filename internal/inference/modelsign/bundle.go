package modelsign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // of P-256
	_ "crypto/sha512" // of P-384 and P-521
	"crypto/x509"
	"encoding/json"
	"strconv"
)

// The parts of a Sigstore bundle and a DSSE envelope that count here.
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		PublicKey *struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		Chain *struct {
			Certificates []struct {
				RawBytes []byte `json:"rawBytes"`
			} `json:"certificates"`
		} `json:"x509CertificateChain"`
		Certificate *json.RawMessage `json:"certificate"`
	} `json:"verificationMaterial"`
	Envelope *struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// maxChain is how many certificates a bundle may have.
const maxChain = 10

// open verifies a bundle and returns what was signed.
func (t *Trust) open(data []byte) ([]byte, error) {
	if len(data) > MaxBytes {
		return nil, problem(CodeInvalid, "it has %d bytes; at most %d are allowed", len(data), MaxBytes)
	}
	var b bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, problem(CodeInvalid, "it is no Sigstore bundle: %.200s", err)
	}
	switch {
	case b.MediaType != "application/vnd.dev.sigstore.bundle.v0.3+json" && b.MediaType != "application/vnd.dev.sigstore.bundle+json;version=0.3":
		return nil, problem(CodeUnsupported, "it must be a Sigstore bundle v0.3, got media type %.80q", b.MediaType)
	case b.Envelope == nil || len(b.Envelope.Signatures) != 1:
		return nil, problem(CodeInvalid, "the bundle must have a DSSE envelope with one signature")
	case b.Envelope.PayloadType != "application/vnd.in-toto+json":
		return nil, problem(CodeUnsupported, "what is signed must be an in-toto statement, got %.80q", b.Envelope.PayloadType)
	}
	message := preAuth(b.Envelope.PayloadType, b.Envelope.Payload)
	sig := b.Envelope.Signatures[0].Sig
	switch {
	case b.Material.Chain != nil:
		leaf, err := t.leaf(&b)
		if err != nil {
			return nil, err
		}
		if !verify(leaf, message, sig) {
			return nil, problem(CodeInvalid, "its certificate's key has not made it, or what was signed has changed since")
		}
	case b.Material.PublicKey != nil:
		if !t.known(message, sig) {
			return nil, problem(CodeUntrusted, "none of the %d trusted keys has made it, or what was signed has changed since; its key's fingerprint is %.80q", len(t.keys), b.Material.PublicKey.Hint)
		}
	case b.Material.Certificate != nil:
		return nil, problem(CodeUnsupported, "keyless signatures of Sigstore are not verified here: sign with a key or a certificate")
	default:
		return nil, problem(CodeInvalid, "the bundle does not say who has made it")
	}
	return b.Envelope.Payload, nil
}

// preAuth is what DSSE signs (DSSE protocol v1.0, "Signature Definition").
func preAuth(payloadType string, payload []byte) []byte {
	b := []byte("DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " ")
	return append(b, payload...)
}

// known reports whether a trusted key has made the signature.
func (t *Trust) known(message, sig []byte) bool {
	for _, key := range t.keys {
		if verify(key, message, sig) {
			return true
		}
	}
	return false
}

// leaf returns the key of the bundle's certificate, which an authority that is
// trusted must have issued for signing code.
func (t *Trust) leaf(b *bundle) (*ecdsa.PublicKey, error) {
	chain := b.Material.Chain.Certificates
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, problem(CodeInvalid, "its chain must have 1 to %d certificates, got %d", maxChain, len(chain))
	}
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for i := range chain {
		c, err := x509.ParseCertificate(chain[i].RawBytes)
		if err != nil {
			return nil, problem(CodeInvalid, "certificate %d of its chain cannot be read", i)
		}
		if i == 0 {
			leaf = c
		} else {
			between.AddCert(c)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: between, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		return nil, problem(CodeUntrusted, "its certificate of %.80q is not trusted: %.200s", leaf.Subject.CommonName, err)
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, problem(CodeUntrusted, "its certificate of %.80q is not for signatures", leaf.Subject.CommonName)
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, problem(CodeUnsupported, "its certificate's key must be one on P-256, P-384 or P-521")
	}
	return key, nil
}

// digestOf returns what a key's signatures are made of.
func digestOf(key *ecdsa.PublicKey) (crypto.Hash, bool) {
	if key == nil {
		return 0, false
	}
	switch key.Curve {
	case elliptic.P256():
		return crypto.SHA256, true
	case elliptic.P384():
		return crypto.SHA384, true
	case elliptic.P521():
		return crypto.SHA512, true
	}
	return 0, false
}

func verify(key *ecdsa.PublicKey, message, sig []byte) bool {
	hash, known := digestOf(key)
	if !known {
		return false
	}
	h := hash.New()
	h.Write(message)
	return ecdsa.VerifyASN1(key, h.Sum(nil), sig)
}
