package tenantconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caly-dev/caly/internal/recording"
)

// maxEncoded bounds a config's encoding, in bytes: a Secret holds at most 1 MiB.
const maxEncoded = 512 << 10

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
		return nil, fmt.Errorf(
			"the compiled config has %d bytes and may have %d: name fewer phone numbers, hosts or signing secrets",
			len(data),
			maxEncoded,
		)
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
	if t.Freshness < minFreshness || t.Freshness > maxFreshness {
		return nil, fmt.Errorf(
			"the config's freshness %s is not between %s and %s", t.Freshness, minFreshness, maxFreshness,
		)
	}
	if err := t.Webhooks.check(); err != nil {
		return nil, err
	}
	capturing := t.Audio != nil && t.Audio.Capture != nil
	switch {
	case t.Auth == nil && !capturing && t.Storage != nil:
		return nil, errors.New("the config has storage without auth or capture, so nobody is to use its credentials")
	case capturing && t.Storage == nil:
		return nil, errors.New("the config has audio to capture and no storage for it")
	}
	if err := errors.Join(t.Auth.Check(), t.Storage.check(), t.Audio.check()); err != nil {
		return nil, err
	}
	return &t, nil
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
	return &u, recording.ParseKeyTemplate(u.KeyTemplate)
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
		return fmt.Errorf(
			"the config has version %d and this caly reads %d: operator and pods must be of one release",
			version,
			Version,
		)
	}
	ns, name, ok := strings.Cut(id, "/")
	if !ok || ns == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("the config's tenant id %q is not namespace/name", id)
	}
	return nil
}
