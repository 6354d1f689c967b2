package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// verifier checks tokens with the shared secret, or with the keys that BitNexus publishes; never with both for one token.
type verifier struct {
	secret   []byte
	jwksURL  string
	issuer   string
	audience string
	mutex    sync.Mutex
	keys     map[string]any
}

type jwk struct {
	Kid string `json:"kid"`
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	N   string `json:"n"`
	E   string `json:"e"`
}

func newVerifier() *verifier {
	return &verifier{
		secret: []byte(os.Getenv("SECRET")), jwksURL: os.Getenv("JWKS_URL"),
		issuer: os.Getenv("ISSUER"), audience: os.Getenv("AUDIENCE"), keys: map[string]any{},
	}
}

func decode(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func (v *verifier) verify(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a token")
	}
	var header struct{ Alg, Kid string }
	if err := decode(parts[0], &header); err != nil {
		return nil, err
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, err
	}
	if err := v.check(header.Alg, header.Kid, []byte(parts[0]+"."+parts[1]), signature); err != nil {
		return nil, err
	}
	claims := map[string]any{}
	if err := decode(parts[1], &claims); err != nil {
		return nil, err
	}
	return claims, v.claims(claims)
}

func (v *verifier) check(alg, kid string, signed, signature []byte) error {
	switch alg {
	case "HS256":
		if len(v.secret) == 0 {
			return errors.New("no shared secret here")
		}
		mac := hmac.New(sha256.New, v.secret)
		mac.Write(signed)
		if hmac.Equal(mac.Sum(nil), signature) {
			return nil
		}
	case "EdDSA", "RS256":
		key, err := v.key(kid)
		if err != nil {
			return err
		}
		switch key := key.(type) {
		case ed25519.PublicKey:
			if alg == "EdDSA" && ed25519.Verify(key, signed, signature) {
				return nil
			}
		case *rsa.PublicKey:
			digest := sha256.Sum256(signed)
			if alg == "RS256" && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil {
				return nil
			}
		}
	default:
		return fmt.Errorf("algorithm %q is not accepted", alg)
	}
	return errors.New("the signature is wrong")
}

func (v *verifier) claims(claims map[string]any) error {
	now := float64(time.Now().Unix())
	if ends, ok := claims["exp"].(float64); !ok || now >= ends {
		return errors.New("the token has expired")
	}
	if v.issuer != "" && claims["iss"] != v.issuer {
		return errors.New("the issuer is wrong")
	}
	if v.audience != "" && claims["aud"] != v.audience {
		return errors.New("the audience is wrong")
	}
	return nil
}

// key finds a published key; an unknown kid fetches the set anew, which is how a rotation is followed.
func (v *verifier) key(kid string) (any, error) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if key, known := v.keys[kid]; known {
		return key, nil
	}
	if v.jwksURL == "" {
		return nil, errors.New("no key set here")
	}
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(v.jwksURL)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var set struct{ Keys []jwk }
	if err := json.NewDecoder(answer.Body).Decode(&set); err != nil {
		return nil, err
	}
	for _, each := range set.Keys {
		if key, err := each.public(); err == nil {
			v.keys[each.Kid] = key
		}
	}
	if key, known := v.keys[kid]; known {
		return key, nil
	}
	return nil, fmt.Errorf("no key %q is published", kid)
}

func (k jwk) public() (any, error) {
	switch k.Kty {
	case "OKP":
		raw, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Crv != "Ed25519" || len(raw) != ed25519.PublicKeySize {
			return nil, errors.New("not an Ed25519 key")
		}
		return ed25519.PublicKey(raw), nil
	case "RSA":
		n, err := base64.RawURLEncoding.DecodeString(k.N)
		if err != nil {
			return nil, err
		}
		e, err := base64.RawURLEncoding.DecodeString(k.E)
		if err != nil {
			return nil, err
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
	return nil, fmt.Errorf("key type %q is not known", k.Kty)
}
