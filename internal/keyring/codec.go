package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// maxEncoded bounds the encoding, in bytes.
	maxEncoded = 64 << 10
	// maxKeys bounds a ring.
	maxKeys = 8
)

// ErrVersion means that another release wrote the ring. The ring may be valid, and must not be replaced.
var ErrVersion = errors.New("the keyring is of another version")

// Encode writes a ring.
func Encode(r *Ring) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r) //nolint:gosec // it is what the Secret is for
}

// Decode reads a ring and checks it. No error quotes what it read. It is an ErrVersion for a ring of another version.
func Decode(data []byte) (*Ring, error) {
	if len(data) > maxEncoded {
		return nil, fmt.Errorf("the keyring has %d bytes and may have %d", len(data), maxEncoded)
	}
	var r Ring
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&r); err != nil {
		// The decoder's own words may quote what it read, and that may be a secret.
		return nil, errors.New("the keyring is not the JSON that this caly writes")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the keyring has something behind its end")
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &r, nil
}

func (r *Ring) check() error {
	if r.Version != Version {
		return fmt.Errorf(
			"%w: it is %d and this caly reads %d; operator and pods must be of one release",
			ErrVersion,
			r.Version,
			Version,
		)
	}
	if len(r.Secret) != secretSize {
		return fmt.Errorf("the keyring's secret has %d bytes and must have %d", len(r.Secret), secretSize)
	}
	if len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return fmt.Errorf("the keyring has %d keys and must have 1 to %d", len(r.Keys), maxKeys)
	}
	seen := map[string]bool{}
	for i, k := range r.Keys {
		if err := k.check(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if seen[k.ID] {
			return fmt.Errorf("key %d is there twice", i)
		}
		seen[k.ID] = true
	}
	return r.checkOrder()
}

// checkOrder holds that keys sign one after the other, and that none stops to verify before the next one signs.
func (r *Ring) checkOrder() error {
	last := len(r.Keys) - 1
	for i, k := range r.Keys[:last] {
		next := r.Keys[i+1].SignsFrom
		if !k.SignsFrom.Before(next) {
			return fmt.Errorf("key %d signs before the one in front of it", i+1)
		}
		if k.VerifiesUntil.Before(next) {
			return fmt.Errorf("key %d does not verify until the next one signs", i)
		}
	}
	if !r.Keys[last].VerifiesUntil.IsZero() {
		return errors.New("the last key has an end")
	}
	return nil
}

// Years that a time may have: what JSON and the arithmetic of rotation can carry.
const minYear, maxYear = 2000, 9000

func (k Key) check() error {
	if len(k.Seed) != secretSize {
		return fmt.Errorf("its seed has %d bytes and must have %d", len(k.Seed), secretSize)
	}
	if k.ID != keyID(k.Public()) {
		return errors.New("its id is not the one of its public key")
	}
	for _, t := range []time.Time{k.CreatedAt, k.SignsFrom, k.VerifiesUntil} {
		if y := t.UTC().Year(); !t.IsZero() && (y < minYear || y > maxYear) {
			return fmt.Errorf("it has a time in the year %d", y)
		}
	}
	if k.CreatedAt.IsZero() || k.SignsFrom.IsZero() {
		return errors.New("it lacks a time")
	}
	return nil
}
