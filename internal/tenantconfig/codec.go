package tenantconfig

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxEncoded bounds a config's encoding, in bytes: a Secret holds at most 1 MiB.
const maxEncoded = 512 << 10

// MinSecretLength of a webhook's signing secret, in bytes.
const MinSecretLength = 16

// EncodeTenant writes a tenant config.
func EncodeTenant(t Tenant) ([]byte, error) { return encode(t) }

// EncodeUpload writes an upload config.
func EncodeUpload(u Upload) ([]byte, error) { return encode(u) }

func encode(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode config: %w", err)
	}
	if len(data) > maxEncoded {
		return nil, fmt.Errorf("the compiled config has %d bytes and may have %d: name fewer phone numbers, hosts or signing secrets", len(data), maxEncoded)
	}
	return data, nil
}

// DecodeTenant reads a tenant config and checks it.
func DecodeTenant(data []byte) (*Tenant, error) {
	var t Tenant
	if err := decode(data, &t); err != nil {
		return nil, err
	}
	if err := checkHead(t.Version, t.ID); err != nil {
		return nil, err
	}
	return &t, t.Signature.check()
}

func (s *Signature) check() error {
	if s == nil {
		return nil
	}
	if s.Scheme != SchemeHMACSHA1 {
		return fmt.Errorf("the signature's scheme %q is none that this caly verifies", s.Scheme)
	}
	for i, secret := range s.Secrets {
		if len(secret) < MinSecretLength {
			return fmt.Errorf("signing secret %d is shorter than %d bytes", i, MinSecretLength)
		}
	}
	return nil
}

// DecodeUpload reads an upload config and checks it.
func DecodeUpload(data []byte) (*Upload, error) {
	var u Upload
	if err := decode(data, &u); err != nil {
		return nil, err
	}
	if err := checkHead(u.Version, u.ID); err != nil {
		return nil, err
	}
	if u.Bucket == "" || u.Endpoint == "" || u.DatabaseURL == "" {
		return nil, errors.New("the config lacks bucket, endpoint or databaseURL")
	}
	return &u, ParseKeyTemplate(u.KeyTemplate)
}

func decode(data []byte, v any) error {
	if len(data) > maxEncoded {
		return fmt.Errorf("the config has %d bytes and may have %d", len(data), maxEncoded)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(v); err != nil {
		// The decoder's own words may quote what it read, and that may be a secret.
		return errors.New("the config is not the JSON that this caly writes")
	}
	return nil
}

func checkHead(version int, id string) error {
	if version != Version {
		return fmt.Errorf("the config has version %d and this caly reads %d: operator and pods must be of one release", version, Version)
	}
	ns, name, ok := strings.Cut(id, "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("the config's tenant id %q is not namespace/name", id)
	}
	return nil
}

// Digest identifies a config without telling a secret of it: 32 hex digits, equal for equal configs. Secrets go in as
// their own digests under a fixed label, and a signing secret has at least 16 bytes, too many to guess from it.
func (t Tenant) Digest() string {
	clone := t
	if t.Signature != nil {
		sig := *t.Signature
		sig.Secrets = nil
		for _, s := range t.Signature.Secrets {
			sum := sha256.Sum256([]byte("caly digest\x00" + t.ID + "\x00" + s.Reveal()))
			sig.Secrets = append(sig.Secrets, Sensitive(hex.EncodeToString(sum[:])))
		}
		clone.Signature = &sig
	}
	data, err := json.Marshal(clone)
	if err != nil {
		return "" // unreachable: the type holds nothing that cannot be encoded
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}
