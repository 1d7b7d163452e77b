package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/store"
)

var sealKey = bytes.Repeat([]byte{7}, KeySize)

func TestSealed(t *testing.T) {
	for name, m := range examples {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			row, err := Seal(sealKey, "acme/support", m, "event", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if ttl := row.ExpiresAt.Sub(before); ttl < time.Minute || ttl > time.Minute+10*time.Second {
				t.Errorf("expires in %s, want a minute", ttl)
			}
			got, err := Unseal(sealKey, "acme/support", row)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, secret := range []string{m.Data.Code.Reveal(), m.Data.Link.Reveal()} {
				if secret != "" && strings.Contains(fmt.Sprintf("%s %v %+v %#v", row.Sealed, m, m, m), secret) {
					t.Error("a secret is in the row, or is printed")
				}
			}
			other, err := Seal(sealKey, "acme/support", m, "event", time.Minute)
			if err != nil || bytes.Equal(other.Sealed, row.Sealed) {
				t.Errorf("sealed twice alike (%v): the nonce repeats", err)
			}
		})
	}
}

// TestDecoyLooksAlike verifies that the row of a decoy is as long as the row of the mail that it replaces.
func TestDecoyLooksAlike(t *testing.T) {
	decoy, err := Seal(sealKey, "acme/support", Message{Template: None, To: "ann@example.com"}, "event", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	real, err := Seal(sealKey, "acme/support", examples["reset_password"], "event", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(decoy.Sealed) != len(real.Sealed) {
		t.Errorf("%d and %d bytes", len(decoy.Sealed), len(real.Sealed))
	}
}

func TestUnsealRefuses(t *testing.T) {
	const tenant = "acme/support"
	for name, c := range map[string]struct {
		change func(key []byte, row *store.OutboxMail) ([]byte, string)
		want   error
	}{
		"another key": {
			func(_ []byte, _ *store.OutboxMail) ([]byte, string) { return bytes.Repeat([]byte{8}, KeySize), tenant },
			errUnseal,
		},
		"another tenant": {func(k []byte, _ *store.OutboxMail) ([]byte, string) { return k, "acme/sales" }, errUnseal},
		"another event": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.EventKey = "other"; return k, tenant },
			errUnseal,
		},
		"another recipient": {func(k []byte, r *store.OutboxMail) ([]byte, string) {
			r.Recipient = "eve@example.com"
			return k, tenant
		}, errUnseal},
		"another template": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.Template = "invitation"; return k, tenant },
			errUnseal,
		},
		"a changed byte": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.Sealed[len(r.Sealed)-1] ^= 1; return k, tenant },
			errUnseal,
		},
		"a changed nonce": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.Sealed[0] ^= 1; return k, tenant },
			errUnseal,
		},
		"cut off": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.Sealed = r.Sealed[:11]; return k, tenant },
			errUnseal,
		},
		"emptied": {
			func(k []byte, r *store.OutboxMail) ([]byte, string) { r.Sealed = nil; return k, tenant },
			errUnseal,
		},
		"no key yet": {func([]byte, *store.OutboxMail) ([]byte, string) { return nil, tenant }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			row, err := Seal(sealKey, tenant, examples["verify_email"], "event", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			key, from := c.change(sealKey, &row)
			message, err := Unseal(key, from, row)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) || message.Data.Code != "" {
				t.Errorf("%+v, %v; want %v", message, err, c.want)
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		key  []byte
		m    Message
		want string
	}{
		"no key":              {nil, examples["verify_email"], "has 0 bytes and must have 32"},
		"what cannot be sent": {sealKey, Message{Template: VerifyEmail, To: "ann@example.com"}, "needs Code"},
		"an address of two":   {sealKey, Message{Template: None, To: "a@b.c, d@e.f"}, "not a bare email address"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Seal(c.key, "acme/support", c.m, "event", time.Minute); err == nil ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

// FuzzUnseal verifies that Unseal reads no bytes but those of Seal, and does not panic.
func FuzzUnseal(f *testing.F) {
	row, err := Seal(sealKey, "acme/support", examples["verify_email"], "event", time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row.Sealed)
	f.Add([]byte(nil))
	f.Add(row.Sealed[:20])
	f.Fuzz(func(t *testing.T, sealed []byte) {
		outboxMail := row
		outboxMail.Sealed = sealed
		message, err := Unseal(sealKey, "acme/support", outboxMail)
		if bytes.Equal(sealed, row.Sealed) && err != nil {
			t.Fatal(err)
		}
		if err == nil && message != examples["verify_email"] { // another process of the fuzzer seals under the same key
			t.Fatalf("%+v was read from %x", message, sealed)
		}
	})
}
